//! The embedded store: durable writes alone and together, reads, pages, and the fan-out of watches.
//!
//! `cargo bench -p coracle-bench --bench store`; the budgets are in the design's section 2.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt as _;
use futures::future::join_all;
use store::embedded::{EmbeddedStore, Options};
use store::{Expected, Range, Store, WatchEvent};
use tokio::runtime::Runtime;

/// A pod of about the usual size.
const VALUE: usize = 1024;

fn value() -> Bytes {
    (0..VALUE).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Creates `count` keys with so many writers at once, and returns how long each took.
async fn create(store: &Arc<EmbeddedStore>, first: u64, count: u64, writers: u64) -> Vec<Duration> {
    let tasks = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            for number in (first + writer..first + count).step_by(writers as usize) {
                let start = Instant::now();
                let key = format!("/registry/pods/default/{number:012}");
                store.put(&key, value(), Expected::Absent, None).await.expect("the key is new");
                took.push(start.elapsed());
            }
            took
        })
    });
    join_all(tasks).await.into_iter().flat_map(|took| took.expect("no panic")).collect()
}

fn durable_creates(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("durable creates");
    group.throughput(Throughput::Elements(1));
    for writers in [1, 16, 64] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Arc::new(EmbeddedStore::open(Options::at(directory.path())).expect("a new store"));
        let (mut next, mut all) = (0, Vec::new());
        group.bench_function(BenchmarkId::from_parameter(writers), |bencher| {
            bencher.iter_custom(|count| {
                let start = Instant::now();
                let took = runtime.block_on(create(&store, next, count, writers));
                let elapsed = start.elapsed();
                next += count;
                all.extend(took);
                elapsed
            });
        });
        all.sort_unstable();
        let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
        println!(
            "{writers} in flight: p50 {:?}, p99 {:?}, p99.9 {:?}, most {:?}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

fn reads(criterion: &mut Criterion) {
    let runtime = runtime();
    let store = Arc::new(EmbeddedStore::in_memory());
    runtime.block_on(create(&store, 0, 100_000, 64));
    let mut number = 0_u64;
    criterion.bench_function("get, 100,000 keys", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % 100_000;
            let key = format!("/registry/pods/default/{number:012}");
            runtime.block_on(store.get(&key)).expect("a read").expect("the key exists")
        });
    });
    let prefix = "/registry/pods/".to_owned();
    criterion.bench_function("list a page of 500 of 100,000", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % 100_000;
            let after = Some(format!("/registry/pods/default/{number:012}"));
            let range = Range { prefix: prefix.clone(), after, limit: Some(500), revision: None };
            runtime.block_on(store.list(range)).expect("a page")
        });
    });
    criterion.bench_function("list all of 100,000", |bencher| {
        let range = || Range { prefix: prefix.clone(), ..Range::default() };
        bencher.iter_batched(
            range,
            |range| runtime.block_on(store.list(range)).expect("a list"),
            BatchSize::SmallInput,
        );
    });
}

fn watch_fan_out(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("watch fan-out");
    let (watchers, events) = (200, 1000);
    group.throughput(Throughput::Elements(watchers * events));
    group.sample_size(10);
    let store = Arc::new(EmbeddedStore::in_memory());
    let mut next = 0;
    group.bench_function("200 watchers, 1,000 events", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut readers = Vec::new();
                for _ in 0..watchers {
                    let watch = store.watch("/registry/pods/", None).await.expect("a watch");
                    let changes = watch.filter(|event| {
                        let is_put = matches!(event, Ok(WatchEvent::Put { .. }));
                        async move { is_put }
                    });
                    readers.push(tokio::spawn(changes.take(events as usize).count()));
                }
                create(&store, next, events, 64).await;
                next += events;
                for seen in join_all(readers).await {
                    assert_eq!(seen.expect("no panic"), events as usize);
                }
            });
        });
    });
}

fn starts(criterion: &mut Criterion) {
    criterion.bench_function("open a new store", |bencher| {
        let directory = || tempfile::tempdir().expect("a temporary directory");
        bencher.iter_batched(
            directory,
            |directory| (EmbeddedStore::open(Options::at(directory.path())).expect("a new store"), directory),
            BatchSize::PerIteration,
        );
    });
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(EmbeddedStore::open(Options::at(directory.path())).expect("a new store"));
    runtime().block_on(create(&store, 0, 10_000, 64));
    drop(store);
    criterion.bench_function("open a store of 10,000 objects", |bencher| {
        bencher.iter(|| EmbeddedStore::open(Options::at(directory.path())).expect("the store"));
    });
}

criterion_group! {
    name = store;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    targets = durable_creates, reads, watch_fan_out, starts
}
criterion_main!(store);
