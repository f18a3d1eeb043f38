//! One format for both backends: from each into each.

use std::time::Duration;

use store::backup::{self, BackupError, EMPTY_WRITES, Raise};
use store::embedded::{EmbeddedStore, Options};
use store::{Error, Expected, Range, Store};

use super::etcd_server::{EtcdServer, connect};
use super::migrations::is_compacted;

/// Keys and values of what lasts. What a key was created and last written with is the backend's own where etcd is restored
/// into.
pub(crate) async fn values(store: &dyn Store) -> Vec<(String, bytes::Bytes)> {
    let page = store.list(Range { prefix: "/registry/".into(), ..Range::default() }).await.unwrap();
    let lasting = page.entries.into_iter().filter(|entry| &*entry.key != "/registry/events/soon");
    lasting.map(|entry| (entry.key.to_string(), entry.value)).collect()
}

async fn fill(store: &dyn Store) {
    for number in 0..1200 {
        let key = format!("/registry/pods/{number}");
        store.put(&key, format!("value {number}").into(), Expected::Absent, None).await.unwrap();
    }
    store.put("/registry/empty", "".into(), Expected::Absent, None).await.unwrap();
    let hour = Some(Duration::from_secs(3600));
    store.put("/registry/events/late", "1".into(), Expected::Absent, hour).await.unwrap();
    store.put("/registry/events/soon", "1".into(), Expected::Absent, Some(Duration::from_secs(8))).await.unwrap();
}

/// One key expires soon, and another does not.
pub(crate) async fn expires(store: &dyn Store) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while store.get("/registry/events/soon").await.unwrap().is_some() {
        assert!(std::time::Instant::now() < end, "the key does not expire");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(store.get("/registry/events/late").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_backed_up_and_restored_into_an_embedded_store() {
    let Some(server) = EtcdServer::start().await else { return };
    let etcd = connect(server.options()).await;
    fill(&etcd).await;
    etcd.put("/elsewhere", "not ours".into(), Expected::Absent, None).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("backup");
    let made = backup::of_etcd(&etcd, &file).await.unwrap();
    assert_eq!((made.entries, made.revision), (1203, etcd.revision().await.unwrap()));

    let directory = place.path().join("store");
    backup::to_directory(&file, &directory, 5).unwrap();
    let store = EmbeddedStore::open(Options::at(&directory)).unwrap();
    assert_eq!(values(&store).await, values(&etcd).await);
    assert_eq!(store.revision().await.unwrap(), made.revision + 5);
    assert_eq!(store.get("/elsewhere").await.unwrap(), None);
    expires(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_is_backed_up_and_restored_into_etcd() {
    let Some(server) = EtcdServer::start().await else { return };
    let place = tempfile::tempdir().unwrap();
    let (file, directory) = (place.path().join("backup"), place.path().join("store"));
    let store = EmbeddedStore::open(Options::at(&directory)).unwrap();
    fill(&store).await;
    for round in 0..100 {
        let key = format!("/registry/gone/{round}");
        let revision = store.put(&key, "1".into(), Expected::Absent, None).await.unwrap();
        store.delete(&key, revision).await.unwrap();
    }
    let backed_up = backup::of_directory(&directory, &file).unwrap().revision;
    // More than the restore writes.
    for round in 0..700 {
        let key = format!("/registry/after/{round}");
        let revision = store.put(&key, "1".into(), Expected::Absent, None).await.unwrap();
        store.delete(&key, revision).await.unwrap();
    }
    let seen = store.revision().await.unwrap();
    assert!((backed_up + 1400..backed_up + 2000).contains(&seen), "{seen}");

    let etcd = connect(server.options()).await;
    let restore = |raise| backup::to_etcd(&file, &etcd, raise, |_, _| {});
    let far = restore(Raise::Beyond { bump: 2000, empty_writes: 10 }).await;
    assert!(matches!(far, Err(BackupError::TooFar { store, .. }) if store == backed_up + 2000), "{far:?}");
    restore(Raise::Beyond { bump: 2000, empty_writes: EMPTY_WRITES }).await.unwrap();
    assert_eq!(values(&etcd).await, values(&store).await);
    let first = etcd.list(Range { prefix: "/registry/".into(), ..Range::default() }).await.unwrap();
    assert!(first.entries.iter().all(|entry| entry.mod_revision > seen), "no revision comes again");
    let past = Range { prefix: "/registry/".into(), revision: Some(seen), ..Range::default() };
    assert!(matches!(etcd.list(past).await, Err(Error::Compacted { .. })), "nor is the past told otherwise");
    assert!(is_compacted(&etcd, seen).await, "a watch from before begins anew");
    assert!(matches!(restore(Raise::Not).await, Err(BackupError::Exists { .. })));
    expires(&etcd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_go_back_in_etcd_only_for_whoever_says_so() {
    let Some(server) = EtcdServer::start().await else { return };
    let place = tempfile::tempdir().unwrap();
    let (file, directory) = (place.path().join("backup"), place.path().join("store"));
    let of_etcd = place.path().join("of-etcd");
    let etcd = connect(server.options()).await;
    etcd.put("/registry/a", "1".into(), Expected::Absent, None).await.unwrap();
    backup::of_etcd(&etcd, &of_etcd).await.unwrap();
    // As after a restore: no number of writes leads there.
    let far = backup::to_directory(&of_etcd, &directory, 1_000_000_000).unwrap().revision;
    backup::of_directory(&directory, &file).unwrap();
    etcd.delete("/registry/a", etcd.get("/registry/a").await.unwrap().unwrap().mod_revision).await.unwrap();

    let refused = backup::to_etcd(&file, &etcd, Raise::Beyond { bump: 0, empty_writes: EMPTY_WRITES }, |_, _| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains(&format!("--bump-revision {far} --mark-compacted")), "{refused}");
    backup::to_etcd(&file, &etcd, Raise::Not, |_, _| panic!("nothing is raised")).await.unwrap();
    let back = etcd.get("/registry/a").await.unwrap().unwrap();
    assert!(back.value == "1" && back.mod_revision < far);
}
