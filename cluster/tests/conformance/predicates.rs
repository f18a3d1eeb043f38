//! Where pods may go.

use cluster::{NODE, TestCluster};
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/api/v1/namespaces/default/events";

async fn start() -> (TestCluster, Api) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    (cluster, api)
}

async fn create(api: &Api, name: &str, container: Value, selector: Value) {
    let mut whole = json!({"name": "c", "image": "web:1"});
    whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [whole], "nodeSelector": selector});
    api.create(PODS, &json!({"metadata": {"name": name}, "spec": spec})).await;
}

async fn runs_on_the_node(api: &Api, name: &str) {
    let path = format!("{PODS}/{name}");
    eventually(&format!("{name} runs"), async || api.get(&path).await["status"]["phase"] == "Running").await;
    assert_eq!(api.get(&path).await["spec"]["nodeName"], NODE);
}

/// Waits until a pod is refused with this text, by its condition and by an event.
async fn is_refused(api: &Api, name: &str, why: &str) {
    let path = format!("{PODS}/{name}");
    let says = |text: &Value| text.as_str().is_some_and(|text| text.contains(why));
    eventually(&format!("{name} says {why:?}"), async || {
        let pod = api.get(&path).await;
        pod["status"]["conditions"].as_array().into_iter().flatten().any(|known| {
            known["type"] == "PodScheduled"
                && known["status"] == "False"
                && known["reason"] == "Unschedulable"
                && says(&known["message"])
        })
    })
    .await;
    eventually(&format!("an event of {name} says {why:?}"), async || {
        api.items(EVENTS).await.iter().any(|event| {
            event["reason"] == "FailedScheduling" && event["involvedObject"]["name"] == name && says(&event["message"])
        })
    })
    .await;
    assert_eq!(api.get(&path).await["spec"]["nodeName"], Value::Null);
}

/// Conformance: [sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_asks_for_more_than_is_left_waits() {
    let (cluster, api) = start().await;
    let amounts = json!({"example.com/beard": "1k"});
    let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
    api.merge(&format!("/api/v1/nodes/{NODE}/status"), &status).await;
    let asks = |amount: &str| {
        let amounts = json!({"example.com/beard": amount});
        json!({"resources": {"requests": amounts, "limits": amounts}})
    };
    create(&api, "filler", asks("700"), json!({})).await;
    runs_on_the_node(&api, "filler").await;
    create(&api, "more", asks("500"), json!({})).await;
    is_refused(&api, "more", "0/1 nodes are available: 1 Insufficient example.com/beard").await;
    create(&api, "less", asks("300"), json!({})).await;
    runs_on_the_node(&api, "less").await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching [Conformance]
/// Conformance: [sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_goes_only_where_its_selector_says() {
    let (cluster, api) = start().await;
    create(&api, "p", json!({}), json!({"example.com/e2e": "42"})).await;
    let why = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    is_refused(&api, "p", why).await;
    let label = |value: &str| json!({"metadata": {"labels": {"example.com/e2e": value}}});
    api.merge(&format!("/api/v1/nodes/{NODE}"), &label("41")).await;
    create(&api, "same", json!({}), json!({"example.com/e2e": "41"})).await;
    runs_on_the_node(&api, "same").await;
    is_refused(&api, "p", why).await;
    api.merge(&format!("/api/v1/nodes/{NODE}"), &label("42")).await;
    runs_on_the_node(&api, "p").await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_port_on_all_addresses_leaves_it_on_none() {
    let (cluster, api) = start().await;
    let port = |address: &str, protocol: &str| {
        let port = json!({"containerPort": 8080, "hostPort": 54322, "hostIP": address, "protocol": protocol});
        json!({"ports": [port]})
    };
    create(&api, "all", port("0.0.0.0", "TCP"), json!({})).await;
    runs_on_the_node(&api, "all").await;
    create(&api, "one", port("127.0.0.1", "TCP"), json!({})).await;
    is_refused(&api, "one", "1 node(s) didn't have free ports for the requested pod ports").await;
    create(&api, "other", port("127.0.0.1", "UDP"), json!({})).await;
    runs_on_the_node(&api, "other").await;
    cluster.stop().await.unwrap();
}
