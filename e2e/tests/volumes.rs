//! Claims, images as volumes and resizes on real containers: data stays where it is said to stay, and no longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::{Cluster, Run as _, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(90);

const DATABASE: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {runAsUser: 1000, fsGroup: 2000}
      containers:
      - name: c
        image: IMAGE
        command: [sh, -c, "touch /data/started && sleep 100000"]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
"#;

#[test]
fn a_stateful_set_keeps_its_data_until_its_claims_are_deleted() {
    if !can_run() {
        return;
    }
    let mut cluster = Cluster::up();
    cluster.apply(&DATABASE.replace("IMAGE", &cluster.image("busybox:1")));
    cluster.wait_for(&["statefulset", "db"], "{.status.readyReplicas}", "2");
    assert_eq!(cluster.value(&["pvc", "data-db-0"], "{.spec.storageClassName} {.status.phase}"), "local Bound");
    let in_pod = |cluster: &Cluster, script: &str| cluster.kubectl(&["exec", "db-0", "--", "sh", "-c", script]);
    in_pod(&cluster, "echo kept > /data/file").ok();
    assert_eq!(in_pod(&cluster, "stat -c %g /data/file").ok(), "2000");
    cluster.kubectl(&["delete", "pod", "db-0"]).ok();
    cluster.wait_for(&["statefulset", "db"], "{.status.readyReplicas}", "2");
    assert_eq!(in_pod(&cluster, "cat /data/file").ok(), "kept");

    cluster.stop();
    cluster.start(&[]);
    eventually("the data is there after a restart of everything", PATIENCE, || {
        (in_pod(&cluster, "cat /data/file").stdout.trim() == "kept").then_some(())
    });

    let volumes = cluster.data().join("volumes");
    assert_eq!(std::fs::read_dir(&volumes).unwrap().count(), 2);
    cluster.kubectl(&["delete", "statefulset", "db"]).ok();
    cluster.kubectl(&["delete", "pvc", "--all"]).ok();
    eventually("volumes and their directories are gone", PATIENCE, || {
        let gone = cluster.kubectl(&["get", "pv", "-o", "name"]).stdout.is_empty();
        (gone && std::fs::read_dir(&volumes).unwrap().count() == 0).then_some(())
    });
}

const RESIZED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: IMAGE
    command: [sleep, "100000"]
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}
    volumeMounts: [{name: files, mountPath: /files}]
  volumes:
  - {name: files, image: {reference: IMAGE}}
"#;

#[test]
fn a_running_pod_grows_in_place_and_shows_the_files_of_an_image() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    cluster.apply(&RESIZED.replace("IMAGE", &cluster.image("busybox:1")));
    cluster.wait_for(&["pod", "p"], "{.status.phase}", "Running");
    let exec = |script: &str| cluster.kubectl(&["exec", "p", "--", "sh", "-c", script]);
    exec("test -x /files/bin/busybox").ok();
    assert!(exec("touch /files/x").fails().contains("Read-only"));
    let limits = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
    assert_eq!(exec(limits).ok(), (64 << 20).to_string());
    let object = cluster.kubectl(&["get", "pod", "p", "-o", "json"]);
    let larger = object.ok().replace("\"64Mi\"", "\"96Mi\"").replace("\"200m\"", "\"400m\"");
    let place = "/api/v1/namespaces/default/pods/p/resize";
    cluster.kubectl_command(&["replace", "--raw", place, "-f", "-"]).output_with(&larger).ok();
    eventually("the container has its new limits", PATIENCE, || {
        (exec(limits).stdout.trim() == (96 << 20).to_string()).then_some(())
    });
    cluster.wait_for(&["pod", "p"], "{.status.containerStatuses[0].resources.limits.cpu}", "400m");
    assert_eq!(cluster.value(&["pod", "p"], "{.status.containerStatuses[0].restartCount}"), "0");
}
