//! A storage driver of somebody else's on real containers: its volume is attached, mounted, grows, follows its pods and
//! survives a crash of everything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../kubelet/tests/driver/mod.rs"]
mod driver;

use std::time::Duration;

use driver::{Driver, Mind};
use e2e::{Cluster, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "disks.example.org";

const VOLUME: &str = r#"
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: disks.example.org}
spec: {podInfoOnMount: true, fsGroupPolicy: File, volumeLifecycleModes: [Persistent, Ephemeral]}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: disks}
provisioner: disks.example.org
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-1}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 16Mi}
  storageClassName: disks
  persistentVolumeReclaimPolicy: Retain
  claimRef: {namespace: default, name: data}
  csi: {driver: disks.example.org, volumeHandle: handle-1}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: disks
  volumeName: pv-1
  resources: {requests: {storage: 16Mi}}
"#;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 1000, fsGroup: 2000}
  containers:
  - name: c
    image: IMAGE
    command: [sleep, "100000"]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - name: data
    VOLUME
"#;

fn create(cluster: &Cluster, name: &str, volume: &str) {
    let pod = POD.replace("NAME", name).replace("IMAGE", &cluster.image("busybox:1")).replace("VOLUME", volume);
    cluster.apply(&pod);
}

const CLAIMED: &str = "persistentVolumeClaim: {claimName: data}";

/// Says that a volume is attached, as a driver's attacher does.
fn attach(cluster: &Cluster) {
    let names = || cluster.kubectl(&["get", "volumeattachments", "-o", "name"]).stdout.trim().to_owned();
    let name = eventually("the volume is to be attached", PATIENCE, || Some(names()).filter(|name| !name.is_empty()));
    let patch = r#"{"status": {"attached": true}}"#;
    cluster.kubectl(&["patch", &name, "--subresource=status", "--type=merge", "-p", patch]).ok();
}

fn detached(cluster: &Cluster) {
    eventually("the volume is detached", PATIENCE, || {
        cluster.kubectl(&["get", "volumeattachments", "-o", "name"]).stdout.trim().is_empty().then_some(())
    });
}

#[test]
fn a_drivers_volume_keeps_its_data_from_pod_to_pod_across_a_crash_and_grows() {
    if !can_run() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let mut cluster = Cluster::up();
    let disk = cluster.directory().join("disk");
    let mind = Mind { node_id: "e2e".into(), capabilities: vec![1, 2, 3], disk: Some(disk.clone()), ..Mind::default() };
    let driver = Driver::of_kind(&cluster.data().join("kubelet"), NAME, "CSIPlugin", mind);
    cluster.wait_for(&["csinode", "e2e"], "{.spec.drivers[*].name}", NAME);
    cluster.apply(VOLUME);
    create(&cluster, "first", CLAIMED);
    attach(&cluster);
    cluster.wait_for(&["pod", "first"], "{.status.phase}", "Running");
    let exec = |cluster: &Cluster, pod: &str, script: &str| cluster.kubectl(&["exec", pod, "--", "sh", "-c", script]);
    exec(&cluster, "first", "echo kept > /data/file").ok();
    assert_eq!(std::fs::read_to_string(disk.join("handle-1/file")).unwrap().trim(), "kept");
    assert_eq!(exec(&cluster, "first", "stat -c %g /data/file").ok(), "2000");
    assert_eq!(driver.words(), ["stage", "publish"]);
    let summary = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/e2e/proxy/stats/summary"]);
    assert!(summary.ok().contains("\"usedBytes\":42"), "the driver says how full it is: {}", summary.stdout);

    cluster.crash();
    cluster.start(&[]);
    eventually("it is published again", PATIENCE, || (driver.words().len() >= 4).then_some(()));
    exec(&cluster, "first", "test \"$(cat /data/file)\" = kept && echo more >> /data/file").ok();

    let more = r#"{"spec": {"resources": {"requests": {"storage": "32Mi"}}}}"#;
    cluster.kubectl(&["patch", "pvc", "data", "--type=merge", "-p", more]).ok();
    let larger = r#"{"spec": {"capacity": {"storage": "32Mi"}}}"#;
    cluster.kubectl(&["patch", "pv", "pv-1", "--type=merge", "-p", larger]).ok();
    let pending = r#"{"status": {"conditions": [{"type": "FileSystemResizePending", "status": "True"}]}}"#;
    cluster.kubectl(&["patch", "pvc", "data", "--subresource=status", "--type=merge", "-p", pending]).ok();
    cluster.wait_for(&["pvc", "data"], "{.status.capacity.storage} {.status.conditions}", "32Mi");
    assert!(driver.words().contains(&"expand"));

    cluster.kubectl(&["delete", "pod", "first"]).ok();
    detached(&cluster);
    let words = driver.words();
    assert_eq!(words[words.len() - 2..], ["unpublish", "unstage"]);
    create(&cluster, "second", CLAIMED);
    attach(&cluster);
    cluster.wait_for(&["pod", "second"], "{.status.phase}", "Running");
    assert_eq!(exec(&cluster, "second", "cat /data/file").ok(), "kept\nmore");
    cluster.kubectl(&["delete", "pod", "second"]).ok();
    detached(&cluster);

    create(&cluster, "own", "csi: {driver: disks.example.org}");
    cluster.wait_for(&["pod", "own"], "{.status.phase}", "Running");
    exec(&cluster, "own", "echo mine > /data/file").ok();
    cluster.kubectl(&["delete", "pod", "own"]).ok();
    // A pod without a grace period is gone from the API before it is from the node.
    let here = cluster.data().join("kubelet").display().to_string();
    eventually("nothing is left mounted", PATIENCE, || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let is_ours = |mount: &str| mount.contains(&here) && mount.contains("kubernetes.io~csi");
        (!mounts.lines().any(is_ours)).then_some(())
    });
}
