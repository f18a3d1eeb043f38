//! A kubelet that is killed again and again, at any moment of its pods' lives, loses nothing of them: no pod runs twice or
//! not at all, and no byte of their volumes is lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use e2e::{SeparateCluster, can_run_separate, eventually};

const PATIENCE: Duration = Duration::from_secs(120);
const KILLS: u64 = 20;
/// Pods that live as long as the test, each with a claim of its own.
const WRITERS: usize = 3;
/// Short ones that are created around each kill; they share a claim.
const SHORT: u64 = 2;

const CLAIM: &str = r#"
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 16Mi}
  storageClassName: ""
  persistentVolumeReclaimPolicy: Retain
  claimRef: {namespace: default, name: NAME}
  local: {path: PATH}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: NAME}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", volumeName: NAME, resources: {requests: {storage: 16Mi}}}
"#;

const POD: &str = r#"
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: KIND}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 20
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, 'SCRIPT']
    env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts: [{name: data, mountPath: /data}, {name: own, mountPath: /own}, {name: memory, mountPath: /memory}]
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: CLAIM}}
  - {name: own, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
"#;

/// Counts, in the claim and in the pod's own volumes, until it is told to end.
const COUNTING: &str = r#"stop=; trap "stop=1" TERM; echo started >> /data/starts; i=0;
    while [ -z "$stop" ]; do i=$((i + 1)); for place in /data /own /memory; do echo $i >> $place/log; done; sleep 0.05; done;
    echo ended at $i >> /data/ends; cmp /data/log /own/log && cmp /data/log /memory/log && echo same >> /data/ends"#;

/// Says that it began and ended.
const SHORTLY: &str = r#"echo $NAME >> /data/starts; sleep 0.3; echo $NAME >> /data/ends"#;

fn pod(cluster: &SeparateCluster, kind: &str, name: &str, claim: &str, script: &str) -> String {
    let replaced =
        POD.replace("NAME, labels", &format!("{name}, labels")).replace("KIND", kind).replace("CLAIM", claim);
    replaced.replace("IMAGE", &cluster.image("busybox:1")).replace("SCRIPT", script)
}

#[test]
fn a_kubelet_that_is_killed_many_times_loses_nothing_and_starts_nothing_twice() {
    if !can_run_separate() {
        return;
    }
    let mut cluster = SeparateCluster::up();
    let place = |cluster: &SeparateCluster, name: &str| cluster.directory().join("volumes").join(name);
    let names: Vec<String> = (0..WRITERS).map(|number| format!("w{number}")).collect();
    let mut manifest = String::new();
    for name in names.iter().map(String::as_str).chain(["shared"]) {
        let path = place(&cluster, name);
        std::fs::create_dir_all(&path).unwrap();
        manifest += &CLAIM.replace("NAME", name).replace("PATH", &path.display().to_string());
    }
    for name in &names {
        manifest += &pod(&cluster, "writer", name, name, COUNTING);
    }
    cluster.apply(&manifest);
    for name in &names {
        cluster.wait_for(&["pod", name], "{.status.phase}", "Running");
    }

    let expected = kill_often(&mut cluster, &names[0]);

    cluster
        .kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pods", "-l", "app=short", "--timeout=120s"])
        .ok();
    let shared = place(&cluster, "shared");
    assert_eq!(sorted_lines(&shared.join("starts")), expected, "each runs once");
    assert_eq!(sorted_lines(&shared.join("ends")), expected, "each runs to its end");
    let restarts = "{.items[*].status.containerStatuses[*].restartCount}";
    let restarts = cluster.kubectl(&["get", "pods", "-l", "app=writer", "-o", &format!("jsonpath={restarts}")]);
    assert_eq!(restarts.ok(), vec!["0"; WRITERS - 1].join(" "));

    cluster.kubectl(&["delete", "pods", "--all", "--timeout=120s"]).ok();
    for name in &names {
        assert_counted(&place(&cluster, name));
    }
    let kubelet = cluster.directory().join("kubelet");
    eventually("nothing of the pods is left on the node", PATIENCE, || {
        let pods = std::fs::read_dir(kubelet.join("pods")).unwrap().count();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        (pods == 0 && !mounts.contains(&*kubelet.join("pods").to_string_lossy())).then_some(())
    });
}

/// Kills the kubelet at moments that lie anywhere in the lives of the pods that come and go meanwhile, `leaving` among
/// them; returns the names of those that came, in order.
fn kill_often(cluster: &mut SeparateCluster, leaving: &str) -> Vec<String> {
    let mut expected = Vec::new();
    for kill in 0..KILLS {
        let mut manifest = String::new();
        for number in 0..SHORT {
            let name = format!("s{kill:02}-{number}");
            write!(manifest, "{}", pod(cluster, "short", &name, "shared", SHORTLY)).unwrap();
            expected.push(name);
        }
        cluster.apply(&manifest);
        if kill == KILLS / 2 {
            cluster.kubectl(&["delete", "pod", leaving, "--wait=false"]).ok();
        }
        // From at once to when a pod has come and gone; no two alike.
        std::thread::sleep(Duration::from_millis(kill * 379 % 1_000));
        cluster.member("kubelet").crash();
        cluster.member("kubelet").start();
        std::thread::sleep(Duration::from_millis(kill * 613 % 1_000));
    }
    expected
}

fn sorted_lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// One process counted, from one on without a gap, and was told once to end.
fn assert_counted(volume: &Path) {
    let lines = |name: &str| std::fs::read_to_string(volume.join(name)).unwrap();
    assert_eq!(lines("starts"), "started\n");
    let log = lines("log");
    let count = log.lines().count();
    assert!(log.lines().zip(1..).all(|(line, number)| line == number.to_string()), "{}: {log}", volume.display());
    assert_eq!(lines("ends"), format!("ended at {count}\nsame\n"), "{}", volume.display());
}
