//! The watch cache: reads, snapshots, selection, and how fast it takes in writes with many watchers behind it.
//!
//! `cargo bench -p coracle-bench --bench watch_cache`; the budgets are in the design's section 2.

use std::sync::Arc;
use std::time::Duration;

use api::catalog::Catalog;
use api::selector::LabelSelector;
use apiserver::watch_cache::{Interest, ResourceCache, Selection, Subscription, WatchCache};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use store::embedded::EmbeddedStore;
use store::{Expected, Store};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

daemon::allocator!();

const PODS: usize = 2000;
const WATCHERS: usize = 200;
const WRITES: usize = 500;

/// A cache of pods over a store in memory, and the feed that runs behind it.
struct Fed {
    runtime: Runtime,
    store: Arc<EmbeddedStore>,
    cache: Arc<WatchCache>,
    pods: Arc<ResourceCache>,
    _feed: JoinSet<Result<(), apiserver::watch_cache::Error>>,
}

impl Fed {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let store = Arc::new(EmbeddedStore::in_memory());
        let row = Catalog::builtin().resource("", "v1", "pods").expect("pods are built in").clone();
        let prefix = row.storage_prefix.to_string();
        let (cache, feed) = WatchCache::new(store.clone(), [row]);
        let pods = cache.resource(&prefix).expect("the row's cache");
        let (filled, is_filled) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn_on(feed.run(CancellationToken::new(), filled), runtime.handle());
        runtime.block_on(is_filled).expect("the feed runs");
        let fed = Self { runtime, store, cache, pods, _feed: running };
        fed.runtime.block_on(fed.write(0, PODS));
        fed
    }

    /// Creates pods and waits until the cache has them.
    async fn write(&self, first: usize, count: usize) {
        let mut revision = 0;
        for number in first..first + count {
            let key = self.pods.key("default", &format!("pod-{number:06}"));
            revision = self.store.put(&key, pod(number), Expected::Absent, None).await.expect("the key is new");
        }
        self.cache.wait_for(revision).await;
    }
}

/// A stored pod of about the usual size; one in a hundred is in a group.
fn pod(number: usize) -> Bytes {
    let filler = "x".repeat(700);
    let pod = serde_json::json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": format!("pod-{number:06}"), "namespace": "default", "uid": format!("uid-{number:06}"),
            "labels": {"app": "bench", "group": (number % 100).to_string()}, "annotations": {"filler": filler},
        },
        "spec": {"nodeName": format!("node-{}", number % 50), "containers": [{"name": "main", "image": "bench"}]},
        "status": {"phase": "Pending"},
    });
    pod.to_string().into()
}

fn reads(criterion: &mut Criterion) {
    let fed = Fed::new();
    let mut number = 0;
    criterion.bench_function("get, 2,000 pods", |bencher| {
        bencher.iter(|| {
            number = (number + 797) % PODS;
            fed.pods.get(&fed.pods.key("default", &format!("pod-{number:06}"))).expect("the pod exists")
        });
    });
    criterion.bench_function("snapshot, 2,000 pods", |bencher| bencher.iter(|| fed.pods.snapshot()));
    let selection =
        Selection { labels: "group=7".parse::<LabelSelector>().expect("a selector"), ..Selection::default() };
    let mut group = criterion.benchmark_group("select 1 %");
    group.throughput(Throughput::Elements(PODS as u64));
    group.bench_function("2,000 pods", |bencher| {
        bencher.iter(|| {
            let snapshot = fed.pods.snapshot();
            let selected = snapshot.objects.values().filter(|pod| selection.matches(&fed.pods, pod)).count();
            assert_eq!(selected, PODS / 100);
        });
    });
}

/// Takes `count` events and builds each one's frame as a response would; the frame is shared by all watchers.
async fn receive(mut watch: Subscription, count: usize) -> usize {
    let mut bytes = 0;
    for _ in 0..count {
        let event = watch.next().await.expect("the watcher keeps up");
        let kind = event.seen_by(|_| true).expect("seen by all");
        bytes += event.frame(kind).map_or(0, |frame| frame.len());
    }
    bytes
}

fn fan_out(criterion: &mut Criterion) {
    let fed = Fed::new();
    let mut next = PODS;
    let mut group = criterion.benchmark_group("fan-out");
    group.sample_size(10).throughput(Throughput::Elements((WATCHERS * WRITES) as u64));
    group.bench_function("200 watchers, 500 writes", |bencher| {
        bencher.iter(|| {
            fed.runtime.block_on(async {
                let mut watchers = JoinSet::new();
                for _ in 0..WATCHERS {
                    let (_now, watch) = fed.pods.watch_from_now(Interest::Everything);
                    watchers.spawn(receive(watch, WRITES));
                }
                fed.write(next, WRITES).await;
                next += WRITES;
                while let Some(received) = watchers.join_next().await {
                    assert!(received.expect("no panic") > WRITES * 700);
                }
            });
        });
    });
    group.throughput(Throughput::Elements(WRITES as u64));
    group.bench_function("500 writes, 5,000 watchers of one node each", |bencher| {
        let others: Vec<_> =
            (0..5000).map(|node| fed.pods.watch_from_now(Interest::Field(format!("other-{node}").into()))).collect();
        bencher.iter(|| {
            fed.runtime.block_on(fed.write(next, WRITES));
            next += WRITES;
        });
        drop(others);
    });
}

criterion_group! {
    name = watch_cache;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = reads, fan_out
}
criterion_main!(watch_cache);
