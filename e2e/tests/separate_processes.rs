//! The main job on separate processes over etcd: the same work as in one process, and any of them may die.
//!
//! Each test brings up a cluster of its own; they run one after the other, since they share the machine's network.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{MEMBERS, Output, Run as _, SeparateCluster, binary, can_run_separate, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: &str = "hello from the coracle";

#[test]
fn the_samples_run_and_every_member_tells_of_its_health() {
    if !can_run_separate() {
        return;
    }
    let mut cluster = SeparateCluster::up();
    cluster.apply_samples();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    cluster.wait_until_answered();

    for name in &MEMBERS[1..] {
        for (path, words) in [("/healthz", "ok"), ("/livez", "ok"), ("/readyz", "ok"), ("/metrics", "# TYPE ")] {
            let answer = cluster.member(name).health(path);
            assert!(
                answer.as_ref().is_some_and(|(code, body)| *code == 200 && body.contains(words)),
                "{name}{path}: {answer:?}"
            );
        }
    }
    for (path, words) in [("/healthz", "ok"), ("/livez", "ok"), ("/readyz", "ok"), ("/metrics", "# TYPE ")] {
        assert!(cluster.kubectl(&["get", "--raw", path]).ok().contains(words), "{path}");
    }
    every_member_ends_on_sigterm(&mut cluster);
}

/// In the order in which one would take a cluster down; etcd is not ours to test.
fn every_member_ends_on_sigterm(cluster: &mut SeparateCluster) {
    for name in MEMBERS[1..].iter().rev() {
        let status = cluster.member(name).terminate();
        assert!(status.success(), "{name} ended with {status}:\n{}", cluster.member(name).log());
    }
}

#[test]
fn any_member_may_crash_while_the_deployment_keeps_serving() {
    if !can_run_separate() {
        return;
    }
    let mut cluster = SeparateCluster::up();
    cluster.apply_samples();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    cluster.wait_until_answered();
    let address = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]).ok().to_owned();
    let first_pods =
        cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"]).ok().to_owned();

    for (replicas, name) in (4..).zip(MEMBERS) {
        cluster.member(name).crash();
        assert_serves(&address, &format!("without {name}"));
        cluster.member(name).start();
        cluster.wait_until_served();
        let scaled =
            || cluster.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]).success.then_some(());
        eventually(&format!("the Deployment can be scaled after {name} came back"), PATIENCE, scaled);
        cluster.wait_for(&["deployment", "web"], "{.status.availableReplicas}", &replicas.to_string());
        let ready = "{.items[*].endpoints[*].conditions.ready}";
        cluster.wait_for(
            &["endpointslices", "-l", "kubernetes.io/service-name=web"],
            ready,
            vec!["true"; replicas].join(" ").as_str(),
        );
        cluster.wait_until_answered();
        assert_serves(&address, &format!("after {name} came back"));
    }

    let pods = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"]);
    for pod in first_pods.split(' ') {
        assert!(pods.ok().contains(pod), "{pod} was replaced: {}", pods.stdout);
    }
    let restarts =
        cluster.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"]);
    assert!(restarts.ok().split(' ').all(|count| count == "0"), "containers were restarted: {}", restarts.stdout);
}

