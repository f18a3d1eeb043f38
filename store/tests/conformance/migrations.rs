//! A cluster's entries go from each backend into the other, and back.

use std::path::Path;
use std::time::Duration;

use faults::Attack;
use store::backup::{BackupError, EMPTY_WRITES};
use store::embedded::{EmbeddedStore, OpenError, Options};
use store::etcd::EtcdStore;
use store::migration::{self, MigrationError, Moved, Place, Step};
use store::{Error, Expected, Range, Store};

use super::backups::{expires, values};
use super::etcd_server::{EtcdServer, connect};

/// Where what a migration has to say of etcd lies.
const STANDING: &str = "/coracle/migration";

fn open(directory: &Path) -> EmbeddedStore {
    EmbeddedStore::open(Options::at(directory)).unwrap()
}

fn place(store: &EtcdStore) -> Place<'_> {
    Place { store, name: "http://etcd", patience: Duration::ZERO }
}

async fn out(directory: &Path, etcd: &EtcdStore) -> Result<Moved, MigrationError> {
    migration::to_etcd(directory, &place(etcd), EMPTY_WRITES, |_| {}).await
}

async fn back(etcd: &EtcdStore, directory: &Path) -> Result<Moved, MigrationError> {
    migration::to_directory(&place(etcd), directory, |_| {}).await
}

async fn put(store: &dyn Store, key: &str, value: impl Into<bytes::Bytes>) -> u64 {
    store.put(key, value.into(), Expected::Absent, None).await.unwrap()
}

/// Entries as API servers write them, sealed ones and ones that expire among them, and more revisions than entries.
async fn fill(store: &dyn Store) {
    for number in 0_u32..700 {
        put(store, &format!("/registry/pods/{number}"), format!("value {number}")).await;
    }
    let sealed: Vec<u8> = b"k8s:enc:aesgcm:v1:key:".iter().copied().chain(0..=255).collect();
    let mut revision = put(store, "/registry/secrets/sealed", sealed).await;
    put(store, "/registry/empty", "").await;
    let hour = Some(Duration::from_secs(3600));
    store.put("/registry/events/late", "1".into(), Expected::Absent, hour).await.unwrap();
    store.put("/registry/events/soon", "1".into(), Expected::Absent, Some(Duration::from_secs(3))).await.unwrap();
    for round in 0..2500 {
        let sealed = store.get("/registry/secrets/sealed").await.unwrap().unwrap().value;
        let expected = Expected::Revision(revision);
        let value = if round == 2499 {
            sealed
        } else {
            [sealed.as_ref(), b"+"].concat()[..280.min(sealed.len())].to_vec().into()
        };
        revision = store.put("/registry/secrets/sealed", value, expected, None).await.unwrap();
    }
}

