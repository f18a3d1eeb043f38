//! A node that ends with its pods.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod node;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kubelet::Limits;
use node::{TestNode, condition, container, phase};
use runtime::ExecOutput;
use runtime::fake::Behavior;
use serde_json::{Value, json};

const LIMITS: Limits = Limits { all: Duration::from_secs(50), critical: Duration::from_secs(20) };

fn plain(name: &str) -> Value {
    json!({"name": name, "image": "busybox:1"})
}

/// A container that is told to end by a command before the signal.
fn with_hook(name: &str) -> Value {
    let mut container = plain(name);
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["leave", name]}}});
    container
}

/// What was done from the call at `from` on, without what other pods than these containers need.
fn since(node: &TestNode, from: usize) -> Vec<String> {
    let calls = node.runtime.calls().split_off(from);
    calls.into_iter().filter(|call| call.starts_with("stop")).collect()
}

fn place(calls: &[String], call: &str) -> usize {
    calls.iter().position(|one| one.starts_with(call)).unwrap_or_else(|| panic!("{call} is not in {calls:?}"))
}

async fn ready(node: &TestNode, name: &str) {
    node.wait_for(name, |pod| condition(pod, "Ready") == Some("True")).await;
}

#[tokio::test]
async fn pods_end_with_their_node_as_a_deletion_ends_them_and_the_critical_ones_last() {
    let node = TestNode::start().await;
    let mut sidecar = plain("log");
    sidecar["restartPolicy"] = json!("Always");
    let spec = json!({
        "initContainers": [sidecar], "containers": [with_hook("db")], "terminationGracePeriodSeconds": 25,
    });
    node.create("database", spec).await;
    let critical = json!({"priorityClassName": "system-node-critical", "containers": [plain("net")]});
    node.create("network", critical).await;
    ready(&node, "database").await;
    ready(&node, "network").await;
    let hooks = Arc::new(Mutex::new(Vec::new()));
    let (told, runtime) = (Arc::clone(&hooks), node.runtime.clone());
    node.runtime.on_exec(move |container, command| {
        let is_told = !runtime.calls().iter().any(|call| call.starts_with("stop"));
        told.lock().unwrap().push((format!("{container}: {}", command.join(" ")), is_told));
        ExecOutput { stdout: Vec::new(), stderr: Vec::new(), exit_code: 0 }
    });
    let from = node.runtime.calls().len();
    assert_eq!(node.end_pods(LIMITS).await, Vec::<String>::new());
    assert_eq!(*hooks.lock().unwrap(), [("db: leave db".to_owned(), true)], "once, and before the signal");
    let calls = since(&node, from);
    assert!(place(&calls, "stop_container db 2") < place(&calls, "stop_container log"), "{calls:?}");
    let sandbox = calls.iter().position(|call| call.starts_with("stop_sandbox")).unwrap();
    assert!(sandbox < place(&calls, "stop_container net"), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.starts_with("stop_sandbox")).count(), 2, "{calls:?}");
}

#[tokio::test]
async fn a_pod_gets_the_grace_it_asks_for_up_to_the_limit() {
    let node = TestNode::start().await;
    node.runtime.behave("c", [Behavior::IgnoreStop]);
    node.create("stubborn", json!({"terminationGracePeriodSeconds": 3600, "containers": [plain("c")]})).await;
    ready(&node, "stubborn").await;
    let (from, before) = (node.runtime.calls().len(), std::time::Instant::now());
    let limits = Limits { all: Duration::from_secs(3), critical: Duration::from_secs(1) };
    assert_eq!(node.end_pods(limits).await, Vec::<String>::new());
    assert!(before.elapsed() < Duration::from_secs(30), "{:?}", before.elapsed());
    let calls = since(&node, from);
    assert!(
        calls.iter().any(|call| matches!(call.as_str(), "stop_container c 1s" | "stop_container c 2s")),
        "{calls:?}"
    );
}

#[tokio::test]
async fn a_pod_that_ended_with_its_node_is_not_over_and_the_next_kubelet_starts_it_again() {
    let mut node = TestNode::start().await;
    node.create("web", json!({"containers": [plain("c")]})).await;
    ready(&node, "web").await;
    node.end_pods(LIMITS).await;
    let pod = node.wait_for("web", |pod| condition(pod, "Ready") == Some("False")).await;
    assert_eq!((phase(&pod), container(&pod, "c").ready), ("Running", false));
    // It begins only with the next kubelet.
    let from = node.runtime.calls().len();
    node.create("late", json!({"containers": [plain("d")]})).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let calls = node.runtime.calls().split_off(from);
    assert!(!calls.iter().any(|call| call.starts_with("start_container")), "{calls:?}");
    node.restart_kubelet().await;
    ready(&node, "late").await;
    ready(&node, "web").await;
}

#[tokio::test]
async fn a_pod_that_is_being_deleted_is_deleted_while_its_node_ends() {
    let node = TestNode::start().await;
    node.runtime.behave("c", [Behavior::IgnoreStop]);
    node.create("leaving", json!({"terminationGracePeriodSeconds": 3, "containers": [plain("c")]})).await;
    ready(&node, "leaving").await;
    node.delete_within("leaving", 3).await;
    node.end_pods(LIMITS).await;
    node.wait_until_gone("leaving").await;
}

#[tokio::test]
async fn a_node_that_ends_says_that_it_is_not_ready_so_that_nothing_more_is_bound_to_it() {
    let mut node = TestNode::start().await;
    let ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready").cloned();
        ready.map(|ready| (ready.status, ready.message.unwrap_or_default())).unwrap_or_default()
    };
    node.wait_for_node(|node| ready(node).0 == "True").await;
    node.end_pods(LIMITS).await;
    let ended = node.wait_for_node(|node| ready(node).0 == "False").await;
    assert_eq!(ready(&ended).1, "node is shutting down");
    node.restart_kubelet().await;
    node.wait_for_node(|node| ready(node).0 == "True").await;
}
