//! Important pods and those who make room for them.

use cluster::{NODE, TestCluster};
use serde_json::{Value, json};

use crate::api::{Api, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SYSTEM_PODS: &str = "/api/v1/namespaces/kube-system/pods";
const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const EVENTS: &str = "/api/v1/namespaces/default/events";
/// A resource of which the node has as much as a test says.
const RESOURCE: &str = "example.com/fake";

/// A cluster whose node has five of the resource, and classes `low`, `medium`, `high` of priority.
async fn start() -> (TestCluster, Api) {
    let cluster = TestCluster::start().await.unwrap();
    let api = Api::of(&cluster);
    let amounts = json!({RESOURCE: "5"});
    let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
    api.merge(&format!("/api/v1/nodes/{NODE}/status"), &status).await;
    for (name, value) in [("low", 1), ("medium", 100), ("high", 1000)] {
        api.create(CLASSES, &json!({"metadata": {"name": name}, "value": value})).await;
    }
    (cluster, api)
}

fn template(class: &str, amount: u32) -> Value {
    let amounts = json!({RESOURCE: amount.to_string()});
    let resources = json!({"requests": amounts, "limits": amounts});
    let containers = json!([{"name": "c", "image": "web:1", "resources": resources}]);
    json!({"priorityClassName": class, "terminationGracePeriodSeconds": 0, "containers": containers})
}

async fn create(api: &Api, name: &str, class: &str, amount: u32) {
    let object = json!({"metadata": {"name": name}, "spec": template(class, amount)});
    api.create(PODS, &object).await;
}

async fn runs(api: &Api, path: &str) {
    eventually(&format!("{path} runs"), async || api.get(path).await["status"]["phase"] == "Running").await;
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|known| known["type"] == kind)
}

