//! Pods that want more than they may, on a whole cluster: secrets on the node's disk, kernel parameters of the node, and
//! more disk than their limits. One cluster for all of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Cluster, can_run, eventually};
use faults::Attack;

const PATIENCE: Duration = Duration::from_secs(90);
const SECRET: &str = "tHe-SeCrEt-of-This-test-4711";

#[test]
fn pods_take_no_more_than_they_may() {
    if !can_run() {
        return;
    }
    let mut cluster = Cluster::up();
    secrets_are_on_no_disk(&mut cluster);
    sysctls_of_the_node_are_refused(&cluster);
    processes_are_limited(&cluster);
    storage_limits_cannot_be_evaded(&cluster);
    logs_are_followed_over_rotations(&cluster);
    cluster.kubectl(&["delete", "pods", "--all", "--now", "--wait=false"]).ok();
    let data = cluster.data();
    cluster.stop();
    assert_eq!(mounts(&data.join("kubelet")), 0, "a cluster that is down holds no secrets in memory");
}

fn pod(cluster: &Cluster, name: &str, spec: &str, script: &str) {
    let image = cluster.image("busybox:1");
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         restartPolicy: Never\n{spec}  containers:\n  - name: c\n    image: {image}\n    \
         command: [sh, -c, '{script}']\n    env: [{{name: PASSWORD, valueFrom: {{secretKeyRef: {{name: s, key: key}}}}}}]\n    \
         volumeMounts: [{{name: v, mountPath: /v}}]\n"
    ));
}

fn secrets_are_on_no_disk(cluster: &mut Cluster) {
    cluster.kubectl(&["create", "secret", "generic", "s", &format!("--from-literal=key={SECRET}")]).ok();
    let volumes = "  volumes:\n  - {name: v, projected: {sources: [{secret: {name: s}}, {serviceAccountToken: {path: token}}]}}\n  \
                   - {name: w, secret: {secretName: s}}\n";
    pod(cluster, "keeper", volumes, "sleep 100000");
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/keeper", "--timeout=60s"]).ok();
    let shown = |cluster: &Cluster| {
        cluster.kubectl(&["exec", "keeper", "--", "sh", "-c", "echo $PASSWORD; cat /v/key"]).ok().to_owned()
    };
    assert_eq!(shown(cluster), format!("{SECRET}\n{SECRET}"));
    let token = cluster.kubectl(&["exec", "keeper", "--", "cat", "/v/token"]).ok().to_owned();
    let token = token.rsplit('.').next().unwrap().to_owned();
    assert!(token.len() > 80, "the signature of a token");

    let (on_disk, in_memory) = search(&cluster.data(), &[SECRET, &token]);
    assert!(in_memory >= 3, "the search finds what is in memory: {in_memory}");

    // Whoever looks after the pod may be killed and started again: it finds the volumes, and goes on with them.
    cluster.crash();
    cluster.start(&[]);
    cluster.wait_for(&["pod", "keeper"], "{.status.containerStatuses[0].ready}", "true");
    assert_eq!(shown(cluster), format!("{SECRET}\n{SECRET}"));
    let patch = format!("{{\"stringData\":{{\"key\":\"{SECRET}-new\"}}}}");
    cluster.kubectl(&["patch", "secret", "s", "-p", &patch]).ok();
    eventually("the container sees the new secret", PATIENCE, || {
        shown(cluster).ends_with(&format!("\n{SECRET}-new")).then_some(())
    });
    let (again, _) = search(&cluster.data(), &[SECRET, &token]);
    Attack::new("node: a search of the data directory for Secrets and tokens of a running pod")
        .tried(2, (on_disk.len() + again.len()) as u64)
        .figure("files outside the store that hold one, on disk or open to others", format!("{on_disk:?} {again:?}"))
        .figure("copies in memory", in_memory)
        .record();
    cluster.kubectl(&["delete", "pod", "keeper", "--timeout=60s"]).ok();
    let kubelet = cluster.data().join("kubelet");
    // The directory itself may be one, where the machine shares none.
    let pods = kubelet.join("pods");
    eventually("nothing of the pod stays mounted", PATIENCE, || (mounts(&pods) == 0).then_some(()));
}

/// Files that hold one of the texts and lie on the disk of `data`, or are open to others; and how many there are in memory.
/// The store holds every Secret: it must only be closed to others.
fn search(data: &Path, texts: &[&str]) -> (Vec<PathBuf>, usize) {
    let device = fs::metadata(data).unwrap().dev();
    let (mut wrong, mut in_memory) = (Vec::new(), 0);
    let mut left = vec![(data.to_owned(), true)];
    while let Some((path, reachable)) = left.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| (entry.path(), reachable && mode & 0o001 != 0)));
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        let holds = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        if !metadata.is_file() || !texts.iter().any(holds) {
            continue;
        }
        let disk = metadata.dev() == device;
        in_memory += usize::from(!disk);
        if (disk && !path.starts_with(data.join("store"))) || (reachable && mode & 0o004 != 0) {
            wrong.push(path);
        }
    }
    (wrong, in_memory)
}

fn mounts(directory: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|point| Path::new(point).starts_with(directory)))
        .count()
}

