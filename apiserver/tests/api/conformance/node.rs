//! What `[sig-node]` asks of the API server alone.

use serde_json::{Value, json};

use super::operations::Operations;
use super::start_without_fairness;
use crate::client::{Client, STRATEGIC, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const TEMPLATES: &str = "/api/v1/namespaces/default/podtemplates";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
/// What may be changed of kinds whose spec may not.
const ANNOTATION: &str = "/metadata/annotations/patched";

async fn names(client: &Client, path: &str) -> Vec<String> {
    let list = expect(client.get(path).await, 200);
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(name).collect()
}

/// Conformance: [sig-node] ConfigMap should fail to create ConfigMap with empty key [Conformance]
/// Conformance: [sig-node] Secrets should fail to create secret due to empty secret key [Conformance]
#[tokio::test]
async fn a_key_is_not_empty() {
    let (_server, client) = start_without_fairness().await;
    for (path, value) in [(MAPS, "value-1"), (SECRETS, "dmFsdWUtMQ==")] {
        let object = json!({"metadata": {"name": "empty"}, "data": {"": value}});
        let refused = expect(client.post(path, &object).await, 422);
        assert_eq!(refused["details"]["causes"][0]["field"], "data[]", "{refused}");
        assert_eq!(names(&client, &format!("{path}?fieldSelector=metadata.name%3Dempty")).await, [""; 0]);
    }
}

/// Conformance: [sig-node] ConfigMap should update ConfigMap successfully [NodeConformance] [Conformance]
#[tokio::test]
async fn a_config_map_is_updated() {
    let (_server, client) = start_without_fairness().await;
    let map = json!({"metadata": {"name": "c"}, "data": {"data-1": "value-1"}});
    let mut map = expect(client.post(MAPS, &map).await, 201);
    map["data"] = json!({"data-1": "value-2", "data-2": "value-3"});
    expect(client.put(&format!("{MAPS}/c"), &map).await, 200);
    assert_eq!(expect(client.get(&format!("{MAPS}/c")).await, 200)["data"], map["data"]);
}

/// Conformance: [sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]
#[tokio::test]
async fn config_maps_are_found_patched_and_deleted_by_label() {
    let (_server, client) = start_without_fairness().await;
    let selected = "labelSelector=test-configmap-static%3Dtrue";
    let mut events = client.watch(&format!("{MAPS}?watch=1&{selected}")).await;
    let labels = json!({"test-configmap-static": "true"});
    let map = json!({"metadata": {"name": "c", "labels": labels}, "data": {"valueName": "value"}});
    expect(client.post(MAPS, &map).await, 201);
    assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
    let patch = json!({"metadata": {"labels": {"test-configmap": "patched"}}, "data": {"valueName": "value1"}});
    expect(client.patch(&format!("{MAPS}/c"), STRATEGIC, &patch).await, 200);
    assert_eq!(events.soon().await.unwrap()["type"], "MODIFIED");
    let got = expect(client.get(&format!("{MAPS}/c")).await, 200);
    let labels = json!({"test-configmap-static": "true", "test-configmap": "patched"});
    assert_eq!((&got["data"]["valueName"], &got["metadata"]["labels"]), (&json!("value1"), &labels));
    let everywhere = format!("/api/v1/configmaps?{selected}");
    let found = expect(client.get(&everywhere).await, 200);
    assert_eq!((found["items"].as_array().unwrap().len(), &found["items"][0]["data"]), (1, &got["data"]));
    expect(client.delete(&format!("{MAPS}?{selected}")).await, 200);
    assert_eq!(events.soon().await.unwrap()["type"], "DELETED");
    assert_eq!(names(&client, &everywhere).await, [""; 0]);
}

/// Conformance: [sig-node] Secrets should patch a secret [Conformance]
#[tokio::test]
async fn secrets_are_found_patched_and_deleted_by_label() {
    let (_server, client) = start_without_fairness().await;
    let (static_label, patched) = ("labelSelector=testsecret-constant%3Dtrue", "labelSelector=testsecret%3Dtrue");
    assert_eq!(names(&client, &format!("/api/v1/secrets?{static_label}")).await, [""; 0]);
    let labels = json!({"testsecret-constant": "true"});
    let secret = json!({"metadata": {"name": "s", "labels": labels}, "type": "Opaque", "data": {"key": "dmFsdWU="}});
    expect(client.post(SECRETS, &secret).await, 201);
    assert_eq!(names(&client, &format!("/api/v1/secrets?{static_label}")).await, ["s"]);
    let patch = json!({"metadata": {"labels": {"testsecret": "true"}}, "data": {"key": "dmFsdWUx"}});
    expect(client.patch(&format!("{SECRETS}/s"), STRATEGIC, &patch).await, 200);
    let got = expect(client.get(&format!("{SECRETS}/s")).await, 200);
    assert_eq!((&got["data"]["key"], &got["type"]), (&json!("dmFsdWUx"), &json!("Opaque")));
    assert_eq!(got["metadata"]["labels"], json!({"testsecret-constant": "true", "testsecret": "true"}));
    expect(client.delete(&format!("{SECRETS}?{patched}")).await, 200);
    assert_eq!(names(&client, &format!("/api/v1/secrets?{static_label}")).await, [""; 0]);
}

/// Conformance: [sig-node] Lease lease API should be available [Conformance]
#[tokio::test]
async fn leases_support_all_operations() {
    let (_server, client) = start_without_fairness().await;
    let one = format!("{LEASES}/one");
    let spec = |holder: &str, seconds: u32| {
        json!({"holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": 0,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:05.000000Z"})
    };
    let object = json!({"metadata": {"name": "one"}, "spec": spec("holder", 30)});
    expect(client.post(LEASES, &object).await, 201);
    let mut lease = expect(client.get(&one).await, 200);
    assert_eq!(lease["spec"], spec("holder", 30));
    lease["spec"] = spec("holder2", 40);
    expect(client.put(&one, &lease).await, 200);
    assert_eq!(expect(client.get(&one).await, 200)["spec"], spec("holder2", 40));
    let patch = json!({"spec": spec("holder3", 60)});
    expect(client.patch(&one, STRATEGIC, &patch).await, 200);
    assert_eq!(expect(client.get(&one).await, 200)["spec"], spec("holder3", 60));
    let second = json!({"metadata": {"name": "two", "labels": {"deletecollection": "true"}}, "spec": spec("h", 30)});
    expect(client.post(LEASES, &second).await, 201);
    assert_eq!(names(&client, LEASES).await, ["one", "two"]);
    expect(client.delete(&format!("{LEASES}?labelSelector=deletecollection%3Dtrue")).await, 200);
    assert_eq!(names(&client, LEASES).await, ["one"]);
    expect(client.delete(&one).await, 200);
    expect(client.get(&one).await, 404);
}

/// Conformance: [sig-node] Node Lifecycle should run through the lifecycle of a node [Conformance]
#[tokio::test]
async fn a_node_is_made_labelled_found_and_deleted() {
    let (_server, client) = start_without_fairness().await;
    let nodes = "/api/v1/nodes";
    let (one, selected) = (format!("{nodes}/fake"), format!("{nodes}?labelSelector=fake%3Dpatched"));
    let status = json!({"capacity": {"cpu": "4"}, "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "reason": "e2e", "message": "set by a test"}]});
    let node = json!({"metadata": {"name": "fake"}, "status": status});
    assert_eq!(expect(client.post(nodes, &node).await, 201)["metadata"]["name"], "fake");
    let got = expect(client.get(&one).await, 200);
    assert_eq!((&got["metadata"]["name"], &got["status"]["capacity"]["cpu"]), (&json!("fake"), &json!("4")));
    let patched =
        expect(client.patch(&one, STRATEGIC, &json!({"metadata": {"labels": {"fake": "patched"}}})).await, 200);
    assert_eq!(patched["metadata"]["labels"]["fake"], "patched");
    assert_eq!(names(&client, &selected).await, ["fake"]);
    let mut events = client.watch(&format!("{nodes}?watch=1&fieldSelector=metadata.name%3Dfake")).await;
    assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
    let mut node = patched;
    node["metadata"]["labels"]["fake"] = json!("updated");
    assert_eq!(expect(client.put(&one, &node).await, 200)["metadata"]["labels"]["fake"], "updated");
    assert_eq!(events.soon().await.unwrap()["object"]["metadata"]["labels"]["fake"], "updated");
    assert_eq!(names(&client, &selected).await, [""; 0]);
    expect(client.delete(&one).await, 200);
    assert_eq!(events.soon().await.unwrap()["type"], "DELETED");
    expect(client.get(&one).await, 404);
}

fn pod_template(name: &str) -> Value {
    let containers = json!([{"name": "nginx", "image": "nginx:1"}]);
    json!({"metadata": {"name": name, "labels": {"podtemplate-static": "true"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}})
}

/// Conformance: [sig-node] PodTemplates should run the lifecycle of PodTemplates [Conformance]
/// Conformance: [sig-node] PodTemplates should replace a pod template [Conformance]
#[tokio::test]
async fn a_pod_template_is_patched_replaced_found_and_deleted() {
    let (_server, client) = start_without_fairness().await;
    let (one, everywhere) = (format!("{TEMPLATES}/t"), "/api/v1/podtemplates?labelSelector=podtemplate-static%3Dtrue");
    expect(client.post(TEMPLATES, &pod_template("t")).await, 201);
    let patch = json!({"metadata": {"labels": {"podtemplate": "patched"}}});
    expect(client.patch(&one, STRATEGIC, &patch).await, 200);
    let mut template = expect(client.get(&one).await, 200);
    assert_eq!(template["metadata"]["labels"]["podtemplate"], "patched");
    assert_eq!(template["template"]["spec"]["restartPolicy"], "Always", "it has the defaults of a pod");
    template["metadata"]["annotations"] = json!({"updated": "true"});
    let replaced = expect(client.put(&one, &template).await, 200);
    assert_eq!(replaced["metadata"]["annotations"]["updated"], "true");
    let found = expect(client.get(everywhere).await, 200);
    assert_eq!(found["items"][0]["metadata"]["labels"]["podtemplate"], "patched");
    expect(client.delete(&one).await, 200);
    assert_eq!(names(&client, everywhere).await, [""; 0]);
}

/// Conformance: [sig-node] PodTemplates should delete a collection of pod templates [Conformance]
#[tokio::test]
async fn pod_templates_are_deleted_together() {
    let (_server, client) = start_without_fairness().await;
    let selected = format!("{TEMPLATES}?labelSelector=podtemplate-static%3Dtrue");
    for name in ["one", "three", "two"] {
        expect(client.post(TEMPLATES, &pod_template(name)).await, 201);
    }
    assert_eq!(names(&client, &selected).await, ["one", "three", "two"]);
    expect(client.delete(&selected).await, 200);
    assert_eq!(names(&client, &selected).await, [""; 0]);
}

/// Conformance: [sig-node] RuntimeClass should support RuntimeClasses API operations [Conformance]
#[tokio::test]
async fn runtime_classes_support_all_operations() {
    let (path, object, changed) = (CLASSES.to_owned(), json!({"handler": "h"}), json!("updated"));
    let (names, field, status) = (["one", "two", "three"], ANNOTATION, json!({}));
    let group = "node.k8s.io";
    Operations { group, plural: "runtimeclasses", path, names, object, field, changed: &changed, status }.work().await;
}

/// Conformance: [sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [NodeConformance] [Conformance]
/// Conformance: [sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass [NodeConformance] [Conformance]
#[tokio::test]
async fn a_pod_has_a_runtime_class_that_exists() {
    let (_server, client) = start_without_fairness().await;
    let pod = |name: &str, class: &str| {
        let spec = json!({"runtimeClassName": class, "containers": [{"name": "c", "image": "i"}]});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let refused = expect(client.post(PODS, &pod("p", "nonexistent")).await, 403);
    let message = refused["message"].as_str().unwrap();
    assert!(message.ends_with("pod rejected: RuntimeClass \"nonexistent\" not found"), "{message}");
    let class = json!({"metadata": {"name": "delete-me"}, "handler": "runc"});
    expect(client.post(CLASSES, &class).await, 201);
    expect(client.post(PODS, &pod("before", "delete-me")).await, 201);
    expect(client.delete(&format!("{CLASSES}/delete-me")).await, 200);
    expect(client.get(&format!("{CLASSES}/delete-me")).await, 404);
    expect(client.post(PODS, &pod("after", "delete-me")).await, 403);
    assert_eq!(names(&client, PODS).await, ["before"]);
}

/// Conformance: [sig-node] Sysctls [LinuxOnly] [NodeConformance] should reject invalid sysctls [Conformance]
#[tokio::test]
async fn sysctls_have_names_that_a_kernel_could_know() {
    let (_server, client) = start_without_fairness().await;
    let sysctl = |name: &str, value: &str| json!({"name": name, "value": value});
    let sysctls = json!([
        sysctl("foo-", "bar"),
        sysctl("kernel.shmmax", "100000000"),
        sysctl("safe-and-unsafe", "100000000"),
        sysctl("bar..", "42")
    ]);
    let spec = json!({"securityContext": {"sysctls": sysctls}, "containers": [{"name": "c", "image": "i"}]});
    let refused = expect(client.post(PODS, &json!({"metadata": {"name": "p"}, "spec": spec})).await, 422);
    let message = refused["message"].as_str().unwrap();
    let says = |text: &str| message.contains(text);
    assert!(says("Invalid value: \"foo-\"") && says("Invalid value: \"bar..\""), "{message}");
    assert!(!says("safe-and-unsafe") && !says("kernel.shmmax"), "{message}");
}

/// Conformance: [sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu [Conformance]
#[tokio::test]
async fn a_pod_whose_requests_are_its_limits_is_guaranteed() {
    let (_server, client) = start_without_fairness().await;
    let amounts = json!({"cpu": "100m", "memory": "100Mi"});
    let resources = json!({"requests": amounts, "limits": amounts});
    let containers = json!([{"name": "agnhost", "image": "i", "resources": resources}]);
    let pod = json!({"metadata": {"name": "p", "labels": {"name": "p"}}, "spec": {"containers": containers}});
    expect(client.post(PODS, &pod).await, 201);
    assert_eq!(expect(client.get(&format!("{PODS}/p")).await, 200)["status"]["qosClass"], "Guaranteed");
}

/// An object of `resource.k8s.io`, of which all operations are wanted.
async fn devices(plural: &str, is_namespaced: bool, spec: &Value, (field, changed): (&str, &Value), status: Value) {
    let group = "resource.k8s.io";
    let place = if is_namespaced { "namespaces/default/" } else { "" };
    let path = format!("/apis/{group}/v1/{place}{plural}");
    let (names, object) = (["one", "two", "three"], json!({"spec": spec}));
    Operations { group, plural, path, names, object, field, changed, status }.work().await;
}

fn request() -> Value {
    json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}})
}

/// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass [Conformance]
#[tokio::test]
async fn device_classes_support_all_operations() {
    let spec = json!({"selectors": [{"cel": {"expression": "device.driver == 'dra.example.com'"}}]});
    let changed = json!("device.driver == 'other.example.com'");
    devices("deviceclasses", false, &spec, ("/spec/selectors/0/cel/expression", &changed), json!({})).await;
}

/// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim [Conformance]
#[tokio::test]
async fn claims_of_devices_support_all_operations() {
    let result = json!({"request": "r", "driver": "dra.example.com", "pool": "p", "device": "d"});
    let status = json!({"allocation": {"devices": {"results": [result]}}});
    devices("resourceclaims", true, &request(), (ANNOTATION, &json!("updated")), status).await;
}

/// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate [Conformance]
#[tokio::test]
async fn templates_of_claims_of_devices_support_all_operations() {
    let spec = json!({"spec": request()});
    devices("resourceclaimtemplates", true, &spec, (ANNOTATION, &json!("updated")), json!({})).await;
}

/// Conformance: [sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice [Conformance]
#[tokio::test]
async fn slices_of_devices_support_all_operations() {
    let spec = json!({"driver": "dra.example.com", "nodeName": "n", "devices": [{"name": "d"}],
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}});
    devices("resourceslices", false, &spec, ("/spec/devices/0/name", &json!("e")), json!({})).await;
}
