//! The kinds of API priority and fairness, by all operations.

use serde_json::{Value, json};

use super::start;
use crate::client::{Client, MERGE, expect};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const ROOT: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SELECTED: &str = "labelSelector=special%3Dyes";

/// Conformance: [sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]
#[tokio::test]
async fn flow_schemas_support_all_operations() {
    let spec = json!({"matchingPrecedence": 10_000, "priorityLevelConfiguration": {"name": "global-default"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]});
    supports_all_operations("flowschemas", &spec, "/spec/matchingPrecedence", &json!(9_999)).await;
}

/// Conformance: [sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations [Conformance]
#[tokio::test]
async fn priority_levels_support_all_operations() {
    let spec =
        json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}});
    let field = "/spec/limited/nominalConcurrencyShares";
    supports_all_operations("prioritylevelconfigurations", &spec, field, &json!(4)).await;
}

async fn supports_all_operations(plural: &str, spec: &Value, field: &str, changed: &Value) {
    let (_server, client) = start().await;
    assert_is_discovered(&client, plural).await;
    let path = format!("{ROOT}/{plural}");
    let body = |name: &str| json!({"metadata": {"name": name, "labels": {"special": "yes"}}, "spec": spec});
    let mut events = client.watch(&format!("{path}?watch=1&{SELECTED}")).await;
    for name in ["one", "two", "three"] {
        expect(client.post(&path, &body(name)).await, 201);
        assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
    }
    let one = format!("{path}/one");
    assert_eq!(expect(client.get(&one).await, 200)["spec"], with_defaults(&client, &path, spec).await);
    let all = format!("{path}?{SELECTED}");
    assert_eq!(expect(client.get(&all).await, 200)["items"].as_array().unwrap().len(), 3);

    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let mut object = expect(client.patch(&one, MERGE, &patch).await, 200);
    assert_eq!(object["metadata"]["annotations"]["patched"], "true");
    assert_eq!(events.soon().await.unwrap()["type"], "MODIFIED");
    *object.pointer_mut(field).unwrap() = changed.clone();
    let updated = expect(client.put(&one, &object).await, 200);
    assert_eq!(updated.pointer(field), Some(changed));
    let told = events.soon().await.unwrap();
    assert_eq!((&told["type"], told["object"].pointer(field)), (&json!("MODIFIED"), Some(changed)));
    write_status(&client, &one).await;

    expect(client.delete(&one).await, 200);
    expect(client.get(&one).await, 404);
    assert_eq!(expect(client.get(&all).await, 200)["items"].as_array().unwrap().len(), 2);
    expect(client.delete(&all).await, 200);
    assert_eq!(expect(client.get(&all).await, 200)["items"], json!([]));
}

/// The spec as it is answered for another object.
async fn with_defaults(client: &Client, path: &str, spec: &Value) -> Value {
    let dry = json!({"metadata": {"name": "dry"}, "spec": spec});
    expect(client.post(&format!("{path}?dryRun=All"), &dry).await, 201)["spec"].clone()
}

async fn write_status(client: &Client, one: &str) {
    let status = format!("{one}/status");
    let condition = json!({"type": "PatchStatusFailed", "status": "False", "reason": "e2e", "message": "m"});
    let patch = json!({"status": {"conditions": [condition]}});
    let mut patched = expect(client.patch(&status, MERGE, &patch).await, 200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "PatchStatusFailed");
    patched["status"]["conditions"][0]["status"] = "True".into();
    let updated = expect(client.put(&status, &patched).await, 200);
    assert_eq!(updated["status"]["conditions"][0]["status"], "True");
    assert_eq!(expect(client.get(&status).await, 200)["status"], updated["status"]);
}

async fn assert_is_discovered(client: &Client, plural: &str) {
    let groups = expect(client.get("/apis").await, 200);
    let group = groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == GROUP).expect("the group");
    let version = format!("{GROUP}/v1");
    assert!(group["versions"].as_array().unwrap().iter().any(|known| known["groupVersion"] == *version));
    let known = expect(client.get(&format!("/apis/{GROUP}")).await, 200);
    assert!(known["versions"].as_array().unwrap().iter().any(|known| known["groupVersion"] == *version));
    let resources = expect(client.get(ROOT).await, 200);
    for name in [plural.to_owned(), format!("{plural}/status")] {
        assert!(resources["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == *name), "{name}");
    }
}
