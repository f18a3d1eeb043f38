//! ResourceQuotas: what is created is booked at once, what goes is given back.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn is_used(api: &Api, quota: &str, expected: &Value) -> bool {
    let used = api.get(&format!("{QUOTAS}/{quota}")).await["status"]["used"].clone();
    expected.as_object().unwrap().iter().all(|(name, amount)| used[name] == *amount)
}

/// Waits until a quota says what is used, among other things.
async fn used(api: &Api, quota: &str, expected: Value) {
    eventually(&format!("{quota} uses {expected}"), async || is_used(api, quota, &expected).await).await;
}

/// Creates a quota and waits until it has been counted.
async fn quota(api: &Api, name: &str, spec: Value) -> Value {
    api.create(QUOTAS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    let path = format!("{QUOTAS}/{name}");
    let names =
        |tree: &Value| -> Vec<String> { tree.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect() };
    eventually("the quota is counted", async || {
        let quota = api.get(&path).await;
        quota["status"]["hard"] == spec["hard"] && names(&quota["status"]["used"]) == names(&spec["hard"])
    })
    .await;
    api.get(&path).await["status"]["used"].clone()
}

fn amount(used: &Value, name: &str) -> u32 {
    used[name].as_str().unwrap().parse().unwrap()
}

/// Follows an object of `collection`, counted by `name`, through its life.
async fn follow_life(collection: &str, name: &str, object: Value) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    // A new cluster's own objects must not be counted in between.
    eventually("the namespace has its root certificate", async || {
        api.find("/api/v1/namespaces/default/configmaps/kube-root-ca.crt").await.is_some()
    })
    .await;
    let before = amount(&quota(&api, "q", json!({"hard": {name: "50"}})).await, name);
    api.create(collection, &object).await;
    // Admission books before it answers.
    assert!(is_used(&api, "q", &json!({name: (before + 1).to_string()})).await);
    api.delete(&format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap()), "Background").await;
    used(&api, "q", json!({name: before.to_string()})).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_counted_promptly() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let hard = json!({"cpu": "1", "memory": "500Mi", "requests.storage": "10Gi", "resourcequotas": "1",
        "count/replicasets.apps": "5", "services.loadbalancers": "1", "requests.example.com/gpu": "3",
        "gold.storageclass.storage.k8s.io/requests.storage": "10Gi"});
    let used = quota(&api, "q", json!({"hard": hard})).await;
    let zero = hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0")));
    let mut expected: Value = zero.collect();
    expected["resourcequotas"] = json!("1");
    assert_eq!(used, expected);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_is_counted_while_it_is_there() {
    let collection = "/api/v1/namespaces/default/configmaps";
    follow_life(collection, "configmaps", json!({"metadata": {"name": "c"}, "data": {"a": "b"}})).await;
}

/// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_counted_while_it_is_there() {
    let collection = "/api/v1/namespaces/default/secrets";
    follow_life(collection, "secrets", json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}})).await;
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}})
}

/// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_replication_controller_is_counted_while_it_is_there() {
    let spec = json!({"replicas": 0, "selector": {"app": "web"}, "template": template()});
    let collection = "/api/v1/namespaces/default/replicationcontrollers";
    follow_life(collection, "replicationcontrollers", json!({"metadata": {"name": "rc"}, "spec": spec})).await;
}

/// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_is_counted_while_it_is_there() {
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template()});
    let collection = "/apis/apps/v1/namespaces/default/replicasets";
    follow_life(collection, "count/replicasets.apps", json!({"metadata": {"name": "rs"}, "spec": spec})).await;
}

fn service(name: &str, kind: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": kind, "selector": {"app": "web"}, "ports": [{"port": 80}]}})
}

/// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn services_are_counted_by_their_type() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let hard = json!({"services": "50", "services.nodeports": "1", "services.loadbalancers": "1"});
    let before = amount(&quota(&api, "q", json!({"hard": hard})).await, "services");
    let counts = |services: u32, ports: &str| json!({"services": (before + services).to_string(), "services.nodeports": ports, "services.loadbalancers": "0"});
    api.create(SERVICES, &service("plain", "ClusterIP")).await;
    api.create(SERVICES, &service("ports", "NodePort")).await;
    assert!(is_used(&api, "q", &counts(2, "1")).await);
    assert_eq!(api.refused(SERVICES, &service("balanced", "LoadBalancer")).await, 403);
    used(&api, "q", counts(2, "1")).await;
    // A service that becomes another is charged for that, and gives back what it no longer has.
    let path = format!("{SERVICES}/plain");
    let node_port = json!({"spec": {"type": "NodePort"}});
    assert_eq!(api.merge_refused(&path, &node_port).await, 403);
    api.merge(&format!("{SERVICES}/ports"), &json!({"spec": {"type": "ClusterIP"}})).await;
    used(&api, "q", counts(2, "0")).await;
    api.merge(&path, &node_port).await;
    assert!(is_used(&api, "q", &counts(2, "1")).await);
    for name in ["plain", "ports"] {
        api.delete(&format!("{SERVICES}/{name}"), "Background").await;
    }
    used(&api, "q", counts(0, "0")).await;
    cluster.stop().await.unwrap();
}