/// Conformance: [sig-scheduling] SchedulerPreemption [Serial] validates basic preemption works [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn an_important_pod_takes_the_place_of_the_least_important() {
    let (cluster, api) = start().await;
    create(&api, "low", "low", 2).await;
    create(&api, "medium", "medium", 2).await;
    for name in ["low", "medium"] {
        runs(&api, &format!("{PODS}/{name}")).await;
    }
    create(&api, "high", "high", 3).await;
    runs(&api, &format!("{PODS}/high")).await;
    api.gone(&format!("{PODS}/low")).await;
    assert_eq!(api.get(&format!("{PODS}/medium")).await["metadata"]["deletionTimestamp"], Value::Null);
    // Its nomination ended with its binding.
    assert_eq!(api.get(&format!("{PODS}/high")).await["status"]["nominatedNodeName"], Value::Null);
    let uid = api.get(&format!("{PODS}/high")).await["metadata"]["uid"].as_str().unwrap().to_owned();
    let told = format!("Preempted by pod {uid} on node {NODE}");
    eventually("the victim's event", async || {
        let events = api.items(EVENTS).await;
        events.iter().any(|event| {
            event["reason"] == "Preempted" && event["message"] == told && event["involvedObject"]["name"] == "low"
        })
    })
    .await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-scheduling] SchedulerPreemption [Serial] validates lower priority pod preemption by critical pod [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_critical_pod_takes_the_place_of_another() {
    let (cluster, api) = start().await;
    create(&api, "high", "high", 3).await;
    create(&api, "low", "low", 2).await;
    for name in ["high", "low"] {
        runs(&api, &format!("{PODS}/{name}")).await;
    }
    let critical = json!({"metadata": {"name": "critical"}, "spec": template("system-cluster-critical", 2)});
    api.create(SYSTEM_PODS, &critical).await;
    runs(&api, &format!("{SYSTEM_PODS}/critical")).await;
    api.gone(&format!("{PODS}/low")).await;
    assert_eq!(api.get(&format!("{PODS}/high")).await["metadata"]["deletionTimestamp"], Value::Null);
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-scheduling] SchedulerPreemption [Serial] validates pod disruption condition is added to the preempted pod [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn a_victim_says_why_it_goes_and_its_preemptor_where_it_waits() {
    let (cluster, api) = start().await;
    let meta = json!({"name": "victim", "finalizers": ["example.com/hold"]});
    api.create(PODS, &json!({"metadata": meta, "spec": template("low", 5)})).await;
    runs(&api, &format!("{PODS}/victim")).await;
    create(&api, "preemptor", "high", 5).await;
    let victim = format!("{PODS}/victim");
    eventually("the victim is marked and deleted", async || {
        let pod = api.get(&victim).await;
        !pod["metadata"]["deletionTimestamp"].is_null() && condition(&pod, "DisruptionTarget").is_some()
    })
    .await;
    let pod = api.get(&victim).await;
    let mark = condition(&pod, "DisruptionTarget").unwrap();
    assert_eq!((&mark["status"], &mark["reason"]), (&json!("True"), &json!("PreemptionByScheduler")));
    assert_eq!(mark["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    let preemptor = format!("{PODS}/preemptor");
    eventually("the preemptor is nominated", async || api.get(&preemptor).await["status"]["nominatedNodeName"] == NODE)
        .await;
    api.merge(&victim, &json!({"metadata": {"finalizers": null}})).await;
    api.gone(&victim).await;
    runs(&api, &preemptor).await;
    cluster.stop().await.unwrap();
}

/// Conformance: [sig-scheduling] SchedulerPreemption [Serial] PreemptionExecutionPath runs ReplicaSets to verify preemption running path [Conformance]
#[tokio::test(flavor = "multi_thread")]
async fn replica_sets_of_four_priorities_share_what_there_is() {
    let (cluster, api) = start().await;
    api.create(CLASSES, &json!({"metadata": {"name": "highest"}, "value": 2000})).await;
    let sets = [("p1", "low", 1, 2), ("p2", "medium", 1, 1), ("p3", "high", 1, 1)];
    for (name, class, amount, replicas) in sets {
        replica_set(&api, name, class, amount, replicas).await;
        has_pods(&api, name, replicas).await;
    }
    replica_set(&api, "p4", "highest", 3, 1).await;
    // Two of the four pods go: the least important ones. Those that replace them find no room.
    for (name, replicas) in [("p4", 1), ("p3", 1), ("p2", 1), ("p1", 0)] {
        has_pods(&api, name, replicas).await;
    }
    let waiting = |pod: &Value| pod["metadata"]["labels"]["app"] == "p1" && pod["spec"]["nodeName"].is_null();
    eventually("the least important wait", async || {
        api.items(PODS).await.iter().filter(|pod| waiting(pod)).count() == 2
    })
    .await;
    cluster.stop().await.unwrap();
}

async fn replica_set(api: &Api, name: &str, class: &str, amount: u32, replicas: u32) {
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": template(class, amount)});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
    api.create(REPLICA_SETS, &json!({"metadata": {"name": name}, "spec": spec})).await;
}

async fn has_pods(api: &Api, name: &str, replicas: u32) {
    eventually(&format!("{name} has {replicas} pods"), async || {
        let set = api.get(&format!("{REPLICA_SETS}/{name}")).await;
        set["status"]["readyReplicas"].as_u64().unwrap_or(0) == u64::from(replicas)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_polite_or_hopeless_says_so() {
    let (cluster, api) = start().await;
    create(&api, "equal", "high", 5).await;
    runs(&api, &format!("{PODS}/equal")).await;
    let polite = json!({"metadata": {"name": "polite"}, "value": 5000, "preemptionPolicy": "Never"});
    api.create(CLASSES, &polite).await;
    create(&api, "patient", "polite", 5).await;
    create(&api, "hopeless", "high", 5).await;
    let refused = "0/1 nodes are available: 1 Insufficient example.com/fake. preemption: ";
    for (name, why) in [
        ("patient", "not eligible due to preemptionPolicy=Never."),
        ("hopeless", "0/1 nodes are available: 1 No preemption victims found for incoming pod."),
    ] {
        let message = json!(format!("{refused}{why}"));
        eventually(&format!("{name} says {message}"), async || {
            let pod = api.get(&format!("{PODS}/{name}")).await;
            condition(&pod, "PodScheduled").is_some_and(|known| known["message"] == message)
        })
        .await;
    }
    assert_eq!(api.get(&format!("{PODS}/equal")).await["metadata"]["deletionTimestamp"], Value::Null);
    cluster.stop().await.unwrap();
}
