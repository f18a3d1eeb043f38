//! Volumes that outlive pods, and the claims on them.

use e2e::{Ground, Run as _};
use serde_json::{Value, json};

use super::pods::{self, container, gone, pod, wait};

/// A volume of a driver that is not there, for claims of its class alone.
fn volume(ground: &Ground<'_>, name: &str) -> Value {
    let driver = json!({"driver": "e2e-driver.example.com", "volumeHandle": "e2e-conformance"});
    json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"e2e-pv-pool": ground.namespace},
            "annotations": {"pv.beta.kubernetes.io/gid": "777"}},
        "spec": {"persistentVolumeReclaimPolicy": "Retain", "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "storageClassName": ground.namespace, "csi": driver}})
}

fn claim(ground: &Ground<'_>, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "storageClassName": ground.namespace, "resources": {"requests": {"storage": "2Gi"}}}})
}

/// Asks the server itself, as clients do that have no words for it.
#[track_caller]
fn raw(ground: &Ground<'_>, verb: &str, path: &str, body: Option<&Value>) -> Value {
    let mut command = ground.command(&[verb, "--raw", path]);
    let output = match body {
        Some(body) => command.args(["-f", "-"]).output_with(&body.to_string()),
        None => command.run(),
    };
    serde_json::from_str(output.ok()).unwrap()
}

fn items(list: &Value) -> usize {
    list["items"].as_array().unwrap().len()
}

const VOLUMES: &str = "/api/v1/persistentvolumes";

fn claims_of(ground: &Ground<'_>) -> String {
    format!("/api/v1/namespaces/{}/persistentvolumeclaims", ground.namespace)
}

/// Conformance: [sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC
/// [Conformance]
pub(super) fn lifecycle(ground: &Ground<'_>) {
    let (name, claims) = (format!("{}-1", ground.namespace), claims_of(ground));
    let (pv, ours) = (format!("pv/{name}"), format!("{VOLUMES}?labelSelector=e2e-pv-pool={}", ground.namespace));
    pods::create(ground, &volume(ground, &name));
    pods::create(ground, &claim(ground, "c1"));
    assert_eq!((items(&raw(ground, "get", &ours, None)), items(&raw(ground, "get", &claims, None))), (1, 1));
    for (object, label) in [(pv.as_str(), &*name), ("pvc/c1", "c1")] {
        let before = ground.value(object, "{.metadata.uid}");
        ground.kubectl(&["patch", object, "-p", &json!({"metadata": {"labels": {label: "patched"}}}).to_string()]).ok();
        let after = ground.value(object, &format!("{{.metadata.labels.{label}}} {{.metadata.uid}}"));
        assert_eq!(after, format!("patched {before}"));
    }
    ground.kubectl(&["delete", "pvc", "c1", "--wait=false"]).ok();
    gone(ground, "pvc/c1");
    ground.kubectl(&["delete", &pv, "--wait=false"]).ok();
    gone(ground, &pv);

    let name = format!("{}-2", ground.namespace);
    pods::create(ground, &volume(ground, &name));
    pods::create(ground, &claim(ground, "c2"));
    wait(ground, "pvc/c2", "{.status.phase}", "Bound");
    wait(ground, &format!("pv/{name}"), "{.status.phase}", "Bound");
    for (place, name) in [(VOLUMES, &*name), (&claims, "c2")] {
        let one = format!("{place}/{name}");
        let mut object = raw(ground, "get", &one, None);
        object["metadata"]["labels"] = json!({name: "updated"});
        assert_eq!(raw(ground, "replace", &one, Some(&object))["metadata"]["labels"][name], "updated");
    }
    let everywhere = "/api/v1/persistentvolumeclaims?labelSelector=c2=updated";
    assert_eq!(items(&raw(ground, "get", everywhere, None)), 1);
    raw(ground, "delete", &format!("{claims}?labelSelector=c2=updated"), None);
    gone(ground, "pvc/c2");
    raw(ground, "delete", &format!("{VOLUMES}?labelSelector={name}=updated"), None);
    gone(ground, &format!("pv/{name}"));
}

