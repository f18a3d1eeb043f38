//! Admission webhooks: servers of other people that change requests or refuse them.

use std::time::Duration;

use apiserver::testing::TestServer;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, expect};
use crate::hook_server::{HookServer, allow, deny, patched};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MERGE: &str = "application/merge-patch+json";

/// A server under test, its administrator, and a webhook.
pub(crate) struct Stage {
    pub(crate) server: TestServer,
    pub(crate) client: Client,
    pub(crate) hook: HookServer,
}

impl Stage {
    pub(crate) async fn with(respond: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let server = TestServer::start().await;
        Self { client: Client::admin(&server), server, hook: HookServer::start(respond).await }
    }

    /// A webhook that is asked about these operations on resources of the core group.
    pub(crate) fn webhook(&self, operations: &[&str], resources: &[&str]) -> Value {
        json!({
            "name": "hook.example.com", "clientConfig": self.hook.client_config("/"), "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "rules": [{"operations": operations, "apiGroups": [""], "apiVersions": ["v1"], "resources": resources}],
        })
    }

    pub(crate) async fn configure(&self, kind: &str, name: &str, webhooks: &Value) -> Value {
        let body = json!({"metadata": {"name": name, "labels": {"test": "hooks"}}, "webhooks": webhooks});
        let made = expect(self.client.post(&path(kind), &body).await, 201);
        self.settle().await;
        made
    }

    /// Waits until the server obeys what was written.
    pub(crate) async fn settle(&self) {
        self.server.server().registry().freshen().await.unwrap();
    }

    pub(crate) async fn map(&self, name: &str, data: &Value) -> Answer {
        self.client.post(MAPS, &json!({"metadata": {"name": name}, "data": data})).await
    }
}

pub(crate) fn path(kind: &str) -> String {
    format!("{GROUP}/{kind}webhookconfigurations")
}

fn denied(answer: Answer, why: &str) {
    let text = format!("admission webhook \"hook.example.com\" denied the request: {why}");
    assert_eq!(expect(answer, 403)["message"], text);
}

