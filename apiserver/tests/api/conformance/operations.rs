//! Kinds of which the suite wants to see every operation, and that discovery has them.

use serde_json::{Value, json};

use super::start_without_fairness;
use crate::client::{Client, MERGE, expect};

const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const SELECTED: &str = "labelSelector=special%3Dyes";
/// An address, which some kinds are named after.
const DRY: &str = "192.0.2.99";

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
    let condition = json!({"type": "PatchStatusFailed", "status": "False", "reason": "e2e", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"conditions": [condition]});
    let path = format!("/apis/{group}/v1/{plural}");
    let object = json!({"spec": spec});
    Operations { group, plural, path, names: NAMES, object, field, changed, status }.work().await;
}

const NAMES: [&str; 3] = ["one", "two", "three"];

/// A kind, and what is done with its objects.
pub(super) struct Operations<'a> {
    pub(super) group: &'a str,
    pub(super) plural: &'a str,
    /// Where its objects are.
    pub(super) path: String,
    pub(super) names: [&'a str; 3],
    /// An object but for its name and labels.
    pub(super) object: Value,
    /// What an update changes, and to what.
    pub(super) field: &'a str,
    pub(super) changed: &'a Value,
    /// What is written where the kind has a status of its own.
    pub(super) status: Value,
}

impl Operations<'_> {
    pub(super) async fn work(&self) {
        let (_server, client) = start_without_fairness().await;
        let has_status = assert_is_discovered(&client, self.group, self.plural).await;
        let path = &self.path;
        let mut events = client.watch(&format!("{path}?watch=1&{SELECTED}")).await;
        for name in self.names {
            expect(client.post(path, &self.named(name)).await, 201);
            assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
        }
        let one = format!("{path}/{}", self.names[0]);
        let mut object = expect(client.get(&one).await, 200);
        let mut wanted = expect(client.post(&format!("{path}?dryRun=All"), &self.named(DRY)).await, 201);
        wanted["metadata"] = object["metadata"].clone();
        assert_eq!(object, wanted, "it has its defaults");
        let all = format!("{path}?{SELECTED}");
        assert_eq!(expect(client.get(&all).await, 200)["items"].as_array().unwrap().len(), 3);

        let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
        object = expect(client.patch(&one, MERGE, &patch).await, 200);
        assert_eq!(object["metadata"]["annotations"]["patched"], "true");
        assert_eq!(events.soon().await.unwrap()["type"], "MODIFIED");
        *object.pointer_mut(self.field).unwrap() = self.changed.clone();
        let updated = expect(client.put(&one, &object).await, 200);
        assert_eq!(updated.pointer(self.field), Some(self.changed));
        let told = events.soon().await.unwrap();
        assert_eq!((&told["type"], told["object"].pointer(self.field)), (&json!("MODIFIED"), Some(self.changed)));
        if has_status {
            self.write_status(&client, &one).await;
        }

        expect(client.delete(&one).await, 200);
        expect(client.get(&one).await, 404);
        assert_eq!(expect(client.get(&all).await, 200)["items"].as_array().unwrap().len(), 2);
        expect(client.delete(&all).await, 200);
        assert_eq!(expect(client.get(&all).await, 200)["items"], json!([]));
    }

    fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        object["metadata"] = json!({"name": name, "labels": {"special": "yes"}});
        object
    }

    async fn write_status(&self, client: &Client, one: &str) {
        let path = format!("{one}/status");
        let patched = expect(client.patch(&path, MERGE, &json!({"status": self.status})).await, 200);
        assert_eq!(patched["status"], self.status);
        let mut emptied = patched.clone();
        emptied["status"] = json!({});
        expect(client.put(&path, &emptied).await, 200);
        assert_ne!(expect(client.get(&path).await, 200)["status"], self.status);
    }
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
