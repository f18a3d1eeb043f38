//! Webhooks and custom resources.

use serde_json::{Value, json};

use crate::client::{MERGE, expect};
use crate::custom::versions::{converter, converting};
use crate::custom::{DEFINITIONS, WIDGETS, WIDGETS_DEFINITION, define, definition, fields, version, widget, widgets};
use crate::hook_server::{allow, deny, patched};
use crate::webhooks::Stage;

impl Stage {
    /// Asks the webhook about widgets.
    async fn watch_widgets(&self, kind: &str, operations: &[&str]) {
        let mut hook = self.webhook(operations, &["widgets"]);
        hook["rules"][0]["apiGroups"] = json!(["example.com"]);
        hook["rules"][0]["apiVersions"] = json!(["*"]);
        self.configure(kind, "widgets", &json!([hook])).await;
    }
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource
/// creation, update and deletion [Conformance]
#[tokio::test]
async fn custom_resources_can_be_refused_at_birth_change_and_death() {
    let stage = Stage::with(|request| {
        let now = &request["object"]["spec"]["name"];
        match (request["operation"].as_str(), now.as_str()) {
            (Some("DELETE"), _) if request["oldObject"]["spec"]["name"] == "kept" => deny("it is kept"),
            (Some("CREATE" | "UPDATE"), Some("bad")) => deny("it is bad"),
            _ => allow(request),
        }
    })
    .await;
    define(&stage.client, &widgets()).await;
    stage.watch_widgets("validating", &["CREATE", "UPDATE", "DELETE"]).await;
    expect(stage.client.post(WIDGETS, &widget("a", &json!({"name": "bad"}))).await, 403);
    expect(stage.client.post(WIDGETS, &widget("a", &json!({"name": "kept"}))).await, 201);
    let bad = json!({"spec": {"name": "bad"}});
    expect(stage.client.patch(&format!("{WIDGETS}/a"), MERGE, &bad).await, 403);
    expect(stage.client.delete(&format!("{WIDGETS}/a")).await, 403);
    let free = json!({"spec": {"name": "free"}});
    expect(stage.client.patch(&format!("{WIDGETS}/a"), MERGE, &free).await, 200);
    expect(stage.client.delete(&format!("{WIDGETS}/a")).await, 200);
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]
/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning
/// [Conformance]
#[tokio::test]
async fn what_a_webhook_adds_to_a_custom_resource_is_kept_if_the_schema_knows_it() {
    let stage = Stage::with(|_| {
        patched(&json!([
            {"op": "add", "path": "/spec/name", "value": "added"},
            {"op": "add", "path": "/spec/unknown", "value": "pruned"},
        ]))
    })
    .await;
    define(&stage.client, &widgets()).await;
    stage.watch_widgets("mutating", &["CREATE"]).await;
    let made = expect(stage.client.post(WIDGETS, &widget("a", &json!({"size": 1}))).await, 201);
    assert_eq!(made["spec"], json!({"size": 1, "name": "added"}));
    assert_eq!(expect(stage.client.get(&format!("{WIDGETS}/a")).await, 200)["spec"], made["spec"]);
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with
/// different stored version [Conformance]
#[tokio::test]
async fn a_webhook_changes_custom_resources_whatever_version_is_stored() {
    let stage = Stage::with(|request| match request["object"]["spec"].get("seen") {
        Some(_) => allow(request),
        None => patched(&json!([{"op": "add", "path": "/spec/seen", "value": true}])),
    })
    .await;
    let schema = fields(&json!({"size": {"type": "integer"}, "seen": {"type": "boolean"}}));
    let mut versions = json!([version("v1", &schema), version("v2", &schema)]);
    define(&stage.client, &definition(&versions)).await;
    stage.watch_widgets("mutating", &["CREATE", "UPDATE"]).await;
    let made = expect(stage.client.post(WIDGETS, &widget("a", &json!({"size": 1}))).await, 201);
    assert_eq!(made["spec"], json!({"size": 1, "seen": true}));
    versions[0]["storage"] = false.into();
    versions[1]["storage"] = true.into();
    let swap = json!({"spec": {"versions": versions}});
    let changed = expect(stage.client.patch(WIDGETS_DEFINITION, MERGE, &swap).await, 200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]), "{DEFINITIONS}");
    stage.settle().await;
    let wish = json!({"spec": {"size": 2, "seen": null}});
    let patched = expect(stage.client.patch(&format!("{WIDGETS}/a"), MERGE, &wish).await, 200);
    assert_eq!(patched["spec"], json!({"size": 2, "seen": true}));
    assert_eq!(patched["apiVersion"], "example.com/v1");
}

#[tokio::test]
async fn webhooks_and_policies_see_what_the_conversion_webhook_makes_of_objects() {
    let stage = Stage::with(|request| match request["object"]["spec"]["host"].as_str() {
        Some(host) => patched(&json!([{"op": "replace", "path": "/spec/host", "value": format!("www.{host}")}])),
        None => deny("this is not the second version"),
    })
    .await;
    let conversion = converter().await;
    define(&stage.client, &converting(&conversion, "/", "v1")).await;
    let about = |versions: Value| {
        json!([{"apiGroups": ["example.com"], "apiVersions": versions, "operations": ["CREATE", "UPDATE"],
            "resources": ["widgets"]}])
    };
    let mut hook = stage.webhook(&[], &[]);
    hook["rules"] = about(json!(["v2"]));
    hook["matchConditions"] = json!([{"name": "two", "expression": "object.spec.port != '9' || oldObject != null"}]);
    stage.configure("mutating", "second", &json!([hook])).await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let validation = json!({"expression": "object.spec.port != '7'", "message": "seven is taken"});
    let spec = json!({"matchConstraints": {"resourceRules": about(json!(["v2"]))}, "validations": [validation]});
    let policy = json!({"metadata": {"name": "p"}, "spec": spec});
    expect(stage.client.post(&format!("{group}/validatingadmissionpolicies"), &policy).await, 201);
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    expect(stage.client.post(&format!("{group}/validatingadmissionpolicybindings"), &binding).await, 201);
    stage.settle().await;
    let made = expect(stage.client.post(WIDGETS, &widget("a", &json!({"hostPort": "h:1"}))).await, 201);
    assert_eq!(made["spec"], json!({"hostPort": "www.h:1"}));
    let free = expect(stage.client.post(WIDGETS, &widget("b", &json!({"hostPort": "h:9"}))).await, 201);
    assert_eq!(free["spec"], json!({"hostPort": "h:9"}), "the condition was worked out on the second version");
    let taken = json!({"spec": {"hostPort": "h:7"}});
    let refused = expect(stage.client.patch(&format!("{WIDGETS}/b"), MERGE, &taken).await, 422);
    assert!(refused["message"].as_str().unwrap().ends_with("denied request: seven is taken"), "{refused}");
    let asked = stage.hook.asked().pop().unwrap();
    assert_eq!(asked["oldObject"]["spec"], json!({"host": "h", "port": "9"}));
    assert_eq!((&asked["resource"]["version"], &asked["requestResource"]["version"]), (&json!("v2"), &json!("v1")));
}
