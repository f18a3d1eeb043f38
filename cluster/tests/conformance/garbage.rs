//! The garbage collector. The ReplicationControllers here only own pods, which the test makes.

use cluster::TestCluster;
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "gc"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i"}]}})
}

async fn controller(api: &Api, name: &str) -> Value {
    // One that asks for no pods of its own, so that nobody but the test makes or deletes any.
    let spec = json!({"replicas": 0, "selector": {"rc": name}, "template": {"metadata": {"labels": {"rc": name}},
        "spec": template()["spec"]}});
    api.create(CONTROLLERS, &json!({"metadata": {"name": name}, "spec": spec})).await
}

fn owner(of: &Value, kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": of["metadata"]["name"], "uid": of["metadata"]["uid"],
        "blockOwnerDeletion": true})
}

async fn pod(api: &Api, name: &str, owners: &[Value]) -> Value {
    let mut pod = template();
    pod["metadata"] = json!({"name": name, "labels": {"app": "gc"}, "ownerReferences": owners});
    api.create(PODS, &pod).await
}

/// Waits until the collector knows all that was created in a collection: it deletes a last one, whose owner never was.
async fn collector_has_seen(api: &Api, collection: &str, mut last: Value) {
    let nobody = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "nobody"});
    last["metadata"] = json!({"name": "last", "ownerReferences": [nobody]});
    api.create(collection, &last).await;
    api.gone(&format!("{collection}/last")).await;
}

fn owners(object: &Value) -> Vec<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.map(|owner| owner["name"].as_str().unwrap()).collect()
}

async fn names(api: &Api) -> Vec<String> {
    let pods = api.items(PODS).await;
    pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Conformance: [sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_go_after_their_controller() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let rc = controller(&api, "rc").await;
    for name in ["a", "b"] {
        pod(&api, name, &[owner(&rc, "ReplicationController")]).await;
    }
    pod(&api, "other", &[]).await;
    api.delete(&format!("{CONTROLLERS}/rc"), "Background").await;
    eventually("the pods are collected", async || names(&api).await == ["other"]).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Serial] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn orphaned_pods_stay_without_an_owner() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let rc = controller(&api, "rc").await;
    for name in ["a", "b"] {
        pod(&api, name, &[owner(&rc, "ReplicationController")]).await;
    }
    collector_has_seen(&api, PODS, template()).await;
    api.delete(&format!("{CONTROLLERS}/rc"), "Orphan").await;
    api.gone(&format!("{CONTROLLERS}/rc")).await;
    for pod in api.items(PODS).await {
        assert!(owners(&pod).is_empty() && pod["metadata"].get("deletionTimestamp").is_none(), "{pod}");
    }
    assert_eq!(names(&api).await, ["a", "b"]);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so [Serial] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_goes_last_waits_for_its_pods() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let rc = controller(&api, "rc").await;
    for name in ["a", "b", "held"] {
        pod(&api, name, &[owner(&rc, "ReplicationController")]).await;
    }
    let held = format!("{PODS}/held");
    api.merge(&held, &json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
    collector_has_seen(&api, PODS, template()).await;
    let path = format!("{CONTROLLERS}/rc");
    api.delete(&path, "Foreground").await;
    eventually("the other pods are collected", async || names(&api).await == ["held"]).await;
    let waiting = api.get(&path).await;
    assert!(waiting["metadata"]["deletionTimestamp"].is_string(), "{waiting}");
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    api.merge(&held, &json!({"metadata": {"finalizers": null}})).await;
    api.gone(&path).await;
    assert!(names(&api).await.is_empty());
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Serial] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_with_another_owner_stay() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let (going, staying) = (controller(&api, "going").await, controller(&api, "staying").await);
    let both = [owner(&going, "ReplicationController"), owner(&staying, "ReplicationController")];
    for (name, owners) in [("a", &both[..1]), ("b", &both[..1]), ("c", &both[..]), ("d", &both[..])] {
        pod(&api, name, owners).await;
    }
    collector_has_seen(&api, PODS, template()).await;
    api.delete(&format!("{CONTROLLERS}/going"), "Foreground").await;
    api.gone(&format!("{CONTROLLERS}/going")).await;
    assert_eq!(names(&api).await, ["c", "d"]);
    for pod in api.items(PODS).await {
        assert_eq!(owners(&pod), ["staying"]);
        assert!(pod["metadata"].get("deletionTimestamp").is_none(), "{pod}");
    }
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_owners_is_collected() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let mut pods = Vec::new();
    for name in ["one", "two", "three"] {
        pods.push(pod(&api, name, &[]).await);
    }
    for (at, of) in [(0, 2), (1, 0), (2, 1)] {
        let path = format!("{PODS}/{}", pods[at]["metadata"]["name"].as_str().unwrap());
        api.merge(&path, &json!({"metadata": {"ownerReferences": [owner(&pods[of], "Pod")]}})).await;
    }
    api.delete(&format!("{PODS}/one"), "Foreground").await;
    eventually("all are collected", async || names(&api).await.is_empty()).await;
    cluster.stop().await.unwrap();
}

