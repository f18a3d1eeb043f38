//! Namespaces as objects; `cluster` tests what their deletion does.

use serde_json::json;

use super::start;
use crate::client::{MERGE, STRATEGIC, expect};

const NAMESPACES: &str = "/api/v1/namespaces";

/// Conformance: [sig-api-machinery] Namespaces [Serial] should patch a Namespace [Conformance]
/// Conformance: [sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace [Conformance]
#[tokio::test]
async fn labels_of_a_namespace_are_patched_and_updated() {
    let (_server, client) = start().await;
    expect(client.post(NAMESPACES, &json!({"metadata": {"name": "n"}})).await, 201);
    let path = format!("{NAMESPACES}/n");
    let patch = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    expect(client.patch(&path, STRATEGIC, &patch).await, 200);
    let mut namespace = expect(client.get(&path).await, 200);
    assert_eq!(namespace["metadata"]["labels"]["testLabel"], "testValue");
    namespace["metadata"]["labels"]["testLabel"] = "updated".into();
    expect(client.put(&path, &namespace).await, 200);
    let namespace = expect(client.get(&path).await, 200);
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "n", "testLabel": "updated"}));
}

/// Conformance: [sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status [Conformance]
#[tokio::test]
async fn conditions_are_written_to_the_status_of_a_namespace() {
    let (_server, client) = start().await;
    expect(client.post(NAMESPACES, &json!({"metadata": {"name": "n"}})).await, 201);
    let path = format!("{NAMESPACES}/n/status");
    let namespace = expect(client.get(&path).await, 200);
    assert_eq!(namespace["status"], json!({"phase": "Active"}));
    let condition = json!({"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched"});
    let patch = json!({"metadata": {"annotations": {"patched": "yes"}}, "status": {"conditions": [condition]}});
    let mut patched = expect(client.patch(&path, MERGE, &patch).await, 200);
    assert_eq!(patched["metadata"]["annotations"]["patched"], "yes");
    assert_eq!(patched["status"]["conditions"][0]["message"], "Patched");
    let update = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Updated"});
    patched["status"]["conditions"].as_array_mut().unwrap().push(update);
    let updated = expect(client.put(&path, &patched).await, 200);
    assert_eq!(updated["status"]["conditions"][1]["message"], "Updated");
    assert_eq!(updated["status"]["phase"], "Active");
}

/// Conformance: [sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace [Conformance]
#[tokio::test]
async fn a_finalizer_comes_to_a_namespace_and_goes() {
    let (_server, client) = start().await;
    let mut namespace = expect(client.post(NAMESPACES, &json!({"metadata": {"name": "n"}})).await, 201);
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    let path = format!("{NAMESPACES}/n/finalize");
    namespace["spec"]["finalizers"] = json!(["kubernetes", "e2e.example.com/fakeFinalizer"]);
    let mut held = expect(client.put(&path, &namespace).await, 200);
    assert_eq!(held["spec"]["finalizers"], namespace["spec"]["finalizers"]);
    held["spec"]["finalizers"] = json!(["kubernetes"]);
    let released = expect(client.put(&path, &held).await, 200);
    assert_eq!(released["spec"]["finalizers"], json!(["kubernetes"]));
}
