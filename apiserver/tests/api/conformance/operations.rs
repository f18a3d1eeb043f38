//! Kinds of which the suite wants to see every operation, and that discovery has them.

use serde_json::{Value, json};

use super::start_without_fairness;
use crate::client::{Client, MERGE, expect};

const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const SELECTED: &str = "labelSelector=special%3Dyes";

/// Conformance: [sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]
#[tokio::test]
async fn flow_schemas_support_all_operations() {
    let spec = json!({"matchingPrecedence": 10_000, "priorityLevelConfiguration": {"name": "global-default"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]});
    supports_all_operations(FLOW_CONTROL, "flowschemas", &spec, "/spec/matchingPrecedence", &json!(9_999)).await;
}

/// Conformance: [sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations [Conformance]
#[tokio::test]
async fn priority_levels_support_all_operations() {
    let spec =
        json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}});
    let field = "/spec/limited/nominalConcurrencyShares";
    supports_all_operations(FLOW_CONTROL, "prioritylevelconfigurations", &spec, field, &json!(4)).await;
}

fn policy_spec(rest: &Value) -> Value {
    let rule =
        json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]});
    let mut spec = json!({"matchConstraints": {"resourceRules": [rule]}, "failurePolicy": "Ignore"});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    spec
}

/// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]
#[tokio::test]
async fn validating_policies_support_all_operations() {
    let spec = policy_spec(&json!({"validations": [{"expression": "object.spec.replicas <= 100"}]}));
    let field = "/spec/validations/0/expression";
    supports_all_operations(ADMISSION, "validatingadmissionpolicies", &spec, field, &json!("true")).await;
}

/// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]
#[tokio::test]
async fn bindings_of_validating_policies_support_all_operations() {
    let spec = json!({"policyName": "p", "validationActions": ["Deny"]});
    let plural = "validatingadmissionpolicybindings";
    supports_all_operations(ADMISSION, plural, &spec, "/spec/policyName", &json!("q")).await;
}

/// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations [Conformance]
#[tokio::test]
async fn mutating_policies_support_all_operations() {
    let expression = "Object{metadata: Object.metadata{labels: {'a': 'b'}}}";
    let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    let spec = policy_spec(&json!({"mutations": [mutation], "reinvocationPolicy": "Never"}));
    let field = "/spec/reinvocationPolicy";
    supports_all_operations(ADMISSION, "mutatingadmissionpolicies", &spec, field, &json!("IfNeeded")).await;
}

/// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations [Conformance]
#[tokio::test]
async fn bindings_of_mutating_policies_support_all_operations() {
    let plural = "mutatingadmissionpolicybindings";
    let spec = json!({"policyName": "p"});
    supports_all_operations(ADMISSION, plural, &spec, "/spec/policyName", &json!("q")).await;
}

async fn supports_all_operations(group: &str, plural: &str, spec: &Value, field: &str, changed: &Value) {
    let (_server, client) = start_without_fairness().await;
    let has_status = assert_is_discovered(&client, group, plural).await;
    let path = format!("/apis/{group}/v1/{plural}");
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
    if has_status {
        write_status(&client, &one).await;
    }

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
    let condition = json!({"type": "PatchStatusFailed", "status": "False", "reason": "e2e", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let patch = json!({"status": {"conditions": [condition]}});
    let mut patched = expect(client.patch(&status, MERGE, &patch).await, 200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "PatchStatusFailed");
    patched["status"]["conditions"][0]["status"] = "True".into();
    let updated = expect(client.put(&status, &patched).await, 200);
    assert_eq!(updated["status"]["conditions"][0]["status"], "True");
    assert_eq!(expect(client.get(&status).await, 200)["status"], updated["status"]);
}

/// Asserts that discovery has the resource; tells whether it has a status of its own.
async fn assert_is_discovered(client: &Client, group: &str, plural: &str) -> bool {
    let has = |list: &Value, field: &str, wanted: &str| {
        list.as_array().into_iter().flatten().any(|known| known[field] == *wanted)
    };
    let groups = expect(client.get("/apis").await, 200);
    assert!(has(&groups["groups"], "name", group));
    let known = expect(client.get(&format!("/apis/{group}")).await, 200);
    assert!(has(&known["versions"], "groupVersion", &format!("{group}/v1")));
    let resources = expect(client.get(&format!("/apis/{group}/v1")).await, 200);
    assert!(has(&resources["resources"], "name", plural));
    has(&resources["resources"], "name", &format!("{plural}/status"))
}