/// Whether a watch from there on begins anew.
pub(crate) async fn is_compacted(store: &dyn Store, after: u64) -> bool {
    use futures::StreamExt as _;
    match store.watch("/registry/", Some(after)).await {
        Err(Error::Compacted { .. }) => true,
        Ok(mut watch) => matches!(watch.next().await, Some(Err(Error::Compacted { .. }))),
        Err(err) => panic!("{err}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_goes_to_etcd_and_back_and_no_revision_comes_again() {
    let Some(server) = EtcdServer::start().await else { return };
    let place = tempfile::tempdir().unwrap();
    let (here, again) = (place.path().join("store"), place.path().join("again"));
    let store = open(&here);
    fill(&store).await;
    let (before, newest) = (values(&store).await, store.revision().await.unwrap());
    let etcd = connect(server.options()).await;
    let in_use = out(&here, &etcd).await;
    assert!(matches!(&in_use, Err(MigrationError::Store(BackupError::Open(OpenError::Locked { .. })))), "{in_use:?}");
    drop(store);

    let moved = out(&here, &etcd).await.unwrap();
    assert_eq!(moved.revisions.0, newest);
    assert_eq!(values(&etcd).await, before);
    let entries = etcd.list(Range { prefix: "/registry/".into(), ..Range::default() }).await.unwrap().entries;
    assert!(entries.iter().all(|entry| entry.mod_revision > newest), "clients have seen all up to {newest}");
    assert!(is_compacted(&etcd, newest).await && is_compacted(&etcd, 2).await);
    expires(&etcd).await;
    let left = EmbeddedStore::open(Options::at(&here)).err();
    assert!(matches!(&left, Some(OpenError::Moved { to, .. }) if to == "etcd at http://etcd"), "{left:?}");
    assert!(matches!(out(&here, &etcd).await, Err(MigrationError::SourceMoved { .. })));

    let in_etcd = put(&etcd, "/registry/later", "1").await;
    let moved = back(&etcd, &again).await.unwrap();
    let store = open(&again);
    assert_eq!(values(&store).await, values(&etcd).await);
    assert_eq!(moved.entries, before.len() as u64 + 1);
    assert_eq!(store.get("/registry/later").await.unwrap().unwrap().mod_revision, in_etcd);
    assert!(store.revision().await.unwrap() >= in_etcd && is_compacted(&store, in_etcd - 1).await);
    assert!(put(&store, "/registry/last", "1").await > in_etcd);
    let left = EtcdStore::open(server.options()).await.err().unwrap().to_string();
    assert!(left.contains("moved to") && left.contains("again"), "{left}");
    assert!(matches!(back(&etcd, &place.path().join("third")).await, Err(MigrationError::SourceMoved { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_or_in_use_or_too_far_is_left_alone() {
    let Some(server) = EtcdServer::start().await else { return };
    let place = tempfile::tempdir().unwrap();
    let here = place.path().join("store");
    let store = open(&here);
    put(&store, "/registry/a", "1").await;
    for round in 0..50 {
        let key = format!("/registry/{round}");
        let revision = put(&store, &key, "1").await;
        store.delete(&key, revision).await.unwrap();
    }
    drop(store);
    let etcd = connect(server.options()).await;
    let server_key = put(&etcd, "/registry/masterleases/192.0.2.1", "1").await;
    let used = out(&here, &etcd).await;
    assert!(matches!(&used, Err(MigrationError::InUse { servers }) if servers == "192.0.2.1"), "{used:?}");
    let used = back(&etcd, &place.path().join("other")).await;
    assert!(matches!(&used, Err(MigrationError::InUse { .. })), "{used:?}");
    etcd.delete("/registry/masterleases/192.0.2.1", server_key).await.unwrap();

    let theirs = put(&etcd, "/registry/theirs", "1").await;
    let full = out(&here, &etcd).await;
    assert!(matches!(&full, Err(MigrationError::Store(BackupError::Exists { .. }))), "{full:?}");
    let full = back(&etcd, &here).await;
    assert!(matches!(&full, Err(MigrationError::Store(BackupError::Exists { .. }))), "{full:?}");
    etcd.delete("/registry/theirs", theirs).await.unwrap();

    let far = migration::to_etcd(&here, &super::migrations::place(&etcd), 10, |_| {}).await;
    assert!(matches!(far, Err(MigrationError::Store(BackupError::TooFar { .. }))), "{far:?}");
    let none = out(&place.path().join("none"), &etcd).await;
    assert!(matches!(&none, Err(MigrationError::Store(BackupError::Open(OpenError::Absent { .. })))), "{none:?}");
    assert_eq!(etcd.get(STANDING).await.unwrap(), None, "nothing was begun");

    let store = open(&here);
    put(&store, "/elsewhere", "1").await;
    drop(store);
    assert!(matches!(out(&here, &etcd).await, Err(MigrationError::Foreign { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_on_the_other_side_is_noticed() {
    let Some(server) = EtcdServer::start().await else { return };
    let place = tempfile::tempdir().unwrap();
    let (here, again) = (place.path().join("store"), place.path().join("again"));
    let store = open(&here);
    put(&store, "/registry/a", "1").await;
    drop(store);
    let etcd = connect(server.options()).await;
    let intrude = |step| {
        if step == Step::Comparing {
            let put = etcd.put("/registry/b", "1".into(), Expected::Absent, None);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(put)).unwrap();
        }
    };
    let outcome = migration::to_etcd(&here, &super::migrations::place(&etcd), EMPTY_WRITES, intrude).await;
    assert!(matches!(&outcome, Err(MigrationError::Differs { key }) if key == "/registry/b"), "{outcome:?}");
    drop(open(&here));
    out(&here, &etcd).await.unwrap();
    assert_eq!(etcd.get("/registry/b").await.unwrap(), None, "it began anew");
    let outcome = migration::to_directory(&super::migrations::place(&etcd), &again, intrude).await;
    assert!(matches!(&outcome, Err(MigrationError::Differs { key }) if key == "/registry/b"), "{outcome:?}");
    assert!(matches!(EmbeddedStore::open(Options::at(&again)), Err(OpenError::Unfinished { .. })));
    drop(EtcdStore::open(server.options()).await.unwrap());
    assert_eq!(back(&etcd, &again).await.unwrap().entries, 2);
    drop(open(&again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_off_at_any_moment_begins_anew_and_is_never_served() {
    let Some(server) = EtcdServer::start().await else { return };
    let place = tempfile::tempdir().unwrap();
    let (here, again) = (place.path().join("store"), place.path().join("again"));
    let store = open(&here);
    fill(&store).await;
    let (before, newest) = (values(&store).await, store.revision().await.unwrap());
    drop(store);
    let etcd = connect(server.options()).await;
    let (mut broken, mut served) = (0, 0);
    for round in 1_u64.. {
        match tokio::time::timeout(Duration::from_millis(round * round * 3), out(&here, &etcd)).await {
            Ok(outcome) => {
                outcome.unwrap();
                break;
            }
            Err(_elapsed) => broken += 1,
        }
        let is_begun = etcd.get(STANDING).await.unwrap().is_some();
        let is_open = EtcdStore::open(server.options()).await.is_ok();
        served += u64::from(is_begun && is_open);
    }
    assert_eq!(values(&etcd).await, before);
    assert!(is_compacted(&etcd, newest).await);
    for round in 1_u64.. {
        match tokio::time::timeout(Duration::from_millis(round * round * 2), back(&etcd, &again)).await {
            Ok(outcome) => {
                outcome.unwrap();
                break;
            }
            Err(_elapsed) => broken += 1,
        }
        served += u64::from(again.join("store.migration").exists() && EmbeddedStore::open(Options::at(&again)).is_ok());
    }
    assert_eq!(values(&open(&again)).await, before);
    Attack::new("store: migrations broken off at any moment").tried(broken, served).record();
}
