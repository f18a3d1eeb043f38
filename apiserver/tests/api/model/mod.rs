//! The model test of the watch contract (D5): whatever is written, lost or forgotten meanwhile, what a client has listed
//! and watched equals the store at the client's revision.
//!
//! `CORACLE_MODEL_SEED` replays the choices of a run, `CORACLE_MODEL_SECONDS` makes it longer.

mod chaos;
#[allow(dead_code, reason = "shared with the tests of the store, which use more of it")]
#[path = "../../../../store/tests/conformance/etcd_server.rs"]
mod etcd_server;
mod oracle;
mod replica;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apiserver::Config;
use apiserver::testing::TestServer;
use apiserver::watch_cache::stored_bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use store::embedded::EmbeddedStore;
use store::{Expected, Revision, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::chaos::Chaos;
use self::etcd_server::{EtcdServer, connect};
use self::oracle::{Oracle, Selects};
use self::replica::Replica;
use self::writer::Writer;
use crate::client::{Client, expect};

/// Where the writers write.
const NAMESPACES: [&str; 2] = ["a", "b"];
/// How long replicas may take to catch up once nothing is written any more.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_replica_equals_the_embedded_store_at_its_revision() {
    run(Arc::new(EmbeddedStore::in_memory()), Plan { writers: 3, replicas: 14, crowd: 0, chaos: true }).await;
}

#[tokio::test]
async fn every_replica_equals_etcd_at_its_revision() {
    let Some(server) = EtcdServer::start().await else { return };
    let store = connect(server.options()).await;
    run(Arc::new(store), Plan { writers: 3, replicas: 14, crowd: 0, chaos: true }).await;
}

#[tokio::test]
async fn replicas_that_begin_with_more_than_ten_thousand_objects_miss_none() {
    run(Arc::new(EmbeddedStore::in_memory()), Plan { writers: 2, replicas: 4, crowd: 10_500, chaos: false }).await;
}

/// The size of a run.
struct Plan {
    writers: usize,
    replicas: usize,
    /// So many pods that nobody touches.
    crowd: usize,
    /// Whether the store's watch stutters and breaks, and history is compacted.
    chaos: bool,
}

/// What all parts of a run share.
#[derive(Clone)]
struct World {
    client: Client,
    oracle: Arc<Oracle>,
    /// The newest version that a writer was told.
    acknowledged: Arc<AtomicU64>,
    /// How often a replica was told that its history is gone.
    expired: Arc<AtomicU64>,
    /// Whether writers go on.
    open: watch::Receiver<bool>,
    /// The last revision, once there are no more writes.
    end: watch::Receiver<Option<Revision>>,
    /// The size of small pages: a crowd takes larger ones to come to an end.
    page: usize,
}

impl World {
    fn acknowledge(&self, version: u64) {
        self.acknowledged.fetch_max(version, Ordering::SeqCst);
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }
}

async fn run(store: Arc<dyn Store>, plan: Plan) {
    let seed = number("CORACLE_MODEL_SEED").unwrap_or_else(|| rand::rng().random());
    let length = Duration::from_secs(number("CORACLE_MODEL_SECONDS").unwrap_or(6));
    eprintln!("replay with CORACLE_MODEL_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    crowd(&store, plan.crowd).await;
    let oracle = Oracle::follow(store.clone()).await;
    let (mut writers, mut replicas) = (JoinSet::new(), JoinSet::new());
    let below: Arc<dyn Store> =
        if plan.chaos { Arc::new(Chaos::new(store.clone(), rng.random())) } else { store.clone() };
    let server = TestServer::with(Config::default(), below).await;
    let ((closing, open), (ending, end)) = (watch::channel(true), watch::channel(None));
    let world = World {
        client: Client::admin(&server),
        oracle,
        acknowledged: Arc::default(),
        expired: Arc::default(),
        open,
        end,
        page: if plan.crowd == 0 { 3 } else { 500 },
    };
    furnish(&world.client).await;
    for _ in 0..plan.writers {
        let writer = Writer::new(world.clone(), StdRng::seed_from_u64(rng.random()));
        writers.spawn(writer.run());
    }
    for number in 0..plan.replicas {
        let selects = Selects::ALL[number % Selects::ALL.len()];
        let replica = Replica::new(world.clone(), selects, StdRng::seed_from_u64(rng.random()));
        replicas.spawn(replica.run());
    }
    if plan.chaos {
        let rng = StdRng::seed_from_u64(rng.random());
        writers.spawn(compact_now_and_then(store.clone(), world.open.clone(), rng));
    }
    // Work until the time is over, or something fails.
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        Some(ended) = writers.join_next() => panic!("a writer ended early: {ended:?}"),
        Some(ended) = replicas.join_next() => panic!("a replica ended early: {ended:?}"),
    }
    closing.send_replace(false);
    writers.join_all().await;
    ending.send_replace(Some(store.revision().await.unwrap()));
    let all = async {
        while let Some(done) = replicas.join_next().await {
            done.unwrap()
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        panic!("{} replicas did not catch up", replicas.len());
    }
    eprintln!("{} writes, {} times too late", world.acknowledged(), world.expired.load(Ordering::SeqCst));
    server.stop().await;
}

/// Pods that are there before the server is.
async fn crowd(store: &Arc<dyn Store>, count: usize) {
    for number in 0..count {
        let name = format!("p{number:05}");
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "crowd",
            "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": []}, "status": {}});
        let value = stored_bytes(&api::Object::from_value(pod).unwrap());
        store.put(&format!("/registry/pods/crowd/{name}"), value, Expected::Absent, None).await.unwrap();
    }
}

async fn furnish(client: &Client) {
    for namespace in NAMESPACES {
        expect(client.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await, 201);
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        expect(client.post(&accounts, &json!({"metadata": {"name": "default"}})).await, 201);
    }
}

/// Forgets history, sometimes all of it.
async fn compact_now_and_then(store: Arc<dyn Store>, mut open: watch::Receiver<bool>, mut rng: StdRng) {
    loop {
        let pause = Duration::from_millis(rng.random_range(50..1000));
        if tokio::time::timeout(pause, open.wait_for(|open| !open)).await.is_ok() {
            return;
        }
        let kept = if rng.random_bool(0.5) { 0 } else { rng.random_range(0..300) };
        let revision = store.revision().await.unwrap().saturating_sub(kept);
        match store.compact(revision).await {
            Ok(()) | Err(store::Error::Compacted { .. }) => {}
            Err(err) => panic!("{err}"),
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}
