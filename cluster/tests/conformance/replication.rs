//! ReplicationControllers.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};
use crate::kubectl::Shell;

const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";
const PODS: &str = "/api/v1/namespaces/default/pods";
const RC: &str = "/api/v1/namespaces/default/replicationcontrollers/rc";

fn controller(replicas: u32) -> Value {
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "web:1"}]});
    json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "rc", "labels": {"app": "web"}},
        "spec": {"replicas": replicas, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec}}})
}

async fn pods(api: &Api) -> Vec<Value> {
    let mut pods = api.items(&format!("{PODS}?labelSelector=app%3Dweb")).await;
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    pods
}

fn is_owned(pod: &Value) -> bool {
    pod["metadata"]["ownerReferences"][0]["name"] == "rc" && pod["metadata"]["ownerReferences"][0]["controller"] == true
}

/// Waits until the controller has as many pods, all available.
async fn has(api: &Api, replicas: u32) {
    eventually(&format!("{replicas} pods are available"), async || {
        let rc = api.get(RC).await;
        let count = |field: &str| rc["status"][field].as_u64().unwrap_or(0) == u64::from(replicas);
        rc["status"]["observedGeneration"] == rc["metadata"]["generation"]
            && count("replicas")
            && count("availableReplicas")
            && pods(api).await.len() == replicas as usize
    })
    .await;
}

/// Conformance: [sig-cli] Kubectl client Update Demo should create and stop a replication controller [Conformance]
/// Conformance: [sig-cli] Kubectl client Update Demo should scale a replication controller [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_creates_scales_and_stops_a_replication_controller() {
    let Some(shell) = Shell::start().await else { return };
    let api = shell.api();
    shell.kubectl_with(&["create", "-f", "-"], &controller(2).to_string()).await.ok();
    has(&api, 2).await;
    for replicas in [1, 2] {
        shell.kubectl(&["scale", "rc", "rc", &format!("--replicas={replicas}"), "--timeout=1m"]).await.ok();
        has(&api, replicas).await;
        let names = shell.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).await.ok();
        assert_eq!(names.lines().count(), replicas as usize, "{names}");
    }
    shell.kubectl_with(&["delete", "--grace-period=0", "--force", "-f", "-"], &controller(2).to_string()).await.ok();
    eventually("the pods go, too", async || pods(&api).await.is_empty()).await;
    assert!(shell.kubectl(&["get", "rc", "-o", "name"]).await.ok().is_empty());
}

/// Conformance: [sig-apps] ReplicationController should adopt matching pods on creation [Conformance]
/// Conformance: [sig-apps] ReplicationController should release no longer matching pods [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_adopted_and_released_by_their_labels() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let mut orphan = controller(1)["spec"]["template"].clone();
    orphan["metadata"]["name"] = json!("orphan");
    api.create(PODS, &orphan).await;
    eventually("the orphan runs", async || api.get(&format!("{PODS}/orphan")).await["status"]["phase"] == "Running")
        .await;
    api.create(CONTROLLERS, &controller(1)).await;
    eventually("the orphan or another is owned", async || {
        let pods = pods(&api).await;
        pods.len() == 1 && is_owned(&pods[0])
    })
    .await;
    has(&api, 1).await;
    let path = format!("{PODS}/{}", pods(&api).await[0]["metadata"]["name"].as_str().unwrap());
    api.merge(&path, &json!({"metadata": {"labels": {"app": "mine"}}})).await;
    eventually("the pod is released", async || {
        api.get(&path).await["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)
    })
    .await;
    has(&api, 1).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota [Conformance]
/// Conformance: [sig-apps] ReplicationController should get and update a ReplicationController scale [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_exceeded_shows_as_a_condition() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    api.create(quotas, &json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}})).await;
    eventually("the quota is counted", async || api.get(&format!("{quotas}/q")).await["status"]["used"]["pods"] == "0")
        .await;
    api.create(CONTROLLERS, &controller(3)).await;
    let failure = async || api.get(RC).await["status"]["conditions"][0].clone();
    eventually("the failure shows", async || {
        let condition = failure().await;
        condition["type"] == "ReplicaFailure" && condition["reason"] == "FailedCreate"
    })
    .await;
    let message = failure().await["message"].as_str().unwrap().to_owned();
    assert!(message.contains("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"), "{message}");
    let scale = api.merge(&format!("{RC}/scale"), &json!({"spec": {"replicas": 2}})).await;
    assert_eq!(scale["spec"]["replicas"], 2);
    eventually("the failure goes", async || failure().await.is_null()).await;
    has(&api, 2).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-apps] ReplicationController should test the lifecycle of a ReplicationController [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_replication_controller_lives_and_dies() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let selected = "labelSelector=app%3Dweb";
    let mut events = api.watch(&format!("{CONTROLLERS}?{selected}")).await;
    api.create(CONTROLLERS, &controller(1)).await;
    events.until("ADDED", |rc| rc["metadata"]["name"] == "rc").await;
    let counts = |rc: &Value, all: u32, ready: u32| {
        let count = |field: &str| rc["status"][field].as_u64().unwrap_or(0);
        count("replicas") == u64::from(all) && count("readyReplicas") == u64::from(ready)
    };
    events.until("MODIFIED", |rc| counts(rc, 1, 1)).await;
    let labelled = api.strategic(RC, &json!({"metadata": {"labels": {"test": "patched"}}})).await;
    assert_eq!(labelled["metadata"]["labels"]["test"], "patched");
    events.until("MODIFIED", |rc| rc["metadata"]["labels"]["test"] == "patched").await;
    let patch = json!({"status": {"readyReplicas": 0, "availableReplicas": 0}});
    let patched = api.strategic(&format!("{RC}/status"), &patch).await;
    assert!(counts(&patched, 1, 0), "{patched}");
    events.until("MODIFIED", |rc| counts(rc, 1, 0)).await;
    // What is not so is put right.
    events.until("MODIFIED", |rc| counts(rc, 1, 1)).await;
    assert_eq!(api.get(&format!("{RC}/status")).await["status"]["replicas"], 1);
    let scale = json!({"metadata": {}, "spec": {"replicas": 2}, "status": {"replicas": 0}});
    api.strategic(&format!("{RC}/scale"), &scale).await;
    events.until("MODIFIED", |rc| counts(rc, 2, 2)).await;
    let fewer = |rc: &mut Value| {
        rc["status"]["readyReplicas"] = json!(1);
        rc["status"]["availableReplicas"] = json!(1);
    };
    let updated = api.update(&format!("{RC}/status"), fewer).await;
    assert!(counts(&updated, 2, 1), "{updated}");
    events.until("MODIFIED", |rc| counts(rc, 2, 1)).await;
    let everywhere = api.items(&format!("/api/v1/replicationcontrollers?{selected}")).await;
    assert_eq!(everywhere.len(), 1);
    assert_eq!(everywhere[0]["metadata"]["labels"]["test"], "patched");
    api.delete_collection(&format!("{CONTROLLERS}?{selected}")).await;
    events.until("DELETED", |rc| rc["metadata"]["name"] == "rc").await;
    // Unless one asks otherwise, a controller of v1 leaves its pods behind.
    eventually("the pods are orphans", async || pods(&api).await.iter().filter(|pod| !is_owned(pod)).count() == 2)
        .await;
    cluster.stop().await.unwrap();
}
