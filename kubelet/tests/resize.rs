//! In-place resize of pods against a real API server in this process and a runtime in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod node;

use k8s_openapi::api::core::v1::Pod;
use node::{TestNode, condition, container, phase};
use serde_json::{Value, json};

fn sizes(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn spec(resources: Value) -> Value {
    json!({"containers": [{"name": "c", "image": "busybox:1", "resources": resources}]})
}

/// The CPU that the container was promised, and the one that it has.
fn cpu(pod: &Pod) -> (String, String) {
    let status = container(pod, "c");
    let promised = status.allocated_resources.unwrap_or_default();
    let given = status.resources.unwrap_or_default().requests.unwrap_or_default();
    let text = |list: std::collections::BTreeMap<_, _>| {
        list.get("cpu").map(|quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| quantity.0.clone())
    };
    (text(promised).unwrap_or_default(), text(given).unwrap_or_default())
}

fn both(cpu: &str) -> (String, String) {
    (cpu.to_owned(), cpu.to_owned())
}

fn message<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)?.message.as_deref()
}

async fn started(node: &TestNode, name: &str, resources: Value) {
    node.create(name, spec(resources)).await;
    node.wait_for(name, |pod| phase(pod) == "Running").await;
}

#[tokio::test]
async fn a_running_container_gets_its_new_sizes() {
    let node = TestNode::start().await;
    started(&node, "p", sizes("100m", "64Mi")).await;
    node.resize("p", sizes("200m", "128Mi")).await;
    let pod = node.wait_for("p", |pod| cpu(pod) == both("200m")).await;
    assert_eq!(container(&pod, "c").restart_count, 0);
    node.wait_for_event("p", "ResizeStarted").await;
    node.wait_for_event("p", "ResizeCompleted").await;
    node.wait_for("p", |pod| condition(pod, "PodResizeInProgress").is_none()).await;
    let calls = node.runtime.calls();
    let is = |what: &'static str| move |call: &String| call.starts_with(what);
    let (pod, one) = (calls.iter().position(is("update_sandbox")), calls.iter().position(is("update_container c")));
    assert!(pod.is_some() && pod < one, "{calls:?}");
}

#[tokio::test]
async fn a_size_that_can_never_fit_is_infeasible_until_it_is_taken_back() {
    let node = TestNode::start().await;
    started(&node, "p", sizes("100m", "64Mi")).await;
    node.resize("p", sizes("1000", "64Mi")).await;
    let pod = node.wait_for("p", |pod| condition(pod, "PodResizePending").is_some()).await;
    let text = message(&pod, "PodResizePending").unwrap();
    assert!(text.starts_with("Node didn't have enough capacity: cpu, requested: 1000000, capacity: "), "{text}");
    assert_eq!(cpu(&pod), both("100m"));
    node.wait_for_event("p", "ResizeInfeasible").await;
    node.resize("p", sizes("100m", "64Mi")).await;
    node.wait_for("p", |pod| condition(pod, "PodResizePending").is_none()).await;
}

#[tokio::test]
async fn a_deferred_resize_goes_on_when_there_is_room_also_after_a_restart() {
    let mut node = TestNode::start().await;
    let all = node.wait_for_node(|node| node.status.as_ref().is_some_and(|status| status.allocatable.is_some())).await;
    let cores: u32 = all.status.unwrap().allocatable.unwrap()["cpu"].0.parse().unwrap();
    started(&node, "p", sizes("100m", "64Mi")).await;
    started(&node, "other", sizes("500m", "64Mi")).await;
    let wanted = cores.to_string();
    node.resize("p", sizes(&wanted, "64Mi")).await;
    node.wait_for("p", |pod| message(pod, "PodResizePending").is_some_and(|text| text.contains("used: 500"))).await;
    node.wait_for_event("p", "ResizeDeferred").await;
    node.restart_kubelet().await;
    let pod = node.wait_for("p", |pod| condition(pod, "PodResizePending").is_some()).await;
    assert_eq!(cpu(&pod), both("100m"));
    node.delete("other").await;
    let pod = node.wait_for("p", |pod| cpu(pod) == both(&wanted)).await;
    assert_eq!((condition(&pod, "PodResizePending"), container(&pod, "c").restart_count), (None, 0));
}

#[tokio::test]
async fn a_container_whose_policy_says_so_starts_again() {
    let node = TestNode::start().await;
    let mut spec = spec(sizes("100m", "64Mi"));
    spec["containers"][0]["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    spec["restartPolicy"] = json!("OnFailure");
    node.create("p", spec).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    node.resize("p", sizes("200m", "128Mi")).await;
    let pod = node.wait_for("p", |pod| cpu(pod) == both("200m") && container(pod, "c").restart_count == 1).await;
    assert_eq!(phase(&pod), "Running");
    node.wait_for_event("p", "ResizeCompleted").await;
}

#[tokio::test]
async fn memory_in_use_is_not_taken_away() {
    let node = TestNode::start().await;
    started(&node, "p", sizes("100m", "128Mi")).await;
    let uses = |bytes| runtime::Stats { memory_working_set: bytes, ..runtime::Stats::default() };
    node.runtime.set_stats("c", uses(100 << 20));
    node.resize("p", sizes("100m", "64Mi")).await;
    let pod = node.wait_for("p", |pod| message(pod, "PodResizeInProgress").is_some()).await;
    let expected = "attempting to set container \"c\" memory limit (67108864) below current usage (104857600)";
    assert_eq!(message(&pod, "PodResizeInProgress"), Some(expected));
    node.wait_for_event("p", "ResizeError").await;
    node.runtime.set_stats("c", uses(1 << 20));
    node.wait_for("p", |pod| condition(pod, "PodResizeInProgress").is_none()).await;
    let given = container(&node.get("p").await, "c").resources.unwrap().limits.unwrap();
    assert_eq!(given["memory"].0, "64Mi");
}
