//! The audit log: events of requests, with what admission adds to them.

use std::path::PathBuf;
use std::sync::Arc;

use apiserver::testing::TestServer;
use apiserver::{AuditConfig, AuditDelivery, AuditLogConfig, AuditMode, Config};
use http::Request;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;

use crate::client::{Client, MERGE, expect};
use crate::webhooks::Stage as Webhooks;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";

/// A server that records requests about ConfigMaps and Pods, and its log.
struct Stage {
    directory: tempfile::TempDir,
    server: TestServer,
    client: Client,
}

impl Stage {
    async fn new(level: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules = json!([
            {"level": "None", "userGroups": ["system:nodes"]},
            {"level": level, "resources": [{"group": "", "resources": ["configmaps", "pods", "secrets"]}]},
        ]);
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules, "omitStages": ["RequestReceived"],
            "omitManagedFields": true,
        });
        std::fs::write(directory.path().join("policy.yaml"), policy.to_string()).unwrap();
        let audit = AuditConfig {
            policy: Some(directory.path().join("policy.yaml")),
            log: AuditLogConfig { path: Some(directory.path().join("audit.log")), ..AuditLogConfig::default() },
            ..AuditConfig::default()
        };
        let server =
            TestServer::with(Config { audit, ..Config::default() }, Arc::new(EmbeddedStore::in_memory())).await;
        Self { client: Client::admin(&server), server, directory }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("audit.log")
    }

    /// The events that there are by now.
    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn last(&self) -> Value {
        self.events().pop().unwrap()
    }

    async fn policy(&self, spec: Value, actions: Value) {
        let rules = json!([{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
        }]);
        let mut spec = spec;
        spec["matchConstraints"] = json!({"resourceRules": rules});
        let path = format!("{POLICIES}/validatingadmissionpolicies");
        expect(self.client.post(&path, &json!({"metadata": {"name": "p"}, "spec": spec})).await, 201);
        let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": actions}});
        expect(self.client.post(&format!("{POLICIES}/validatingadmissionpolicybindings"), &binding).await, 201);
        self.server.server().registry().freshen().await.unwrap();
    }
}

#[tokio::test]
async fn an_event_says_who_did_what_and_how_it_ended() {
    let stage = Stage::new("Metadata").await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "secret"}});
    expect(stage.client.post(&format!("{MAPS}?fieldManager=m"), &map).await, 201);
    let event = stage.last();
    let want = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete",
        "verb": "create", "requestURI": "/api/v1/namespaces/default/configmaps?fieldManager=m",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    });
    for (field, value) in want.as_object().unwrap() {
        assert_eq!(&event[field], value, "{field}");
    }
    assert_eq!(event["user"]["username"], "test-admin");
    assert!(event.get("requestObject").is_none() && event["auditID"].as_str().unwrap().len() == 36);
    assert!(event["requestReceivedTimestamp"].as_str() <= event["stageTimestamp"].as_str());
    expect(stage.client.get(&format!("{MAPS}/none")).await, 404);
    let status = &stage.last()["responseStatus"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(404), &json!("NotFound")));
    let events = stage.events().len();
    expect(stage.client.get("/api/v1/namespaces/default/services").await, 200);
    assert_eq!(stage.events().len(), events, "what the policy does not name is not recorded");
}