/// Conformance: [sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status [Conformance]
pub(super) fn status(ground: &Ground<'_>) {
    let name = format!("{}-1", ground.namespace);
    pods::create(ground, &volume(ground, &name));
    pods::create(ground, &claim(ground, "c"));
    wait(ground, "pvc/c", "{.status.phase}", "Bound");
    let (claim, volume) = (format!("{}/c/status", claims_of(ground)), format!("{VOLUMES}/{name}/status"));
    assert_eq!(raw(ground, "get", &claim, None)["status"]["phase"], "Bound");
    wait(ground, &format!("pv/{name}"), "{.status.phase}", "Bound");
    assert_eq!(raw(ground, "get", &volume, None)["status"]["phase"], "Bound");

    let patch = |object: &str, status: &Value| {
        let patch = json!({"status": status}).to_string();
        ground.kubectl(&["patch", object, "--subresource=status", "--type=merge", "-p", &patch]).ok();
    };
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "Set from e2e test"});
    patch("pvc/c", &json!({"conditions": [condition("StatusPatched", "E2E patchedStatus")]}));
    patch(&format!("pv/{name}"), &json!({"message": "StatusPatched", "reason": "E2E patchStatus"}));
    let mut object = raw(ground, "get", &claim, None);
    let first = &object["status"]["conditions"][0];
    assert_eq!((&first["reason"], &first["message"]), (&json!("E2E patchedStatus"), &json!("Set from e2e test")));
    object["status"]["conditions"].as_array_mut().unwrap().push(condition("StatusUpdated", "E2E updateStatus"));
    let updated = raw(ground, "replace", &claim, Some(&object));
    assert_eq!(updated["status"]["conditions"][1]["reason"], "E2E updateStatus");
    assert_eq!(updated["status"]["phase"], "Bound");

    let mut object = raw(ground, "get", &volume, None);
    assert_eq!(
        (&object["status"]["reason"], &object["status"]["message"]),
        (&json!("E2E patchStatus"), &json!("StatusPatched"))
    );
    object["status"]["reason"] = json!("E2E updateStatus");
    object["status"]["message"] = json!("StatusUpdated");
    let updated = raw(ground, "replace", &volume, Some(&object));
    assert_eq!(
        (&updated["status"]["reason"], &updated["status"]["phase"]),
        (&json!("E2E updateStatus"), &json!("Bound"))
    );
    ground.kubectl(&["delete", "pvc", "c"]).ok();
    ground.kubectl(&["delete", "pv", &name]).ok();
}

/// What a pod uses stays until the pod has ended, and the volume of a claim until the claim is gone.
pub(super) fn protection(ground: &Ground<'_>) {
    let mut claim = claim(ground, "c");
    claim["spec"] = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    pods::create(ground, &claim);
    let claimed = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    let using = container("c", "echo kept > /v/file; sleep 100000", &[("v", "/v")]);
    pods::start(ground, &pod("p", &[using], std::slice::from_ref(&claimed)));
    let pv = format!("pv/{}", ground.value("pvc/c", "{.spec.volumeName}"));
    ground.kubectl(&["delete", &pv, "pvc/c", "--wait=false"]).ok();
    for (object, finalizer) in [("pvc/c", "kubernetes.io/pvc-protection"), (&pv, "kubernetes.io/pv-protection")] {
        let held = ground.value(object, "{.metadata.deletionTimestamp} {.metadata.finalizers}");
        assert!(!held.starts_with(' ') && held.contains(finalizer), "{object}: {held}");
    }
    // One who comes now must not hold up what goes.
    ground.apply(&pod("late", &[container("c", "true", &[("v", "/v")])], &[claimed]).to_string());
    pods::until(ground, "p", "[ \"$(cat /v/file)\" = kept ]");
    ground.kubectl(&["delete", "pod", "p"]).ok();
    gone(ground, "pvc/c");
    gone(ground, &pv);
    assert_eq!(ground.value("pod/late", "{.status.phase}"), "Pending");
}