fn sysctls_of_the_node_are_refused(cluster: &Cluster) {
    let sysctl = |name: &str| {
        format!(
            "  volumes: [{{name: v, emptyDir: {{}}}}]\n  securityContext: {{sysctls: [{{name: {name}, value: \"1\"}}]}}\n"
        )
    };
    let tries = ["kernel.core_pattern", "kernel/core_pattern", "vm.swappiness", "net.core.somaxconn", "kernel.shmmax"];
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let mut taken = 0;
    for (number, name) in tries.iter().enumerate() {
        let pod_name = format!("sysctl-{number}");
        pod(cluster, &pod_name, &sysctl(name), "true");
        cluster.wait_for(&["pod", &pod_name], "{.status.phase}", "Failed");
        let reason = cluster.value(&["pod", &pod_name], "{.status.reason}: {.status.message}");
        let dotted = name.replace('/', ".");
        let expected = format!("SysctlForbidden: Pod was rejected: forbidden sysctl: \"{dotted}\" not allowlisted");
        taken += u64::from(reason != expected);
        assert_eq!(reason, expected);
    }
    pod(cluster, "sysctl-safe", &sysctl("net/ipv4/tcp_syncookies"), "cat /proc/sys/net/ipv4/tcp_syncookies");
    cluster.wait_for(&["pod", "sysctl-safe"], "{.status.phase}", "Succeeded");
    assert_eq!(cluster.kubectl(&["logs", "sysctl-safe"]).ok(), "1");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    Attack::new("node: pods that set kernel parameters of the node, or unsafe ones")
        .tried(tries.len() as u64, taken)
        .record();
}

fn processes_are_limited(cluster: &Cluster) {
    pod(cluster, "limited", "  volumes: [{name: v, emptyDir: {}}]\n", "sleep 100000");
    cluster.wait_for(&["pod", "limited"], "{.status.phase}", "Running");
    let uid = cluster.value(&["pod", "limited"], "{.metadata.uid}");
    let limit = |path: &str| {
        let read = |root: &str| fs::read_to_string(Path::new(root).join(path).join("pids.max"));
        read("/sys/fs/cgroup/pids").or_else(|_| read("/sys/fs/cgroup")).unwrap().trim().to_owned()
    };
    assert_eq!(limit(&format!("kubepods/besteffort/pod{uid}")), "4096");
    assert_ne!(limit("kubepods"), "max");
}

fn storage_limits_cannot_be_evaded(cluster: &Cluster) {
    let limited = "  volumes: [{name: v, emptyDir: {sizeLimit: 5Mi}}]\n";
    let zeros = "head -c 30000000 /dev/zero";
    let tries = [
        ("plain", format!("{zeros} > /v/f; sleep 100000")),
        ("deleted", format!("exec 3> /v/f; rm /v/f; {zeros} >&3; sleep 100000")),
        ("deep", format!("cd /v; for i in $(seq 1000); do mkdir ddddd; cd ddddd; done; {zeros} > f; sleep 100000")),
    ];
    for (name, script) in &tries {
        pod(cluster, &format!("hog-{name}"), limited, script);
    }
    pod(cluster, "modest", limited, "head -c 3000000 /dev/zero > /v/f; sleep 100000");
    let mut evaded = 0;
    for (name, _) in &tries {
        let pod = format!("hog-{name}");
        cluster.wait_for(&["pod", &pod], "{.status.reason}", "Evicted");
        let message = cluster.value(&["pod", &pod], "{.status.message}");
        evaded += u64::from(!message.contains("Usage of EmptyDir volume \"v\" exceeds the limit \"5Mi\""));
    }
    assert_eq!(cluster.value(&["pod", "modest"], "{.status.phase}"), "Running");
    Attack::new("node: emptyDir limits evaded by deleted files that are open, and by deep folders")
        .tried(tries.len() as u64, evaded)
        .record();
}

fn logs_are_followed_over_rotations(cluster: &Cluster) {
    const LINES: usize = 400_000;
    let script = format!("while [ ! -e /v/go ]; do sleep 0.1; done; seq 1 {LINES}");
    pod(cluster, "talker", "  volumes: [{name: v, emptyDir: {}}]\n", &script);
    cluster.wait_for(&["pod", "talker"], "{.status.phase}", "Running");
    let path = cluster.directory().join("talker.log");
    let mut follow = cluster.kubectl_command(&["logs", "-f", "talker"]);
    let mut follow = follow.stdout(fs::File::create(&path).unwrap()).spawn().unwrap();
    cluster.kubectl(&["exec", "talker", "--", "touch", "/v/go"]).ok();
    cluster.wait_for(&["pod", "talker"], "{.status.phase}", "Succeeded");
    let status = eventually("the log ends with the container", PATIENCE, || follow.try_wait().unwrap());
    assert!(status.success());
    let text = fs::read_to_string(&path).unwrap();
    let wrong = text.lines().zip(1..).filter(|(line, number)| **line != number.to_string()).count();
    let logs = cluster.data().join("logs");
    let files =
        fs::read_dir(&logs).unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().contains("talker"));
    let files: Vec<_> = files.flat_map(|entry| fs::read_dir(entry.path().join("c")).unwrap().flatten()).collect();
    assert!(files.len() >= 2, "the log was rotated");
    assert!(files.iter().all(|file| file.metadata().unwrap().len() <= 10 << 20), "no file is larger than it may be");
    let lost = LINES.abs_diff(text.lines().count());
    Attack::new("node: a log that is rotated while it is followed")
        .tried(LINES as u64, (wrong + lost) as u64)
        .figure("files", files.len())
        .record();
}