fn add_key(key: &str, needs: &str, request: &Value) -> Value {
    let data = &request["object"]["data"];
    if data.get(needs).is_none() || data.get(key).is_some() {
        return allow(request);
    }
    patched(&json!([{"op": "add", "path": format!("/data/{key}"), "value": "yes"}]))
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]
#[tokio::test]
async fn what_a_validating_webhook_refuses_is_neither_created_nor_changed() {
    let stage = Stage::with(|request| match request["object"]["data"]["bad"].as_str() {
        Some(_) => deny("it is bad"),
        None if request["object"]["metadata"]["name"] == "bad-pod" => deny("so is the pod"),
        None => allow(request),
    })
    .await;
    let mut hook = stage.webhook(&["CREATE", "UPDATE"], &["pods", "configmaps"]);
    let exempt = json!({"key": "exempt", "operator": "DoesNotExist"});
    hook["namespaceSelector"] = json!({"matchExpressions": [exempt]});
    stage.configure("validating", "deny", &json!([hook])).await;
    denied(stage.map("a", &json!({"bad": "yes"})).await, "it is bad");
    let pod = json!({"metadata": {"name": "bad-pod"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    denied(stage.client.post(PODS, &pod).await, "so is the pod");
    expect(stage.map("good", &json!({"a": "b"})).await, 201);
    let bad = json!({"data": {"bad": "yes"}});
    denied(stage.client.patch(&format!("{MAPS}/good"), MERGE, &bad).await, "it is bad");
    let whole = json!({"metadata": {"name": "good"}, "data": {"bad": "yes"}});
    denied(stage.client.put(&format!("{MAPS}/good"), &whole).await, "it is bad");
    let namespace = json!({"metadata": {"name": "free", "labels": {"exempt": "yes"}}});
    expect(stage.client.post("/api/v1/namespaces", &namespace).await, 201);
    let map = json!({"metadata": {"name": "a"}, "data": {"bad": "yes"}});
    expect(stage.client.post("/api/v1/namespaces/free/configmaps", &map).await, 201);
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]
#[tokio::test]
async fn connections_to_pods_can_be_refused() {
    let stage = Stage::with(|_| deny("stay out")).await;
    let hook = stage.webhook(&["CONNECT"], &["pods/attach"]);
    stage.configure("validating", "deny", &json!([hook])).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    expect(stage.client.post(PODS, &pod).await, 201);
    let attach = format!("{PODS}/p/attach?stdin=1&container=c");
    denied(stage.client.send(Method::POST, &attach, &[], Vec::new()).await, "stay out");
    let [asked] = stage.hook.asked().try_into().unwrap();
    let options = json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true, "container": "c"});
    assert_eq!(asked["object"], options);
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "PodAttachOptions"}));
    assert_eq!((&asked["subResource"], &asked["operation"]), (&json!("attach"), &json!("CONNECT")));
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation [Conformance]
#[tokio::test]
async fn custom_resource_definitions_can_be_refused() {
    let stage = Stage::with(|_| deny("no more kinds")).await;
    let mut hook = stage.webhook(&["CREATE"], &["customresourcedefinitions"]);
    hook["rules"][0]["apiGroups"] = json!(["apiextensions.k8s.io"]);
    stage.configure("validating", "deny", &json!([hook])).await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"});
    let spec = json!({"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]});
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": spec});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    denied(stage.client.post(definitions, &definition).await, "no more kinds");
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]
#[tokio::test]
async fn mutating_webhooks_are_called_in_order_and_see_what_came_before() {
    let stage = Stage::with(|request| match request["object"]["data"].get("first") {
        Some(_) => add_key("second", "first", request),
        None => add_key("first", "start", request),
    })
    .await;
    let hooks = ["one.hook.example.com", "two.hook.example.com"].map(|name| {
        let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
        hook["name"] = name.into();
        hook
    });
    stage.configure("mutating", "order", &json!(hooks)).await;
    let made = expect(stage.map("a", &json!({"start": "x"})).await, 201);
    assert_eq!(made["data"], json!({"start": "x", "first": "yes", "second": "yes"}));
    assert_eq!(expect(stage.client.get(&format!("{MAPS}/a")).await, 200)["data"], made["data"]);
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation [Conformance]
#[tokio::test]
async fn what_a_webhook_adds_gets_its_defaults() {
    let stage = Stage::with(|_| {
        patched(&json!([{"op": "add", "path": "/spec/initContainers", "value": [{"name": "added", "image": "i"}]}]))
    })
    .await;
    stage.configure("mutating", "init", &json!([stage.webhook(&["CREATE"], &["pods"])])).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = expect(stage.client.post(PODS, &pod).await, 201);
    let added = &made["spec"]["initContainers"][0];
    assert_eq!((&added["name"], &added["terminationMessagePolicy"]), (&json!("added"), &json!("File")));
    // The plugins before the webhooks see the addition too.
    assert!(added["volumeMounts"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"), "{made}");
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]
#[tokio::test]
async fn a_webhook_that_does_not_answer_in_time_fails_by_its_policy() {
    let stage = Stage::with(allow).await;
    let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
    hook["clientConfig"] = stage.hook.client_config("/hang");
    hook["timeoutSeconds"] = 1.into();
    stage.configure("validating", "slow", &json!([hook])).await;
    let url = format!("https://localhost:{}/hang?timeout=1s", stage.hook.port);
    let why = format!("failed to call webhook: Post \"{url}\": context deadline exceeded");
    let text = format!("Internal error occurred: failed calling webhook \"hook.example.com\": {why}");
    assert_eq!(expect(stage.map("a", &json!({})).await, 500)["message"], text);
    let ignore = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]);
    let slow = format!("{}/slow", path("validating"));
    expect(stage.client.patch(&slow, "application/json-patch+json", &ignore).await, 200);
    stage.settle().await;
    let began = std::time::Instant::now();
    expect(stage.map("a", &json!({})).await, 201);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects [Conformance]
#[tokio::test]
async fn webhooks_have_no_say_about_webhooks() {
    let stage = Stage::with(|_| deny("never")).await;
    let mut hook = stage.webhook(&["*"], &["*"]);
    hook["rules"][0]["apiGroups"] = json!(["*"]);
    hook["rules"][0]["apiVersions"] = json!(["*"]);
    for kind in ["validating", "mutating"] {
        stage.configure(kind, "deny-all", &json!([hook])).await;
    }
    denied(stage.map("a", &json!({})).await, "never");
    let asked = stage.hook.asked().len();
    for kind in ["validating", "mutating"] {
        let made = stage.configure(kind, "dummy", &json!([])).await;
        assert_eq!(made["metadata"]["labels"], json!({"test": "hooks"}));
        expect(stage.client.delete(&format!("{}/dummy", path(kind))).await, 200);
        expect(stage.client.delete(&format!("{}/deny-all", path(kind))).await, 200);
    }
    assert_eq!((stage.hook.asked().len(), asked), (0, 1));
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook [Conformance]
#[tokio::test]
async fn a_webhook_that_cannot_be_trusted_refuses_everything() {
    let stage = Stage::with(allow).await;
    let mut hook = stage.webhook(&["CREATE"], &["configmaps"]);
    hook["clientConfig"]["caBundle"] = HookServer::start(allow).await.ca_bundle.into();
    stage.configure("validating", "closed", &json!([hook])).await;
    let message = expect(stage.map("a", &json!({})).await, 500)["message"].to_string();
    assert!(message.contains("failed calling webhook") && message.contains("certificate"), "{message}");
    assert!(stage.hook.asked().is_empty());
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]
#[tokio::test]
async fn mutating_webhooks_are_listed_and_deleted_as_a_collection() {
    let stage = Stage::with(|request| add_key("first", "start", request)).await;
    for name in ["a", "b", "c"] {
        stage.configure("mutating", name, &json!([stage.webhook(&["CREATE"], &["configmaps"])])).await;
    }
    let selected = format!("{}?labelSelector=test%3Dhooks", path("mutating"));
    assert_eq!(expect(stage.client.get(&selected).await, 200)["items"].as_array().unwrap().len(), 3);
    let made = expect(stage.map("one", &json!({"start": "x"})).await, 201);
    assert_eq!(made["data"]["first"], "yes");
    expect(stage.client.delete(&selected).await, 200);
    stage.settle().await;
    assert_eq!(expect(stage.map("two", &json!({"start": "x"})).await, 201)["data"], json!({"start": "x"}));
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]
#[tokio::test]
async fn validating_webhooks_are_listed_and_deleted_as_a_collection() {
    let stage = Stage::with(|_| deny("no")).await;
    for name in ["a", "b", "c"] {
        stage.configure("validating", name, &json!([stage.webhook(&["CREATE"], &["configmaps"])])).await;
    }
    let selected = format!("{}?labelSelector=test%3Dhooks", path("validating"));
    assert_eq!(expect(stage.client.get(&selected).await, 200)["items"].as_array().unwrap().len(), 3);
    denied(stage.map("one", &json!({})).await, "no");
    expect(stage.client.delete(&selected).await, 200);
    stage.settle().await;
    expect(stage.map("one", &json!({})).await, 201);
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]
#[tokio::test]
async fn a_changed_mutating_webhook_is_obeyed_as_it_is() {
    let stage = Stage::with(|request| add_key("first", "start", request)).await;
    let mut made = stage.configure("mutating", "m", &json!([stage.webhook(&["CREATE"], &["configmaps"])])).await;
    let object = format!("{}/m", path("mutating"));
    made["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
    expect(stage.client.put(&object, &made).await, 200);
    stage.settle().await;
    assert_eq!(expect(stage.map("one", &json!({"start": "x"})).await, 201)["data"], json!({"start": "x"}));
    let create = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]);
    expect(stage.client.patch(&object, "application/json-patch+json", &create).await, 200);
    stage.settle().await;
    assert_eq!(expect(stage.map("two", &json!({"start": "x"})).await, 201)["data"]["first"], "yes");
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]
#[tokio::test]
async fn a_changed_validating_webhook_is_obeyed_as_it_is() {
    let stage = Stage::with(|_| deny("no")).await;
    let mut made = stage.configure("validating", "v", &json!([stage.webhook(&["CREATE"], &["configmaps"])])).await;
    let object = format!("{}/v", path("validating"));
    made["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
    expect(stage.client.put(&object, &made).await, 200);
    stage.settle().await;
    expect(stage.map("one", &json!({})).await, 201);
    let create = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]);
    expect(stage.client.patch(&object, "application/json-patch+json", &create).await, 200);
    stage.settle().await;
    denied(stage.map("two", &json!({})).await, "no");
}

/// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]
#[tokio::test]
async fn discovery_names_the_webhook_configurations() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let groups = expect(client.get("/apis").await, 200);
    let group =
        groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == "admissionregistration.k8s.io");
    assert!(group.unwrap()["versions"].as_array().unwrap().iter().any(|version| version["version"] == "v1"));
    let resources = expect(client.get(GROUP).await, 200);
    let names: Vec<&str> =
        resources["resources"].as_array().unwrap().iter().filter_map(|resource| resource["name"].as_str()).collect();
    for kind in ["mutating", "validating"] {
        assert!(names.contains(&format!("{kind}webhookconfigurations").as_str()), "{names:?}");
    }
}
