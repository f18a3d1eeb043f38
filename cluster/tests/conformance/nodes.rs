//! How pods come to nodes of a runtime class, and leave nodes that are tainted.

use std::time::{Duration, Instant};

use cluster::{NODE, TestCluster};
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/api/v1/namespaces/default/events?fieldSelector=reason%3DTaintManagerEviction";
const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

fn toleration(key: &str, seconds: Option<u64>) -> Value {
    let mut toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
    if let Some(seconds) = seconds {
        toleration["tolerationSeconds"] = json!(seconds);
    }
    toleration
}

/// Creates a pod and waits until it runs.
async fn run(api: &Api, name: &str, tolerations: &[Value]) {
    let spec = json!({"terminationGracePeriodSeconds": 0, "tolerations": tolerations,
        "containers": [{"name": "c", "image": "a:1"}]});
    api.create(PODS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    let path = format!("{PODS}/{name}");
    eventually(&format!("{name} runs"), async || api.get(&path).await["status"]["phase"] == "Running").await;
}

async fn taint(api: &Api, keys: &[&str]) {
    let taints: Vec<Value> = keys.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
    api.merge(&format!("/api/v1/nodes/{NODE}"), &json!({"spec": {"taints": taints}})).await;
}

/// Whether a pod is there and nobody has asked for its end.
async fn stays(api: &Api, name: &str) -> bool {
    let pod = api.find(&format!("{PODS}/{name}")).await;
    pod.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_null())
}

/// Conformance: [sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn pods_bear_a_taint_as_long_as_each_says() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    run(&api, "short", &[toleration("evict", Some(1))]).await;
    run(&api, "long", &[toleration("evict", Some(4))]).await;
    let began = Instant::now();
    taint(&api, &["evict"]).await;
    api.gone(&format!("{PODS}/short")).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    // On a machine that is held up so long, both may have gone by now.
    assert!(stays(&api, "long").await || began.elapsed() >= Duration::from_secs(4));
    api.gone(&format!("{PODS}/long")).await;
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_taint_that_goes_in_time_evicts_nobody() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    run(&api, "first", &[toleration("a", Some(1)), toleration("b", None)]).await;
    run(&api, "saved", &[toleration("a", Some(10)), toleration("b", None)]).await;
    run(&api, "last", &[toleration("a", None), toleration("b", Some(12))]).await;
    let began = Instant::now();
    taint(&api, &["a", "b"]).await;
    // That it goes shows that evictions are planned; that the last goes, that the time of the one between them is over.
    api.gone(&format!("{PODS}/first")).await;
    assert!(began.elapsed() < Duration::from_secs(10), "this machine is too slow for this test: {:?}", began.elapsed());
    taint(&api, &["b"]).await;
    let message = "Cancelling deletion of Pod default/saved";
    eventually("it is told", async || api.items(EVENTS).await.iter().any(|event| event["message"] == message)).await;
    api.gone(&format!("{PODS}/last")).await;
    assert!(began.elapsed() >= Duration::from_secs(12) && stays(&api, "saved").await);
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_bears_a_taint_for_less_time_goes_earlier() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    run(&api, "patient", &[toleration("a", Some(3600))]).await;
    taint(&api, &["a"]).await;
    let path = format!("{PODS}/patient");
    let mut tolerations = api.get(&path).await["spec"]["tolerations"].clone();
    tolerations[0]["tolerationSeconds"] = json!(0);
    assert_eq!(tolerations[0]["key"], "a");
    api.merge(&path, &json!({"spec": {"tolerations": tolerations}})).await;
    api.gone(&path).await;
    cluster.stop().await.unwrap();
}

/// A pod of a runtime class, once the scheduler has found its node.
async fn scheduled(api: &Api, class: &Value) -> Value {
    let name = &class["metadata"]["name"];
    api.create(CLASSES, class).await;
    let spec = json!({"runtimeClassName": name, "containers": [{"name": "c", "image": "a:1"}]});
    api.create(PODS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    let path = format!("{PODS}/{}", name.as_str().unwrap());
    eventually("it is scheduled", async || api.get(&path).await["spec"]["nodeName"] == NODE).await;
    api.get(&path).await
}

/// Conformance: [sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead [NodeConformance] [Conformance]
/// Conformance: [sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead [NodeConformance] [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_a_runtime_class_costs_what_the_class_says() {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let free = json!({"metadata": {"name": "free"}, "handler": "test-handler"});
    assert_eq!(scheduled(&api, &free).await["spec"]["overhead"], Value::Null);
    let fixed = json!({"cpu": "10m", "memory": "1Mi"});
    let costly = json!({"metadata": {"name": "costly"}, "handler": "test-handler", "overhead": {"podFixed": fixed}});
    assert_eq!(scheduled(&api, &costly).await["spec"]["overhead"], fixed);
    cluster.stop().await.unwrap();
}
