//! NetworkPolicies of a large cluster: how long a node takes to know what the kernel is to be told of all of them, and of one
//! change; where nft may be used, how long the kernel takes for it, too.
//!
//! `cargo bench -p coracle-bench --bench network_policy`. One change must cost a small part of all: what it tells the kernel is
//! about one pod or one policy, whatever else there is.

use std::time::Duration;

use bench::kernel::tell;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use policy::Config;
use policy::bench::Planner;
use serde_json::{Value, from_value, json};

daemon::allocator!();

const PODS: usize = 10_000;
const POLICIES: usize = 1000;
const NAMESPACES: usize = 100;
/// Every so many pods one is on this node.
const HERE: [usize; 2] = [1, 40];
const TABLE: &str = "coracle-bench-policy";

fn made<K: serde::de::DeserializeOwned>(object: Value) -> K {
    from_value(object).expect("an object")
}

fn pod(number: usize, every: usize, app: usize) -> Pod {
    let node = if number.is_multiple_of(every) { "here" } else { "there" };
    let ip = format!("10.{}.{}.{}", 64 + number / 65536, number / 256 % 256, number % 256);
    made(json!({
        "metadata": {"name": format!("pod-{number}"), "namespace": format!("ns-{}", number % NAMESPACES),
            "labels": {"app": format!("app-{app}")}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    }))
}

/// A policy of one app in one namespace: from another app there, from a team's namespaces, and from addresses outside.
fn policy(number: usize, port: u16) -> NetworkPolicy {
    let app = number / NAMESPACES;
    let team = json!({"matchLabels": {"team": format!("team-{}", number % 10)}});
    made(json!({
        "metadata": {"name": format!("policy-{number}"), "namespace": format!("ns-{}", number % NAMESPACES)},
        "spec": {
            "podSelector": {"matchLabels": {"app": format!("app-{app}")}},
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": format!("app-{}", (app + 1) % 10)}}}], "ports": [{"port": "web"}]},
                {"from": [{"namespaceSelector": team}], "ports": [{"port": port}]},
                {"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.7/32"]}}]},
            ],
        },
    }))
}

fn cluster(every: usize) -> Planner {
    let config = Config { node_name: "here".into(), bridge: "bench0".into(), table: TABLE.into() };
    let mut planner = Planner::new(config);
    for number in 0..NAMESPACES {
        let labels = json!({"team": format!("team-{}", number % 10)});
        planner
            .set_namespace(&made::<Namespace>(json!({"metadata": {"name": format!("ns-{number}"), "labels": labels}})));
    }
    (0..PODS).for_each(|number| planner.set_pod(&pod(number, every, number / NAMESPACES % 10)));
    (0..POLICIES).for_each(|number| planner.set_policy(&policy(number, 80)));
    planner
}

fn planning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("network policies");
    group.sample_size(10);
    for every in HERE {
        let all = BenchmarkId::new("plan all, pods here", PODS / every);
        group.bench_function(all, |bencher| bencher.iter(|| cluster(every).text().len()));
        let mut planner = cluster(every);
        eprintln!("text for the kernel: {} bytes", planner.text().len());
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("one pod changes, pods here", PODS / every), |bencher| {
            bencher.iter_batched(
                || {
                    turn += 1;
                    pod(0, every, turn % 10)
                },
                |pod| {
                    planner.set_pod(&pod);
                    planner.text().len()
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("one policy changes, pods here", PODS / every), |bencher| {
            bencher.iter_batched(
                || {
                    turn += 1;
                    policy(0, 80 + u16::try_from(turn % 2).expect("small"))
                },
                |policy| {
                    planner.set_policy(&policy);
                    planner.text().len()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    HERE.into_iter().for_each(kernel);
}

/// Tells the kernel all, and then one change; says how long each took.
fn kernel(every: usize) {
    let mut planner = cluster(every);
    let Some(all) = tell(&planner.text()) else { return eprintln!("SKIP: nft cannot be used here") };
    let one = (0..20).filter_map(|turn| {
        planner.set_pod(&pod(0, every, turn % 10));
        tell(&planner.text())
    });
    let slowest = one.max().unwrap_or_default();
    let policies = (0..20).filter_map(|turn| {
        planner.set_policy(&policy(0, 80 + turn % 2));
        tell(&planner.text())
    });
    let slowest_policy = policies.max().unwrap_or_default();
    eprintln!(
        "kernel, {} pods here: all {all:?}, one pod at most {slowest:?}, one policy at most {slowest_policy:?}",
        PODS / every
    );
    tell(&format!("delete table ip {TABLE}\n"));
}

criterion_group! {
    name = policies;
    config = Criterion::default().measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    targets = planning
}
criterion_main!(policies);