fn pod(name: &str, requests: &Value, deadline: Option<u32>) -> Value {
    let container = json!({"name": "c", "image": "web:1", "resources": {"requests": requests, "limits": requests}});
    json!({"metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": deadline, "containers": [container]}})
}

/// Conformance: [sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_charged_for_what_it_asks_for() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let hard = json!({"pods": "5", "cpu": "1", "memory": "500Mi", "requests.ephemeral-storage": "50Gi",
        "requests.example.com/gpu": "3"});
    quota(&api, "q", json!({"hard": hard})).await;
    let asks = |cpu: &str, gpus: &str| json!({"cpu": cpu, "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/gpu": gpus});
    api.create(PODS, &pod("fits", &asks("500m", "2"), None)).await;
    let booked = json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "requests.ephemeral-storage": "30Gi",
        "requests.example.com/gpu": "2"});
    assert!(is_used(&api, "q", &booked).await);
    assert_eq!(api.refused(PODS, &pod("large", &asks("600m", "0"), None)).await, 403);
    assert_eq!(api.refused(PODS, &pod("gpus", &asks("100m", "2"), None)).await, 403);
    let resources = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]}});
    assert_eq!(api.merge_refused(&format!("{PODS}/fits"), &resources).await, 422, "only by its own subresource");
    used(&api, "q", booked).await;
    api.delete(&format!("{PODS}/fits"), "Background").await;
    used(&api, "q", json!({"pods": "0", "cpu": "0", "memory": "0", "requests.example.com/gpu": "0"})).await;
    cluster.stop().await.unwrap();
}

/// Two quotas with opposite scopes, and a pod in each.
async fn check_scopes(scopes: [&str; 2], hard: Value, pods: [Value; 2], booked: [Value; 2]) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let names = ["one", "other"];
    for (name, scope) in names.iter().zip(scopes) {
        let hard = if scope == "BestEffort" { json!({"pods": "5"}) } else { hard.clone() };
        quota(&api, name, json!({"hard": hard, "scopes": [scope]})).await;
    }
    for ((at, pod), booked) in pods.iter().enumerate().zip(booked) {
        api.create(PODS, pod).await;
        assert!(is_used(&api, names[at], &booked).await, "{booked}");
        assert!(is_used(&api, names[1 - at], &json!({"pods": "0"})).await);
        api.delete(&format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap()), "Background").await;
        used(&api, names[at], json!({"pods": "0"})).await;
    }
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn quotas_count_pods_by_their_quality_of_service() {
    let pods = [pod("best-effort", &json!({}), None), pod("asks", &json!({"cpu": "500m"}), None)];
    let booked = [json!({"pods": "1"}), json!({"pods": "1"})];
    check_scopes(["BestEffort", "NotBestEffort"], json!({"pods": "5"}), pods, booked).await;
}

/// Conformance: [sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn quotas_count_pods_by_their_deadline() {
    let asks = json!({"cpu": "500m", "memory": "200Mi"});
    let pods = [pod("endless", &asks, None), pod("limited", &asks, Some(3600))];
    let booked = json!({"pods": "1", "requests.cpu": "500m", "limits.memory": "200Mi"});
    let hard = json!({"pods": "5", "requests.cpu": "1", "limits.memory": "500Mi"});
    check_scopes(["NotTerminating", "Terminating"], hard, pods, [booked.clone(), booked]).await;
}

/// A pod that gets a deadline goes over to the quota of those that have one.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_changes_its_scope_changes_its_quota() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    for (name, scope) in [("endless", "NotTerminating"), ("limited", "Terminating")] {
        quota(&api, name, json!({"hard": {"pods": "5"}, "scopes": [scope]})).await;
    }
    api.create(PODS, &pod("p", &json!({}), None)).await;
    assert!(is_used(&api, "endless", &json!({"pods": "1"})).await);
    api.merge(&format!("{PODS}/p"), &json!({"spec": {"activeDeadlineSeconds": 3600}})).await;
    used(&api, "endless", json!({"pods": "0"})).await;
    used(&api, "limited", json!({"pods": "1"})).await;
    cluster.stop().await.unwrap();
}

/// Custom resources are counted once they are served.
#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_are_counted_as_soon_as_they_are_served() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    const NAME: &str = "count/widgets.example.com";
    api.create(QUOTAS, &json!({"metadata": {"name": "q"}, "spec": {"hard": {NAME: "1"}}})).await;
    eventually("the limit is taken up", async || api.get(&format!("{QUOTAS}/q")).await["status"]["hard"][NAME] == "1")
        .await;
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    used(&api, "q", json!({NAME: "0"})).await;
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let widget = |name: &str| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}});
    api.create(widgets, &widget("one")).await;
    assert_eq!(api.refused(widgets, &widget("two")).await, 403);
    api.delete(&format!("{widgets}/one"), "Background").await;
    used(&api, "q", json!({NAME: "0"})).await;
    api.create(widgets, &widget("two")).await;
    cluster.stop().await.unwrap();
}
