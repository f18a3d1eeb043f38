//! What `[sig-storage]` asks of the API server alone. Bodies have what Go's clients send, their nulls included.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};

use super::start_without_fairness;
use crate::client::{Client, Events, MERGE, STRATEGIC, expect};

const STORAGE: &str = "/apis/storage.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A kind whose objects are named by the server, labelled, replaced and deleted.
struct Lifecycle {
    path: String,
    /// An object but for its metadata.
    object: Value,
    /// The finalizer that every object has.
    protection: Option<&'static str>,
}

impl Lifecycle {
    /// Goes through it all, with labels that are named after the objects.
    async fn run(&self) {
        let (_server, client) = start_without_fairness().await;
        let first = self.create(&client, "e2e-").await;
        let patched = self.patch_label(&client, &first).await;
        assert_eq!(self.labelled(&client, &patched).await, 1);
        expect(client.delete(&self.of(&first)).await, 200);
        self.assert_goes(&client, &first).await;
        assert_eq!(self.labelled(&client, &patched).await, 0);

        let second = self.create(&client, "e2e-v2-").await;
        let mut object = expect(client.get(&self.of(&second)).await, 200);
        object["metadata"]["labels"] = json!({name(&second): "updated"});
        let updated = expect(client.put(&self.of(&second), &object).await, 200);
        assert_eq!(updated["metadata"]["labels"], object["metadata"]["labels"]);
        let selector = format!("{}=updated", name(&second));
        assert_eq!(self.labelled(&client, &selector).await, 1);
        expect(client.delete(&format!("{}?labelSelector={selector}", self.path)).await, 200);
        self.assert_goes(&client, &second).await;
    }

    /// It is gone, or waits for the controller that protects what is in use, whose part this plays.
    async fn assert_goes(&self, client: &Client, object: &Value) {
        if let Some(protection) = self.protection {
            let left = expect(client.get(&self.of(object)).await, 200);
            assert!(left["metadata"]["deletionTimestamp"].is_string(), "{left}");
            assert_eq!(left["metadata"]["finalizers"], json!([protection]));
            let patch = json!({"metadata": {"finalizers": null}});
            expect(client.patch(&self.of(object), MERGE, &patch).await, 200);
        }
        expect(client.get(&self.of(object)).await, 404);
    }

    async fn create(&self, client: &Client, prefix: &str) -> Value {
        let mut object = self.object.clone();
        object["metadata"] = json!({"generateName": prefix, "creationTimestamp": null});
        let created = expect(client.post(&self.path, &object).await, 201);
        assert!(name(&created).starts_with(prefix) && name(&created) != prefix, "{created}");
        assert_eq!(expect(client.get(&self.of(&created)).await, 200), created);
        created
    }

    /// Labels an object; returns the selector that finds it.
    async fn patch_label(&self, client: &Client, object: &Value) -> String {
        let patch = json!({"metadata": {"labels": {name(object): "patched"}}});
        let patched = expect(client.patch(&self.of(object), STRATEGIC, &patch).await, 200);
        assert_eq!(patched["metadata"]["labels"][name(object)], "patched");
        assert!(revision(object) < revision(&patched), "{patched}");
        format!("{}=patched", name(object))
    }

    async fn labelled(&self, client: &Client, selector: &str) -> usize {
        let found = expect(client.get(&format!("{}?labelSelector={selector}", self.path)).await, 200);
        found["items"].as_array().unwrap().len()
    }

