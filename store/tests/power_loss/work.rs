//! What goes on in a store until the power goes: writers that each have keys of their own, one that compacts, and one that
//! watches.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::embedded::EmbeddedStore;
use store::{Error, Expected, Revision, Store, WatchEvent};
use tokio::task::JoinSet;

use super::disk::Disk;
use super::known::{Known, Written};

/// Keys of each writer.
const KEYS: u32 = 5;
const HOUR: Duration = Duration::from_secs(3600);

/// How much is to be done.
pub(crate) struct Plan {
    pub(crate) writers: u32,
    pub(crate) writes: u32,
    pub(crate) compactions: u32,
    /// Whether the store is closed when all is done, rather than dropped.
    pub(crate) closes: bool,
}

impl Plan {
    pub(crate) fn random(random: &mut StdRng) -> Self {
        Self {
            writers: random.random_range(1..=5),
            writes: random.random_range(1..=40),
            compactions: random.random_range(0..=3),
            closes: random.random(),
        }
    }
}

/// Works until all is done or the power goes, and adds what clients learnt.
pub(crate) async fn work(store: EmbeddedStore, disk: &Disk, plan: &Plan, seed: u64, known: &mut Known) {
    let store = Arc::new(store);
    let from = store.revision().await.unwrap();
    let watch = store.watch("", Some(from)).await.unwrap();
    let watcher = tokio::spawn(watch.filter_map(async |event| event.ok()).collect::<Vec<_>>());
    let mut writers = JoinSet::new();
    for writer in 0..plan.writers {
        let random = StdRng::seed_from_u64(seed ^ u64::from(writer + 1) << 32);
        writers.spawn(write(store.clone(), disk.clone(), writer, plan.writes, random));
    }
    let compacted = compact(&store, disk, plan.compactions, StdRng::seed_from_u64(!seed));
    let (compacted, wrote) = tokio::join!(compacted, writers.join_all());
    if plan.closes {
        let closed = store.close().await;
        assert!(closed.is_ok() || disk.is_off(), "{closed:?}");
    }
    let store = Arc::into_inner(store).expect("all tasks have ended");
    tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
    for event in watcher.await.unwrap() {
        match event {
            WatchEvent::Put { entry, .. } => {
                known.saw(entry.mod_revision, Written { key: entry.key.to_string(), value: Some(entry.value) });
            }
            WatchEvent::Delete { key, revision, .. } => {
                known.saw(revision, Written { key: key.to_string(), value: None });
            }
            WatchEvent::Progress(_) => {}
        }
    }
    for (acknowledged, unanswered) in wrote {
        acknowledged.into_iter().for_each(|(revision, written)| known.saw(revision, written));
        known.unanswered.extend(unanswered);
    }
    let (acknowledged, tried) = compacted;
    known.compacted = known.compacted.max(acknowledged);
    known.perhaps_compacted = known.perhaps_compacted.max(tried);
}

/// The writes that were acknowledged, and the last one if it was not.
type Wrote = (Vec<(Revision, Written)>, Option<Written>);

async fn write(store: Arc<EmbeddedStore>, disk: Disk, writer: u32, writes: u32, mut random: StdRng) -> Wrote {
    let mut acknowledged = Vec::new();
    for _ in 0..writes {
        let key = format!("/r/{writer}/{}", random.random_range(0..KEYS));
        let current = store.get(&key).await.unwrap();
        let (answer, value) = match current {
            Some(entry) if random.random_ratio(1, 4) => (store.delete(&key, entry.mod_revision).await, None),
            current => {
                let value = value(&mut random);
                let expected = current.map_or(Expected::Absent, |entry| Expected::Revision(entry.mod_revision));
                let ttl = random.random_ratio(1, 8).then_some(HOUR);
                (store.put(&key, value.clone(), expected, ttl).await, Some(value))
            }
        };
        let written = Written { key, value };
        match answer {
            Ok(revision) => acknowledged.push((revision, written)),
            Err(err) => {
                assert!(disk.is_off(), "{}: {err}", written.key);
                return (acknowledged, Some(written));
            }
        }
    }
    (acknowledged, None)
}

/// No two are the same. Records have one sector or many.
fn value(random: &mut StdRng) -> Bytes {
    let most = [40, 400, 3000, 9000][random.random_range(0..4)];
    let mut value = random.random::<u128>().to_string().into_bytes();
    value.resize(value.len() + random.random_range(0..most), random.random());
    value.into()
}

/// Returns up to where history was certainly forgotten, and up to where perhaps.
async fn compact(store: &EmbeddedStore, disk: &Disk, times: u32, mut random: StdRng) -> (Revision, Revision) {
    let (mut acknowledged, mut tried) = (0, 0);
    for _ in 0..times {
        for _ in 0..random.random_range(0..200) {
            tokio::task::yield_now().await;
        }
        let newest = store.revision().await.unwrap();
        let revision = newest - random.random_range(0..newest.min(20));
        match store.compact(revision).await {
            Ok(()) => acknowledged = revision,
            Err(Error::Compacted { .. }) => {}
            Err(err) => assert!(disk.is_off(), "compact: {err}"),
        }
        tried = tried.max(revision);
    }
    (acknowledged, tried)
}
