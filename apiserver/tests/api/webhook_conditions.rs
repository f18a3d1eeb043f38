//! `matchConditions` of webhooks: expressions that say which requests a webhook is asked about.

use serde_json::json;

use crate::client::expect;
use crate::hook_server::{allow, deny, patched};
use crate::webhooks::{Stage, path};

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update
/// mutating webhook configurations with match conditions [Conformance]
/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update
/// validating webhook configurations with match conditions [Conformance]
#[tokio::test]
async fn match_conditions_are_stored_and_updated() {
    let stage = Stage::with(allow).await;
    for kind in ["mutating", "validating"] {
        let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
        let conditions =
            json!([{"name": "not-nodes", "expression": "!(request.userInfo.groups.exists(g, g == 'system:nodes'))"}]);
        hook["matchConditions"] = conditions.clone();
        let mut made = stage.configure(kind, "conditions", &json!([hook])).await;
        assert_eq!(made["webhooks"][0]["matchConditions"], conditions);
        let others = json!([{"name": "not-default", "expression": "request.namespace != 'default'"}]);
        made["webhooks"][0]["matchConditions"] = others.clone();
        let object = format!("{}/conditions", path(kind));
        expect(stage.client.put(&object, &made).await, 200);
        assert_eq!(expect(stage.client.get(&object).await, 200)["webhooks"][0]["matchConditions"], others);
    }
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook
/// configurations with invalid match conditions [Conformance]
/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook
/// configurations with invalid match conditions [Conformance]
#[tokio::test]
async fn match_conditions_that_do_not_compile_are_refused() {
    let stage = Stage::with(allow).await;
    for kind in ["mutating", "validating"] {
        let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
        hook["matchConditions"] = json!([{"name": "invalid-expression-1", "expression": "... [] bad expression"}]);
        let body = json!({"metadata": {"name": "invalid"}, "webhooks": [hook]});
        let refused = expect(stage.client.post(&path(kind), &body).await, 422);
        let cause = &refused["details"]["causes"][0];
        assert_eq!(cause["field"], "webhooks[0].matchConditions[0].expression");
        assert!(cause["message"].as_str().unwrap().contains("compilation failed"), "{cause}");
        expect(stage.client.get(&format!("{}/invalid", path(kind))).await, 404);
    }
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps [Conformance]
#[tokio::test]
async fn a_webhook_changes_all_but_what_its_conditions_leave_out() {
    let stage =
        Stage::with(|_| patched(&json!([{"op": "add", "path": "/data/mutation-stage-1", "value": "yes"}]))).await;
    let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
    hook["matchConditions"] = json!([{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]);
    stage.configure("mutating", "conditional", &json!([hook])).await;
    let start = json!({"mutation-start": "yes"});
    assert_eq!(expect(stage.map("skip-me", &start).await, 201)["data"], start);
    let both = json!({"mutation-start": "yes", "mutation-stage-1": "yes"});
    assert_eq!(expect(stage.map("other", &start).await, 201)["data"], both);
}

#[tokio::test]
async fn webhooks_are_asked_only_where_their_conditions_hold() {
    let stage = Stage::with(|_| deny("no")).await;
    let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
    hook["matchConditions"] = json!([
        {"name": "bad", "expression": "object.metadata.name.startsWith('bad')"},
        {"name": "broken", "expression": "object.data.size != '0'"},
    ]);
    stage.configure("validating", "conditional", &json!([hook])).await;
    expect(stage.map("good", &json!({})).await, 201);
    assert_eq!(stage.hook.asked().len(), 0);
    expect(stage.map("bad", &json!({"size": "0"})).await, 201);
    let refused = expect(stage.map("bad-2", &json!({"size": "1"})).await, 403);
    assert_eq!(refused["message"], "admission webhook \"hook.example.com\" denied the request: no");
    let broken = expect(stage.map("bad-3", &json!({})).await, 403);
    let why =
        "configmaps \"bad-3\" is forbidden: expression 'object.data.size != '0'' resulted in error: no such key: data";
    assert_eq!(broken["message"], why);
}