/// Creates a Deployment and waits for its ReplicaSet and pods.
async fn deploy(api: &Api) {
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "gc"}}, "template": template()});
    api.create(DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    eventually("two pods are made", async || names(api).await.len() == 2).await;
    assert_eq!(api.items(SETS).await.len(), 1);
}

/// Conformance: [sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn replica_sets_go_after_their_deployment() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    deploy(&api).await;
    api.delete(&format!("{DEPLOYMENTS}/d"), "Background").await;
    eventually("ReplicaSet and pods are collected", async || {
        api.items(SETS).await.is_empty() && names(&api).await.is_empty()
    })
    .await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn orphaned_replica_sets_keep_their_pods() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    deploy(&api).await;
    let none = json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "gc"}}, "template": template()}});
    collector_has_seen(&api, SETS, none).await;
    api.delete(&format!("{DEPLOYMENTS}/d"), "Orphan").await;
    api.gone(&format!("{DEPLOYMENTS}/d")).await;
    let sets = api.items(SETS).await;
    assert_eq!(sets.len(), 1);
    assert!(owners(&sets[0]).is_empty() && sets[0]["metadata"].get("deletionTimestamp").is_none(), "{}", sets[0]);
    let pods = api.items(PODS).await;
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| owners(pod) == [sets[0]["metadata"]["name"].as_str().unwrap()]));
    cluster.stop().await.unwrap();
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// Waits until an event says of the object `name` that its owner is not in its namespace.
async fn told_of_its_owner(api: &Api, events: &str, name: &str) {
    eventually(&format!("an event about {name}"), async || {
        let events = api.items(events).await;
        events.iter().any(|event| {
            event["reason"] == "OwnerRefInvalidNamespace"
                && event["type"] == "Warning"
                && event["involvedObject"]["name"] == name
        })
    })
    .await;
}

/// A namespaced owner of a
/// cluster-scoped object cannot be looked for, so the object stays, whether the owner lives or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_scoped_object_is_never_collected_for_a_namespaced_owner() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let own = api.create(CONFIG_MAPS, &json!({"metadata": {"name": "own"}})).await;
    let never = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "never"});
    for (name, owners) in [("living", json!([owner(&own, "ConfigMap")])), ("absent", json!([never.clone()]))] {
        api.create(PRIORITY_CLASSES, &json!({"metadata": {"name": name, "ownerReferences": owners}, "value": 1})).await;
    }
    told_of_its_owner(&api, "/api/v1/namespaces/default/events", "living").await;
    api.delete(&format!("{CONFIG_MAPS}/own"), "Background").await;
    // A cluster-scoped object whose owner is gone for sure shows that the collector has been there.
    let gone = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "name": "gone", "uid": "gone"});
    api.create(PRIORITY_CLASSES, &json!({"metadata": {"name": "last", "ownerReferences": [gone]}, "value": 1})).await;
    api.gone(&format!("{PRIORITY_CLASSES}/last")).await;
    for name in ["living", "absent"] {
        let kept = api.get(&format!("{PRIORITY_CLASSES}/{name}")).await;
        assert!(kept["metadata"].get("deletionTimestamp").is_none(), "{kept}");
        assert_eq!(owners(&kept).len(), 1, "{kept}");
    }
    cluster.stop().await.unwrap();
}

/// An owner of another namespace counts as absent, which an event tells; one of an unserved version is not judged at all.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_another_namespace_does_not_hold() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let own = api.create(CONFIG_MAPS, &json!({"metadata": {"name": "own"}})).await;
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    let old = json!({"apiVersion": "apps/v1beta1", "kind": "Deployment", "name": "old", "uid": "old"});
    api.create(elsewhere, &json!({"metadata": {"name": "kept", "ownerReferences": [old]}})).await;
    let owners = json!([owner(&own, "ConfigMap")]);
    api.create(elsewhere, &json!({"metadata": {"name": "stray", "ownerReferences": owners}})).await;
    api.gone(&format!("{elsewhere}/stray")).await;
    told_of_its_owner(&api, "/api/v1/namespaces/kube-system/events", "stray").await;
    api.get(&format!("{elsewhere}/kept")).await;
    cluster.stop().await.unwrap();
}