#[test]
fn without_etcd_writes_are_refused_in_time_and_nothing_acknowledged_is_lost() {
    if !can_run_separate() {
        return;
    }
    let mut cluster = SeparateCluster::up();
    for number in 0..5 {
        cluster.kubectl(&["create", "configmap", &format!("before-{number}")]).ok();
    }
    cluster.member("etcd").crash();
    let started = Instant::now();
    let refused = cluster.kubectl(&["create", "configmap", "without"]);
    assert!(!refused.fails().is_empty() && started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    cluster.member("etcd").start();
    cluster.wait_until_served();
    let created = || cluster.kubectl(&["create", "configmap", "after"]).success.then_some(());
    eventually("objects can be created again", PATIENCE, created);
    let names = cluster.kubectl(&["get", "configmaps", "-o", "name"]);
    for name in ["before-0", "before-4", "after"] {
        assert!(names.ok().contains(name), "{name}: {}", names.stdout);
    }
}

#[test]
fn after_a_power_cut_of_all_members_the_same_containers_serve() {
    if !can_run_separate() {
        return;
    }
    let mut cluster = SeparateCluster::up();
    cluster.apply_samples();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]).ok();
    cluster.wait_until_answered();
    let containers = |cluster: &SeparateCluster| {
        let ids =
            cluster.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].containerID}"]);
        ids.ok().to_owned()
    };
    let before = containers(&cluster);
    for name in MEMBERS {
        cluster.member(name).crash();
    }
    // Not in the order in which they need each other: each waits for what it needs.
    for name in MEMBERS.iter().rev() {
        cluster.member(name).start();
    }
    eventually("the API server is ready", PATIENCE, || {
        cluster.kubectl(&["get", "--raw=/readyz"]).success.then_some(())
    });
    cluster.kubectl(&["scale", "deployment/web", "--replicas=4"]).ok();
    eventually("a fourth pod serves", PATIENCE, || {
        let available = cluster.kubectl(&["get", "deployment", "web", "-o", "jsonpath={.status.availableReplicas}"]);
        (available.stdout == "4").then_some(())
    });
    cluster.wait_until_answered();
    let after = containers(&cluster);
    for id in before.split(' ') {
        assert!(after.contains(id), "{id} was replaced: {after}");
    }
}

/// Reads the page from the node itself, over the Service's address.
#[track_caller]
fn assert_serves(address: &str, when: &str) {
    let read = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((address, 80))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    for _ in 0..5 {
        let answer = read();
        assert!(answer.as_ref().is_ok_and(|answer| answer.contains(PAGE)), "{when}: {answer:?}");
    }
}

#[test]
fn every_program_tells_of_itself_and_refuses_what_it_does_not_know() {
    if !can_run_separate() {
        return;
    }
    for name in &MEMBERS[1..] {
        let help = run(name, &["--help"]);
        assert!(help.ok().contains("Usage: ") && help.stdout.contains("--healthz-port"), "{}", help.stdout);
        let version = run(name, &["--version"]);
        assert_eq!(version.ok(), concat!("Kubernetes v1.36.2-coracle.", env!("CARGO_PKG_VERSION")), "{name}");
        let unknown = run(name, &["--no-such-flag"]);
        assert!(unknown.fails().contains("--no-such-flag"), "{name}: {}", unknown.stderr);
    }
}

#[test]
fn wrong_kubeconfigs_and_busy_ports_are_named() {
    if !can_run_separate() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.kubeconfig");
    std::fs::write(&wrong, "kind: [").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for name in &MEMBERS[1..] {
        let busy = run(
            name,
            &[&format!("--healthz-port={port}"), "--kubeconfig=/nowhere/x.kubeconfig"]
                [..if *name == "apiserver" { 1 } else { 2 }],
        );
        assert!(
            busy.fails().contains(&port.to_string()) && busy.stderr.contains("--healthz-port"),
            "{name}: {}",
            busy.stderr
        );
    }
    for name in &MEMBERS[2..] {
        let missing = run(name, &["--kubeconfig=/nowhere/x.kubeconfig"]);
        assert!(missing.fails().contains("/nowhere/x.kubeconfig"), "{name}: {}", missing.stderr);
        let broken = run(name, &[&format!("--kubeconfig={}", wrong.display())]);
        assert!(broken.fails().contains("wrong.kubeconfig"), "{name}: {}", broken.stderr);
    }
    let at = |flag: &str, name: &str| format!("--{flag}={}", directory.path().join(name).display());
    let busy =
        run("apiserver", &[&at("data-dir", "data"), &at("cert-dir", "certificates"), &format!("--secure-port={port}")]);
    assert!(busy.fails().contains(&port.to_string()) && busy.stderr.contains("--secure-port"), "{}", busy.stderr);
    let unwritable = run("apiserver", &["--data-dir=/proc/nowhere", &at("cert-dir", "certificates")]);
    assert!(unwritable.fails().contains("/proc/nowhere"), "{}", unwritable.stderr);
    let server = run(
        "coracle",
        &["certificates", &at("data-dir", "pki"), "--server=10.0.0.1", "--node-name=n", "--node-ip=10.0.0.1"],
    );
    assert!(server.fails().contains("--server"), "{}", server.stderr);
}

fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(binary(name)).args(arguments).run()
}
