//! Several clusters on one machine: none disturbs another, and of one that is removed nothing is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use e2e::{NamedCluster, NamedClusters, Run as _, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
/// One with a name that no interface could have.
const NAMES: [&str; 3] = ["blue", "red", "a-name-of-many-more-letters-than-that-of-an-interface"];

/// What clusters make on a machine outside of their own directories.
fn traces(clusters: &NamedClusters) -> BTreeSet<String> {
    let shims = format!("exec pgrep -f {}", clusters.records().parent().unwrap().display());
    let commands = [
        "ip -o link | cut -d: -f2 | cut -d@ -f1",
        "nft list tables",
        "ip route; ip -6 route",
        "cut -d' ' -f5 /proc/self/mountinfo | grep -v ^/proc",
        "find /sys/fs/cgroup -type d -name 'c-*'",
        "ls /run/coracle",
        &shims,
    ];
    let lines = commands.map(|command| Command::new("sh").args(["-c", command]).run().stdout);
    lines.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
}

#[track_caller]
fn leaves_nothing(clusters: &NamedClusters, before: &BTreeSet<String>) {
    let left = || traces(clusters).difference(before).cloned().collect::<Vec<_>>();
    for _ in 0..100 {
        if left().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("left on the machine: {:?}", left());
}

fn run_pod(clusters: &NamedClusters, cluster: &NamedCluster, name: &str) {
    let image = format!("--image={}", clusters.image("busybox:1"));
    let page = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -p 80 -h /www");
    cluster.kubectl(&["run", "web", &image, "--port=80", "--expose", "--", "sh", "-c", &page]).ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=90s"]).ok();
}

/// By its name and the Service's address, from a pod.
fn serves_its_own(cluster: &NamedCluster, name: &str) {
    eventually("its own page comes by the Service's name", PATIENCE, || {
        let page = ["exec", "web", "--", "timeout", "3", "wget", "-q", "-O", "-", "http://web/"];
        (cluster.kubectl(&page).stdout.trim() == name).then_some(())
    });
}

#[test]
fn clusters_of_one_machine_do_not_disturb_each_other_and_leave_nothing() {
    if !can_run() {
        return;
    }
    let clusters = NamedClusters::new();
    let before = traces(&clusters);
    let mut all = NAMES.map(|name| clusters.start(name));
    all.iter_mut().for_each(NamedCluster::wait_until_up);
    for (cluster, name) in all.iter().zip(NAMES) {
        run_pod(&clusters, cluster, name);
    }
    for (cluster, name) in all.iter().zip(NAMES) {
        serves_its_own(cluster, name);
        let names = cluster.kubectl(&["get", "pods", "-A", "-o", "name"]);
        assert_eq!(names.ok(), "pod/web");
        assert!(cluster.kubectl(&["config", "current-context"]).ok().ends_with(name));
    }
    let noted = all.iter().filter(|cluster| cluster.printed().contains("node ports are the machine's"));
    assert!(noted.count() >= 2, "all but the first hear of the others");
    let listed = clusters.coracle(&["ls"]);
    assert_eq!(listed.ok().matches(" Running ").count(), 3, "{}", listed.stdout);
    let [blue, red, long] = &mut all;

    clusters.coracle(&["stop", "red"]).ok();
    red.wait();
    assert!(clusters.coracle(&["ls"]).ok().lines().any(|line| line.starts_with("red ") && line.contains("Stopped")));
    assert!(clusters.coracle(&["stop", "red"]).fails().contains("does not run"));
    serves_its_own(blue, NAMES[0]);
    let mut red = clusters.start("red");
    red.wait_until_up();
    serves_its_own(&red, "red");

    assert!(clusters.coracle(&["delete", "red"]).fails().contains("--force"));
    serves_its_own(&red, "red");
    clusters.coracle(&["delete", "red", "--force"]).ok();
    red.wait();
    assert!(!clusters.data("red").exists());
    // With pods that go on.
    long.crash();
    clusters.coracle(&["delete", NAMES[2]]).ok();
    assert!(!clusters.data(NAMES[2]).exists());
    serves_its_own(blue, NAMES[0]);
    clusters.coracle(&["delete", "blue", "--force"]).ok();
    blue.wait();
    assert!(clusters.coracle(&["ls"]).ok().contains("no clusters"));
    assert_eq!(std::fs::read_dir(clusters.records()).unwrap().count(), 1, "the lock");
    leaves_nothing(&clusters, &before);
}
