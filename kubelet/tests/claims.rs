//! Volumes of claims against a real API server in this process and a runtime in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod node;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use node::{TestNode, phase};
use serde_json::{Value, json};

const SIZE: &str = "1Gi";

/// A claim that says it is bound to the volume of the same name; returns its uid.
async fn claim(node: &TestNode, name: &str) -> String {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(node.client(), "default");
    let object = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": SIZE}}},
        "status": {"phase": "Bound"},
    });
    node.make(api, object).await.metadata.uid.unwrap()
}

async fn volume(node: &TestNode, name: &str, claim: &str, source: Value) {
    let api: Api<PersistentVolume> = Api::all(node.client());
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": SIZE},
        "claimRef": {"namespace": "default", "name": name, "uid": claim},
    });
    spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    node.make(api, json!({"metadata": {"name": name}, "spec": spec})).await;
}

fn local(path: &Path, hostname: &str) -> Value {
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]});
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}});
    json!({"local": {"path": path}, "nodeAffinity": affinity})
}

fn pod(claim: &str) -> Value {
    json!({
        "securityContext": {"fsGroup": 4321},
        "containers": [{"name": "c", "image": "busybox:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    })
}

#[tokio::test]
async fn a_pod_runs_on_the_volume_that_its_claim_is_bound_to() {
    let node = TestNode::start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("old"), "").unwrap();
    node.create("p", pod("good")).await;
    node.wait_for_event("p", "FailedMount").await;
    let uid = claim(&node, "good").await;
    volume(&node, "good", &uid, local(directory.path(), "node-1")).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    let root = directory.path().metadata().unwrap();
    assert_eq!((root.gid(), root.permissions().mode() & 0o2070), (4321, 0o2070));
    assert_eq!(directory.path().join("old").metadata().unwrap().gid(), 4321);
    node.delete("p").await;
    node.wait_until_gone("p").await;
    assert!(directory.path().join("old").exists(), "data outlives its pods");
}

#[tokio::test]
async fn a_volume_that_is_only_read_keeps_its_group() {
    let node = TestNode::start().await;
    let directory = tempfile::tempdir().unwrap();
    let before = directory.path().metadata().unwrap();
    let uid = claim(&node, "read").await;
    volume(&node, "read", &uid, local(directory.path(), "node-1")).await;
    let mut reader = pod("read");
    reader["volumes"][0]["persistentVolumeClaim"]["readOnly"] = json!(true);
    node.create("p", reader).await;
    node.wait_for("p", |pod| phase(pod) == "Running").await;
    let after = directory.path().metadata().unwrap();
    assert_eq!((before.gid(), before.mode()), (after.gid(), after.mode()));
}

#[tokio::test]
async fn volumes_of_others_elsewhere_or_of_unknown_kinds_are_refused_in_words() {
    let node = TestNode::start().await;
    let directory = tempfile::tempdir().unwrap();
    let here = |hostname| local(directory.path(), hostname);
    let cases = [
        ("stolen", Some("another"), here("node-1"), "is not bound to PVC"),
        ("far", None, here("node-2"), "is not on this node"),
        ("nfs", None, json!({"nfs": {"server": "s", "path": "/"}}), "of type nfs"),
        ("gone", None, local(Path::new("/nowhere/at/all"), "node-1"), "No such file"),
    ];
    for (name, owner, source, words) in cases {
        let uid = claim(&node, name).await;
        volume(&node, name, owner.unwrap_or(&uid), source).await;
        node.create(name, pod(name)).await;
        let message = node.wait_for_message(name, "FailedMount").await;
        assert!(message.contains(words), "{name}: {message}");
    }
}