#[tokio::test]
async fn objects_are_recorded_where_the_policy_wants_them() {
    let stage = Stage::new("RequestResponse").await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    expect(stage.client.post(MAPS, &map).await, 201);
    let event = stage.last();
    assert_eq!(event["requestObject"], map);
    assert_eq!(event["responseObject"]["data"], json!({"k": "v"}));
    assert!(event["responseObject"]["metadata"].get("managedFields").is_none());
    let patch = json!({"data": {"k": "w"}});
    let answer = expect(stage.client.patch(&format!("{MAPS}/a"), MERGE, &patch).await, 200);
    assert!(answer["metadata"].get("managedFields").is_some(), "only the log goes without");
    assert_eq!(stage.last()["requestObject"], patch);
    assert_eq!(expect(stage.client.get(MAPS).await, 200)["items"].as_array().unwrap().len(), 1);
    assert!(stage.last()["responseObject"]["items"][0]["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn a_watch_is_recorded_at_its_beginning_and_at_its_end() {
    let stage = Stage::new("Metadata").await;
    let stages = || -> Vec<String> {
        let events = stage.events().into_iter().filter(|event| event["verb"] == "watch");
        events.map(|event| event["stage"].as_str().unwrap().to_owned()).collect()
    };
    let watch = stage.client.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(stages(), ["ResponseStarted"]);
    drop(watch);
    assert_eq!(stages(), ["ResponseStarted", "ResponseComplete"]);
}

#[tokio::test]
async fn who_is_refused_and_who_acts_as_somebody_else_is_recorded() {
    let stage = Stage::new("Metadata").await;
    let jane = [("impersonate-user", "jane"), ("impersonate-group", "clerks")];
    let request = |path: &str| {
        let request = jane.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        request.body(axum::body::Body::empty()).unwrap()
    };
    assert_eq!(stage.client.raw(request("/api/v1/namespaces/default/secrets")).await.status().as_u16(), 403);
    let event = stage.last();
    assert_eq!(event["user"]["username"], "test-admin");
    assert_eq!(event["impersonatedUser"]["username"], "jane");
    assert_eq!(event["impersonatedUser"]["groups"], json!(["clerks", "system:authenticated"]));
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");
    let bad = Request::get(MAPS).header("authorization", "Bearer nonsense").body(axum::body::Body::empty()).unwrap();
    let anonymous = Client::of(stage.server.anonymous());
    assert_eq!(anonymous.raw(bad).await.status().as_u16(), 401);
    let event = stage.last();
    assert_eq!((&event["stage"], &event["responseStatus"]["code"]), (&json!("ResponseStarted"), &json!(401)));
}

#[tokio::test]
async fn policies_annotate_the_event_and_report_what_failed() {
    let stage = Stage::new("Metadata").await;
    let spec = json!({
        "validations": [{"expression": "true"}, {"expression": "size(object.data) < 2", "message": "too much"}],
        "auditAnnotations": [
            {"key": "keys", "valueExpression": "'has ' + string(size(object.data))"},
            {"key": "none", "valueExpression": "null"},
        ],
    });
    stage.policy(spec, json!(["Audit"])).await;
    expect(stage.client.post(MAPS, &json!({"metadata": {"name": "a"}, "data": {"1": "", "2": ""}})).await, 201);
    let annotations = stage.last()["annotations"].clone();
    assert_eq!(annotations["p/keys"], "has 2");
    assert!(annotations.get("p/none").is_none());
    let failure =
        r#"[{"message":"too much","policy":"p","binding":"b","expressionIndex":1,"validationActions":["Audit"]}]"#;
    assert_eq!(annotations["validation.policy.admission.k8s.io/validation_failure"], failure);
    // An annotation that cannot be made refuses the request, whatever the binding's actions.
    let refused = expect(stage.client.post(MAPS, &json!({"metadata": {"name": "b"}})).await, 422)["message"].clone();
    let why = "denied request: expression ''has ' + string(size(object.data))' resulted in error: no such key: data";
    assert!(refused.as_str().unwrap().ends_with(why), "{refused}");
}

#[tokio::test]
async fn pod_security_reports_what_a_namespace_wants_to_know_of() {
    let stage = Stage::new("Metadata").await;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/audit": "baseline"}}});
    expect(stage.client.patch("/api/v1/namespaces/default", MERGE, &label).await, 200);
    stage.server.server().registry().freshen().await.unwrap();
    let container = json!({"name": "c", "image": "i", "securityContext": {"privileged": true}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    expect(stage.client.post("/api/v1/namespaces/default/pods", &pod).await, 201);
    let why = stage.last()["annotations"]["pod-security.kubernetes.io/audit-violations"].clone();
    assert!(why.as_str().unwrap().starts_with("would violate PodSecurity \"baseline:latest\": privileged"), "{why}");
}

#[tokio::test]
async fn webhooks_annotate_the_event() {
    let stage = Stage::new("Metadata").await;
    let hooks = Webhooks::with(|_| json!({"allowed": true, "auditAnnotations": {"verdict": "fine"}})).await;
    let hook = hooks.webhook(&["CREATE"], &["configmaps"]);
    let body = json!({"metadata": {"name": "w"}, "webhooks": [hook]});
    expect(stage.client.post(&format!("{POLICIES}/validatingwebhookconfigurations"), &body).await, 201);
    stage.server.server().registry().freshen().await.unwrap();
    expect(stage.client.post(MAPS, &json!({"metadata": {"name": "a"}})).await, 201);
    assert_eq!(stage.last()["annotations"]["hook.example.com/verdict"], "fine");
}

#[tokio::test]
async fn what_webhooks_change_and_whether_they_fail_is_recorded() {
    const PATCH: &str = "W3sib3AiOiJhZGQiLCJwYXRoIjoiL21ldGFkYXRhL2xhYmVscyIsInZhbHVlIjp7ImEiOiJiIn19XQ==";
    for level in ["Metadata", "Request"] {
        let stage = Stage::new(level).await;
        let hooks = Webhooks::with(|_| json!({"allowed": true, "patchType": "JSONPatch", "patch": PATCH})).await;
        let mut gone = hooks.webhook(&["CREATE"], &["configmaps"]);
        gone["clientConfig"] = json!({"url": "https://127.0.0.1:1/"});
        gone["failurePolicy"] = "Ignore".into();
        gone["name"] = "gone.example.com".into();
        let both = json!([hooks.webhook(&["CREATE"], &["configmaps"]), gone]);
        for (kind, webhooks) in [("mutating", &both), ("validating", &json!([gone]))] {
            let body = json!({"metadata": {"name": "w"}, "webhooks": webhooks});
            expect(stage.client.post(&format!("{POLICIES}/{kind}webhookconfigurations"), &body).await, 201);
        }
        stage.server.server().registry().freshen().await.unwrap();
        expect(stage.client.post(MAPS, &json!({"metadata": {"name": "a"}})).await, 201);
        let annotations = stage.last()["annotations"].clone();
        let note = |what: &str, index: usize| {
            annotations.get(format!("{what}.webhook.admission.k8s.io/round_0_index_{index}"))
        };
        let called = |webhook: &str, mutated: bool| {
            json!(format!(r#"{{"configuration":"w","webhook":"{webhook}.example.com","mutated":{mutated}}}"#))
        };
        assert_eq!(note("mutation", 0), Some(&called("hook", true)));
        assert_eq!(note("mutation", 1), Some(&called("gone", false)));
        let gone = json!("gone.example.com");
        assert_eq!((note("failed-open.mutation", 1), note("failed-open.validating", 0)), (Some(&gone), Some(&gone)));
        let patch = r#"{"configuration":"w","webhook":"hook.example.com","patch":[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}],"patchType":"JSONPatch"}"#;
        assert_eq!(note("patch", 0), (level == "Request").then(|| json!(patch)).as_ref());
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_recorded_all_the_same() {
    let stage = Stage::new("Metadata").await;
    let hooks = Webhooks::with(|_| json!({"allowed": true})).await;
    let mut hook = hooks.webhook(&["CREATE"], &["configmaps"]);
    hook["clientConfig"] = hooks.hook.client_config("/hang");
    let body = json!({"metadata": {"name": "w"}, "webhooks": [hook]});
    expect(stage.client.post(&format!("{POLICIES}/validatingwebhookconfigurations"), &body).await, 201);
    stage.server.server().registry().freshen().await.unwrap();
    expect(stage.client.post(&format!("{MAPS}?timeout=50ms"), &json!({"metadata": {"name": "a"}})).await, 504);
    let event = stage.last();
    assert_eq!((&event["stage"], &event["verb"]), (&json!("ResponseComplete"), &json!("create")));
    assert_eq!((&event["objectRef"]["name"], &event["responseStatus"]["code"]), (&json!("a"), &json!(504)));
}

#[tokio::test]
async fn a_strict_server_refuses_what_it_cannot_record() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, verbs: [delete]}]")
        .unwrap();
    for (mode, status) in [(AuditMode::Blocking, 404), (AuditMode::BlockingStrict, 500)] {
        let log = AuditLogConfig { path: Some(PathBuf::from("/dev/full")), ..AuditLogConfig::default() };
        let log = AuditLogConfig { delivery: AuditDelivery { mode, ..log.delivery }, ..log };
        let audit = AuditConfig { policy: Some(policy.clone()), log, ..AuditConfig::default() };
        let config = Config { audit, ..Config::default() };
        let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        expect(Client::admin(&server).delete(&format!("{MAPS}/none")).await, status);
    }
}

#[tokio::test]
async fn every_answer_names_its_request_as_the_event_does() {
    let stage = Stage::new("Metadata").await;
    let ask = async |id: &str| {
        let mut request = Request::get(format!("{MAPS}/none"));
        if !id.is_empty() {
            request = request.header("audit-id", id);
        }
        let answer = stage.client.raw(request.body(axum::body::Body::empty()).unwrap()).await;
        answer.headers()["audit-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask("mine").await, "mine");
    assert_eq!(stage.last()["auditID"], "mine");
    let made = ask("").await;
    assert_eq!((made.len(), made == ask("").await), (36, false));
    assert_eq!(ask(&"x".repeat(65)).await.len(), 36, "too long a name is not taken");
}
