//! Services of a large cluster: how long a node takes to know what the kernel is to be told of all of them, and of one whose
//! endpoints change; where nft may be used, how long the kernel takes for it, too.
//!
//! `cargo bench -p coracle-bench --bench services`. What a change tells the kernel must be about one Service, whatever else
//! there is.

use std::time::Duration;

use bench::kernel::tell;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proxy::Config;
use proxy::bench::Planner;
use serde_json::{Value, from_value, json};

daemon::allocator!();

const SERVICES: [usize; 2] = [1000, 10_000];
const ENDPOINTS: usize = 3;
/// Every so many Services one has a port of the node, too.
const NODE_PORTS: usize = 20;
/// Changes of which the slowest is told.
const CHANGES: usize = 20;
const TABLE: &str = "coracle-bench-services";

fn made<K: serde::de::DeserializeOwned>(object: Value) -> K {
    from_value(object).expect("an object")
}

fn name(number: usize) -> String {
    format!("service-{number}")
}

fn service(number: usize) -> Service {
    let mut spec = json!({
        "clusterIP": format!("10.{}.{}.{}", 96 + number / 65536, number / 256 % 256, number % 256),
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    });
    if number % NODE_PORTS == 0 {
        spec["type"] = "NodePort".into();
        spec["ports"][0]["nodePort"] = (30_000 + number / NODE_PORTS).into();
    }
    made(json!({"metadata": {"name": name(number), "namespace": "bench"}, "spec": spec}))
}

/// The endpoints of a Service; `turn` chooses their addresses.
fn slice(number: usize, turn: usize) -> EndpointSlice {
    let endpoint = |at: usize| {
        let address = number * ENDPOINTS + at;
        let ip = format!("10.{}.{}.{}", 128 + address / 65536 + 2 * (turn % 2), address / 256 % 256, address % 256);
        json!({"addresses": [ip], "conditions": {"ready": true}, "nodeName": format!("node-{}", address % 100)})
    };
    made(json!({
        "metadata": {"name": name(number), "namespace": "bench",
            "labels": {"kubernetes.io/service-name": name(number)}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    }))
}

fn cluster(services: usize) -> Planner {
    let mut config = Config::new("node-1".into(), vec!["10.128.0.0/10".into()]);
    config.table = TABLE.into();
    let mut planner = Planner::new(config);
    for number in 0..services {
        planner.set_service(service(number));
        planner.set_slice(slice(number, 0));
    }
    planner
}

fn planning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("services");
    group.sample_size(10);
    for services in SERVICES {
        let all = BenchmarkId::new("plan all", services);
        let planned = |mut planner: Planner| planner.text().len();
        group.bench_function(all, |bencher| {
            bencher.iter_batched(|| cluster(services), planned, BatchSize::PerIteration);
        });
        let mut planner = cluster(services);
        eprintln!("text for the kernel: {} bytes", planner.text().len());
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("one changes", services), |bencher| {
            bencher.iter_batched(
                || {
                    turn += 1;
                    slice(0, turn)
                },
                |slice| {
                    planner.set_slice(slice);
                    planner.text().len()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    SERVICES.into_iter().for_each(kernel);
}

/// Tells the kernel all, and then changes; says how long each took.
fn kernel(services: usize) {
    let mut planner = cluster(services);
    let Some(all) = tell(&planner.text()) else { return eprintln!("SKIP: nft cannot be used here") };
    let changes = (0..CHANGES).filter_map(|turn| {
        planner.set_slice(slice(turn, 1));
        tell(&planner.text())
    });
    let slowest = changes.max().unwrap_or_default();
    eprintln!("kernel, {services} Services: all {all:?}, one at most {slowest:?}");
    tell(&format!("delete table ip {TABLE}\n"));
}

criterion_group! {
    name = services;
    config = Criterion::default().measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    targets = planning
}
criterion_main!(services);
