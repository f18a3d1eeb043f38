//! A node that runs short, against a real API server in this process and a runtime in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod node;

use kubelet::{EvictionRules, Evictions, Tuning};
use node::{TestNode, condition, phase};
use runtime::Stats;
use serde_json::json;

/// More memory than there is must be left, but less is borne for this long.
fn short_of_memory(borne: &str) -> Tuning {
    let map = |text: &str| [("memory.available".to_owned(), text.to_owned())].into();
    let written = Evictions { soft: map("1Ei"), soft_grace: map(borne), hard: Some([].into()), ..Evictions::default() };
    Tuning { evictions: EvictionRules::read(&written).unwrap(), ..Tuning::default() }
}

fn with_request(request: &str) -> serde_json::Value {
    json!({"containers": [{"name": "c", "image": "busybox:1", "resources": {"requests": {"memory": request}}}]})
}

#[tokio::test]
async fn a_node_that_runs_short_says_so_refuses_pods_and_evicts_the_greediest() {
    let mut node = TestNode::with(None, short_of_memory("6s")).await;
    node.runtime.set_stats("c", Stats { memory_working_set: 5 << 20, ..Stats::default() });
    node.wait_for_node(|node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let memory = conditions.into_iter().flatten().find(|known| known.type_ == "MemoryPressure");
        memory.is_some_and(|memory| {
            memory.status == "True" && memory.reason.as_deref() == Some("KubeletHasInsufficientMemory")
        })
    })
    .await;
    node.create("idle", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    let idle = node.wait_for("idle", |pod| phase(pod) == "Failed").await.status.unwrap();
    assert_eq!(idle.reason.as_deref(), Some("Evicted"));
    assert_eq!(idle.message.as_deref(), Some("Pod was rejected: The node had condition: [MemoryPressure]. "));

    node.create("modest", with_request("10Mi")).await;
    node.create("greedy", with_request("1Mi")).await;
    let greedy = node.wait_for("greedy", |pod| phase(pod) == "Failed").await;
    assert_eq!(condition(&greedy, "DisruptionTarget"), Some("True"));
    let message = greedy.status.unwrap().message.unwrap();
    assert!(message.starts_with("The node was low on resource: memory. Threshold quantity: 1"), "{message}");
    let end = "Container c was using 5Mi, request is 1Mi, has larger consumption of memory. ";
    assert!(message.ends_with(end), "{message}");
    assert_eq!(node.wait_for_message("greedy", "Evicted").await, message);
    node.wait_for("modest", |pod| phase(pod) == "Failed").await;
    node.stop_kubelet().await;
}
