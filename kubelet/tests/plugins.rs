//! Plugins that register with a kubelet, as they should and as they should not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod driver;
mod node;

use std::time::Duration;

use driver::{Driver, Mind, Trouble};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use kube::Api;
use node::TestNode;
use serde_json::{Value, json};

const NAME: &str = "disks.example.org";

/// Waits until the CSINode is like this.
async fn drivers(node: &TestNode, holds: impl Fn(&Value) -> bool) -> Value {
    let api: Api<CSINode> = Api::all(node.client());
    let wait = async {
        loop {
            let found = api.get_opt("node-1").await.unwrap();
            let drivers = found.map(|found| serde_json::to_value(found.spec.drivers).unwrap());
            if let Some(drivers) = drivers.filter(|drivers| holds(drivers)) {
                return drivers;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the CSINode gets there in time")
}

fn knows(name: &'static str) -> impl Fn(&Value) -> bool {
    move |drivers| drivers.as_array().unwrap().iter().any(|driver| driver["name"] == name)
}

async fn annotation(node: &TestNode) -> Option<String> {
    let api: Api<Node> = Api::all(node.client());
    api.get("node-1").await.unwrap().metadata.annotations.unwrap().remove("csi.volume.kubernetes.io/nodeid")
}

fn mind() -> Mind {
    let segments = [("topology.example.org/rack".to_owned(), "r1".to_owned())].into();
    Mind { node_id: "i-123".into(), max_volumes: 7, segments, ..Mind::default() }
}

#[tokio::test]
async fn a_driver_comes_is_known_to_all_across_a_restart_and_goes() {
    let mut node = TestNode::start().await;
    assert_eq!(drivers(&node, |_| true).await, json!([]), "a node without drivers is shown, too");
    let driver = Driver::of_kind(&node.root(), NAME, "CSIPlugin", mind());
    let known = drivers(&node, knows(NAME)).await;
    let expected = json!([{"name": NAME, "nodeID": "i-123", "topologyKeys": ["topology.example.org/rack"],
        "allocatable": {"count": 7}}]);
    assert_eq!(known, expected);
    assert!(driver.told().await.registered);
    assert_eq!(annotation(&node).await.as_deref(), Some(r#"{"disks.example.org":"i-123"}"#));
    let rack = |node: &Node| node.metadata.labels.as_ref().unwrap().get("topology.example.org/rack").cloned();
    assert_eq!(node.wait_for_node(|node| rack(node).is_some()).await.metadata.name.as_deref(), Some("node-1"));
    driver.mind().told.clear();
    node.restart_kubelet().await;
    assert!(driver.told().await.registered, "the socket is found that was there before");
    drop(driver);
    drivers(&node, |drivers| drivers == &json!([])).await;
    while annotation(&node).await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_plugin_that_is_not_taken_is_told_why() {
    let node = TestNode::start().await;
    let device = Driver::of_kind(&node.root(), "gpu.example.org", "DevicePlugin", Mind::default());
    let told = device.told().await;
    assert!(!told.registered && told.error.contains("no handler registered for plugin type: DevicePlugin"), "{told:?}");
    let nameless = Driver::of_kind(&node.root(), "nameless.example.org", "CSIPlugin", Mind::default());
    let told = nameless.told().await;
    assert!(!told.registered && told.error.contains("empty node ID"), "{told:?}");
    let hostname = ("kubernetes.io/hostname".to_owned(), "elsewhere".to_owned());
    let lost = Mind { node_id: "x".into(), segments: [hostname].into(), ..Mind::default() };
    let lost = Driver::of_kind(&node.root(), "lost.example.org", "CSIPlugin", lost);
    let told = lost.told().await;
    assert!(!told.registered && told.error.contains("topology value collision"), "{told:?}");
    assert_eq!(drivers(&node, |_| true).await, json!([]));
}

#[tokio::test]
async fn drivers_that_hang_flood_or_fail_hold_up_nobody_else_and_may_recover() {
    let node = TestNode::start().await;
    let hanging = Driver::of_kind(&node.root(), "hanging.example.org", "CSIPlugin", mind());
    hanging.trouble("GetInfo", Trouble::Hang);
    let flooding = Driver::of_kind(&node.root(), "flooding.example.org", "CSIPlugin", Mind::default());
    flooding.trouble("NodeGetInfo", Trouble::Flood(2 << 20));
    let failing = Driver::of_kind(&node.root(), "failing.example.org", "CSIPlugin", mind());
    failing.trouble("NodeGetInfo", Trouble::Fail(tonic::Code::Internal));
    let good = Driver::of_kind(&node.root(), NAME, "CSIPlugin", mind());
    drivers(&node, knows(NAME)).await;
    assert!(good.told().await.registered);
    let told = flooding.told().await;
    assert!(!told.registered && told.error.contains("OutOfRange"), "{told:?}");
    let told = failing.told().await;
    assert!(!told.registered && told.error.contains("code = Internal desc = as the test wants"), "{told:?}");
    failing.recover();
    drivers(&node, knows("failing.example.org")).await;
}