    fn of(&self, object: &Value) -> String {
        format!("{}/{}", self.path, name(object))
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Conformance: [sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass [Conformance]
#[tokio::test]
async fn storage_classes_live_and_die() {
    let object =
        json!({"kind": "StorageClass", "apiVersion": "storage.k8s.io/v1", "provisioner": "e2e-fake-provisioner"});
    Lifecycle { path: format!("{STORAGE}/storageclasses"), object, protection: None }.run().await;
}

/// Conformance: [sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass [Conformance]
#[tokio::test]
async fn classes_of_volume_attributes_live_and_die() {
    let object = json!({"driverName": "e2e-fake-csi-driver", "parameters": {"foo": "bar"}});
    let protection = Some("kubernetes.io/vac-protection");
    Lifecycle { path: format!("{STORAGE}/volumeattributesclasses"), object, protection }.run().await;
}

/// Conformance: [sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode [Conformance]
#[tokio::test]
async fn nodes_of_drivers_live_and_die() {
    let object = json!({"spec": {"drivers": null}});
    Lifecycle { path: format!("{STORAGE}/csinodes"), object, protection: None }.run().await;
}

fn attachment() -> Value {
    let source = json!({"persistentVolumeName": "pv-e2e"});
    json!({"spec": {"attacher": "e2e-test.storage.k8s.io", "nodeName": "n1", "source": source},
        "status": {"attached": false}})
}

/// Conformance: [sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment [Conformance]
#[tokio::test]
async fn attachments_live_and_die() {
    Lifecycle { path: format!("{STORAGE}/volumeattachments"), object: attachment(), protection: None }.run().await;
}

/// Conformance: [sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status [Conformance]
#[tokio::test]
async fn the_status_of_an_attachment_is_written_by_itself() {
    let (_server, client) = start_without_fairness().await;
    let (path, mut object) = (format!("{STORAGE}/volumeattachments"), attachment());
    object["metadata"] = json!({"name": "va-e2e", "uid": "va-e2e", "creationTimestamp": null});
    let created = expect(client.post(&path, &object).await, 201);
    assert_ne!(created["metadata"]["uid"], "va-e2e", "the server gives uids");
    let (one, status) = (format!("{path}/va-e2e"), format!("{path}/va-e2e/status"));
    assert_eq!(expect(client.get(&status).await, 200)["status"], json!({"attached": false}));
    let attached = expect(client.patch(&status, MERGE, &json!({"status": {"attached": true}})).await, 200);
    assert_eq!(attached["status"], json!({"attached": true}));
    let by_itself = expect(client.patch(&one, MERGE, &json!({"status": {"attached": false}})).await, 200);
    assert_eq!(by_itself["status"], json!({"attached": true}), "the status is not written with the rest");
    let mut detached = expect(client.get(&one).await, 200);
    detached["status"]["attached"] = json!(false);
    assert_eq!(expect(client.put(&status, &detached).await, 200)["status"], json!({"attached": false}));
    expect(client.delete(&one).await, 200);
    expect(client.get(&one).await, 404);
}

fn driver(name: &str, modes: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"e2e-test": "drivers"}, "creationTimestamp": null},
        "spec": {"volumeLifecycleModes": modes, "fsGroupPolicy": "ReadWriteOnceWithFSType"}})
}

/// Conformance: [sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver [Conformance]
#[tokio::test]
async fn drivers_live_and_die() {
    let (_server, client) = start_without_fairness().await;
    let path = format!("{STORAGE}/csidrivers");
    let ephemeral = driver("one", &json!(["Ephemeral"]));
    let first = expect(client.post(&path, &ephemeral).await, 201);
    assert_eq!(first["spec"]["attachRequired"], true, "it has its defaults: {first}");
    expect(client.post(&path, &driver("two", &json!(["Persistent", "Ephemeral"]))).await, 201);
    expect(client.post(&path, &ephemeral).await, 409);
    let (one, two) = (format!("{path}/one"), format!("{path}/two"));
    assert_eq!(expect(client.get(&one).await, 200)["metadata"]["uid"], first["metadata"]["uid"]);
    let patch = json!({"metadata": {"labels": {"two": "patched"}}});
    let mut second = expect(client.patch(&two, STRATEGIC, &patch).await, 200);
    assert_eq!(second["metadata"]["labels"]["two"], "patched");
    second["metadata"]["labels"]["two"] = json!("updated");
    assert_eq!(expect(client.put(&two, &second).await, 200)["metadata"]["labels"]["two"], "updated");
    let both = expect(client.get(&format!("{path}?labelSelector=e2e-test=drivers")).await, 200);
    assert_eq!(both["items"].as_array().unwrap().len(), 2);
    expect(client.delete(&one).await, 200);
    expect(client.get(&one).await, 404);
    expect(client.delete(&format!("{path}?labelSelector=two=updated")).await, 200);
    expect(client.get(&two).await, 404);
}

