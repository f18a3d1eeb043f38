//! A cluster and the machine that it shares: with other clusters, with whoever changes the network, and with its user.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Cluster, Run as _, Signal, binary, can_run, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
/// The bridge of [`Cluster`], and what is named after it.
const BRIDGE: &str = "coracle-e2e0";
const LINK: &str = "coracle-e2e0-no";

fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).run();
    format!("{}{}", output.stdout, output.stderr)
}

fn serves(cluster: &Cluster) -> bool {
    let page = ["exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", "http://web/"];
    cluster.kubectl(&page).stdout.contains("hello from the coracle")
}

fn rules() -> Vec<String> {
    let text = sh(&format!("nft -s list table ip {BRIDGE}-pods; nft -s -t list table ip {BRIDGE}-services"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // Chains are listed in the order in which they were made, which is another one for those made again.
    lines.sort();
    lines
}

#[test]
fn a_cluster_keeps_its_network_whatever_others_do() {
    if !can_run() {
        return;
    }
    let mut cluster = Cluster::up();
    cluster.apply_samples();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    eventually("the Service answers", PATIENCE, || serves(&cluster).then_some(()));
    others_get_nothing(&cluster);
    what_is_removed_comes_back(&cluster);
    images_in_use_stay(&cluster);
    the_end_is_told(&mut cluster);
}

fn others_get_nothing(cluster: &Cluster) {
    let (before, mut through) = (rules(), 0);
    let data = tempfile::tempdir().unwrap();
    // What is in use is named, the first thing of it.
    for (flags, word) in [
        (&[][..], "coracle-e2e0"),
        (&["--bridge=coracle-e2e9"], "10.20"),
        (&["--bridge=coracle-e2e9", "--node-ip=10.203.0.1"], "range 10.20"),
        (&["--bridge=coracle-e2e9", "--node-ip=10.203.0.1", "--cluster-cidr=10.202.0.0/16"], "range 10.206.0.0/16"),
    ] {
        let began = Instant::now();
        let output = cluster.another(data.path(), flags);
        let said = output.fails();
        assert!(said.contains(word) && said.contains("is in use by process"), "{said}");
        assert!(began.elapsed() < Duration::from_secs(5));
        let has_address = sh(&format!("ip -o address show dev {LINK}")).contains("10.205.0.1/32");
        through += u64::from(!(rules() == before && serves(cluster) && has_address));
    }
    assert!(!data.path().join("pki").exists(), "it ended before it made anything");
    faults::Attack::new("coracle up: a second cluster with the names of a running one").tried(4, through).record();
}

fn what_is_removed_comes_back(cluster: &Cluster) {
    let before = rules();
    let mut slowest = Duration::ZERO;
    for removal in [
        format!("nft delete table ip {BRIDGE}-services"),
        format!("nft flush table ip {BRIDGE}-services"),
        format!("nft delete table ip {BRIDGE}-pods"),
        format!("ip link delete {BRIDGE}"),
        format!("ip link delete {LINK}"),
        format!("ip address flush dev {LINK}"),
        format!("ip link delete {BRIDGE}; ip link delete {LINK}; nft delete table ip {BRIDGE}-services"),
    ] {
        sh(&removal);
        let began = Instant::now();
        eventually(&removal, Duration::from_secs(15), || (rules() == before && serves(cluster)).then_some(()));
        slowest = slowest.max(began.elapsed());
    }
    faults::Attack::new("coracle up: parts of the network removed")
        .tried(7, 0)
        .figure("slowest repair, ms", slowest.as_millis())
        .record();
}

fn images_in_use_stay(cluster: &Cluster) {
    let image = |flags: &[&str]| {
        let mut command = Command::new(binary("coracle"));
        let data = format!("--data-dir={}", cluster.data().display());
        command.args(["image", "remove", &data, &cluster.image("busybox:1")]).args(flags).run()
    };
    let refused = image(&[]);
    assert!(refused.fails().contains("is in use by default/client"), "{}", refused.stderr);
    assert!(serves(cluster));
    image(&["--force"]).ok();
    assert!(serves(cluster), "what runs goes on");
}

fn the_end_is_told(cluster: &mut Cluster) {
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: stubborn}\nspec:\n  containers:\n  - name: c\n    image: IMAGE\n    \
         command: [sh, -c, \"trap '' TERM; while :; do sleep 1; done\"]\n"
            .replace("IMAGE", &cluster.image("busybox:1"))
            .as_str(),
    );
    cluster.wait_for(&["pod", "stubborn"], "{.status.phase}", "Running");
    let soon = Duration::from_secs(2);
    let printed = cluster.signal_until(Signal::INT, "the first Ctrl-C is answered", soon, |printed| {
        printed.contains("shutting down: stopping ")
    });
    assert!(printed.contains("again to leave them running"), "{printed}");
    cluster.signal_until(Signal::INT, "the second one, too", soon, |printed| printed.contains("ended at once"));
    assert_eq!(cluster.wait().code(), Some(130));
    let printed = cluster.printed();
    assert!(printed.contains(" running: ") && printed.contains("default/stubborn"), "{printed}");
    assert!(printed.contains("coracle stop-pods --runtime-root"), "{printed}");
    // What the last words say works.
    let runtime = format!("--runtime-root={}", cluster.data().join("runtime").display());
    let stop = ["stop-pods", "--remove", "--grace-period=1", "--bridge", BRIDGE, &runtime];
    Command::new(binary("coracle")).args(stop).run().ok();
    sh(&format!(
        "ip link delete {LINK}; nft delete table ip {BRIDGE}-services; nft delete table ip6 {BRIDGE}-services"
    ));
}