/// Conformance: [sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API [Conformance]
#[tokio::test]
async fn pods_may_have_volumes_of_drivers_of_their_own() {
    let (_server, client) = start_without_fairness().await;
    let second = json!({"driver": "e2e.example.com", "fsType": "ext4", "readOnly": true});
    let volumes = json!([{"name": "v1", "csi": {"driver": "e2e.example.com"}}, {"name": "v2", "csi": second}]);
    let mounts = json!([{"name": "v1", "mountPath": "/mnt/vol1"}, {"name": "v2", "mountPath": "/mnt/vol2"}]);
    let container =
        json!({"name": "c", "image": "busybox", "command": ["sh", "-c", "ls /mnt/*"], "volumeMounts": mounts});
    let pod = json!({"metadata": {"name": "p", "creationTimestamp": null},
        "spec": {"volumes": volumes, "containers": [container]}});
    let created = expect(client.post(PODS, &pod).await, 201);
    assert_eq!(created["spec"]["volumes"][0], volumes[0]);
    assert_eq!(created["spec"]["volumes"][1], volumes[1]);
    expect(client.post(PODS, &pod).await, 409);
    let one = format!("{PODS}/p");
    assert_eq!(expect(client.get(&one).await, 200)["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!(expect(client.get(PODS).await, 200)["items"].as_array().unwrap().len(), 1);
    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    assert_eq!(expect(client.patch(&one, MERGE, &patch).await, 200)["metadata"]["annotations"]["patched"], "true");
    expect(client.delete(&one).await, 200);
    let (status, left) = client.get(&one).await;
    assert!(status == StatusCode::NOT_FOUND || left["metadata"]["deletionTimestamp"].is_string(), "{left}");
}

/// Conformance: [sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations [Conformance]
#[tokio::test]
async fn capacities_support_all_operations() {
    let (_server, client) = start_without_fairness().await;
    assert_discovered(&client).await;
    let path = format!("{STORAGE}/namespaces/default/csistoragecapacities");
    let capacity = |name: &str| {
        json!({"metadata": {"name": name, "labels": {"test": "yes"}, "creationTimestamp": null},
            "storageClassName": "e2e.example.com"})
    };
    let everywhere = format!("{STORAGE}/csistoragecapacities");
    let made = expect(client.post(&path, &capacity("one")).await, 201);
    expect(client.post(&path, &capacity("one")).await, 409);
    expect(client.post(&path, &capacity("two")).await, 201);
    let watch = async |path: &str| client.watch(&format!("{path}?watch=1&labelSelector=test=yes")).await;
    let mut watches = [watch(&path).await, watch(&everywhere).await];
    expect(client.post(&path, &capacity("three")).await, 201);
    for (place, wanted) in [(&path, 3), (&everywhere, 3)] {
        let found = expect(client.get(&format!("{place}?labelSelector=test=yes")).await, 200);
        assert_eq!(found["items"].as_array().unwrap().len(), wanted, "{place}");
    }
    let one = format!("{path}/one");
    assert_eq!(expect(client.get(&one).await, 200)["metadata"]["uid"], made["metadata"]["uid"]);
    let annotated = json!({"metadata": {"annotations": {"patched": "true"}}});
    let mut object = expect(client.patch(&one, MERGE, &annotated).await, 200);
    assert_eq!(object["metadata"]["annotations"]["patched"], "true");
    object["metadata"]["annotations"]["updated"] = json!("true");
    let updated = expect(client.put(&one, &object).await, 200);
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
    for events in &mut watches {
        assert_eq!(told(events).await, ["one", "one+", "one++", "three", "two"].map(str::to_owned).into());
    }
    expect(client.delete(&one).await, 200);
    expect(client.get(&one).await, 404);
    let selected = format!("{path}?labelSelector=test=yes");
    assert_eq!(expect(client.get(&selected).await, 200)["items"].as_array().unwrap().len(), 2);
    expect(client.delete(&selected).await, 200);
    assert_eq!(expect(client.get(&selected).await, 200)["items"], json!([]));
}

/// What five events tell: names, with a sign for each annotation that is there.
async fn told(events: &mut Events) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for _ in 0..5 {
        let event = events.soon().await.unwrap();
        let annotations = event["object"]["metadata"]["annotations"].as_object().map_or(0, serde_json::Map::len);
        let wanted = if annotations == 0 { "ADDED" } else { "MODIFIED" };
        assert_eq!(event["type"], wanted, "{event}");
        told.insert(format!("{}{}", name(&event["object"]), "+".repeat(annotations)));
    }
    told
}

async fn assert_discovered(client: &Client) {
    let groups = expect(client.get("/apis").await, 200);
    let mut groups = groups["groups"].as_array().unwrap().iter();
    let group = groups.find(|group| group["name"] == "storage.k8s.io").unwrap();
    assert!(group["versions"].as_array().unwrap().iter().any(|version| version["version"] == "v1"), "{group}");
    let by_itself = expect(client.get("/apis/storage.k8s.io").await, 200);
    assert_eq!(by_itself["versions"], group["versions"]);
    let resources = expect(client.get(STORAGE).await, 200);
    let mut resources = resources["resources"].as_array().unwrap().iter();
    let capacities = resources.find(|resource| resource["name"] == "csistoragecapacities").unwrap();
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    assert_eq!(capacities["verbs"], verbs);
}

/// Conformance: [sig-storage] ConfigMap should be immutable if `immutable` field is set [Conformance]
#[tokio::test]
async fn an_immutable_config_map_stays_as_it_is() {
    let object = json!({"data": {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}});
    assert_can_be_immutable("configmaps", object, "value-4").await;
}

/// Conformance: [sig-storage] Secrets should be immutable if `immutable` field is set [Conformance]
#[tokio::test]
async fn an_immutable_secret_stays_as_it_is() {
    let object = json!({"data": {"data-1": "dmFsdWUtMQo=", "data-2": "dmFsdWUtMgo="}});
    assert_can_be_immutable("secrets", object, "dmFsdWUtNAo=").await;
}

async fn assert_can_be_immutable(plural: &str, mut object: Value, value: &str) {
    let (_server, client) = start_without_fairness().await;
    let path = format!("/api/v1/namespaces/default/{plural}");
    object["metadata"] = json!({"name": "immutable", "creationTimestamp": null});
    let mut object = expect(client.post(&path, &object).await, 201);
    let one = format!("{path}/immutable");
    object["data"]["data-4"] = json!(value);
    object = expect(client.put(&one, &object).await, 200);
    object["immutable"] = json!(true);
    object = expect(client.put(&one, &object).await, 200);

    let mut with_more = object.clone();
    with_more["data"]["data-5"] = json!(value);
    assert_invalid(client.put(&one, &with_more).await, "data");
    assert_eq!(expect(client.get(&one).await, 200)["immutable"], true);
    let mut mutable = object.clone();
    mutable["immutable"] = json!(false);
    assert_invalid(client.put(&one, &mutable).await, "immutable");

    object["metadata"]["labels"] = json!({"label1": "value1"});
    let labelled = expect(client.put(&one, &object).await, 200);
    assert_eq!(labelled["metadata"]["labels"], json!({"label1": "value1"}));
    expect(client.delete(&one).await, 200);
    expect(client.get(&one).await, 404);
}

fn assert_invalid(answer: (StatusCode, Value), field: &str) {
    let status = expect(answer, 422);
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(status["details"]["causes"][0]["field"], field);
    let why = status["details"]["causes"][0]["message"].as_str().unwrap();
    assert!(why.contains("field is immutable when `immutable` is set"), "{why}");
}
