//! What is special about the embedded backend: its files, its limits, its history.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use store::embedded::{EmbeddedStore, LogOptions, OpenError, Options};
use store::{Error, Expected, Limits, Range, Store, WatchEvent};

async fn create(store: &EmbeddedStore, key: &str, value: &str) -> u64 {
    store.put(key, Bytes::copy_from_slice(value.as_bytes()), Expected::Absent, None).await.unwrap()
}

#[tokio::test]
async fn a_reopened_store_has_its_entries_its_history_and_its_revision() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    let first = create(&store, "/a", "1").await;
    let second = store.put("/a", "2".into(), Expected::Revision(first), None).await.unwrap();
    create(&store, "/b", "1").await;
    let last = store.delete("/a", second).await.unwrap();
    let before: Vec<_> = store.watch("/", Some(1)).await.unwrap().take(5).map(Result::unwrap).collect().await;
    drop(store);

    let store = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    assert_eq!(store.revision().await.unwrap(), last);
    assert_eq!(store.get("/a").await.unwrap(), None);
    let page = store.list(Range { prefix: "/a".into(), revision: Some(second), ..Range::default() }).await.unwrap();
    assert_eq!(page.entries[0].value, "2");
    let after: Vec<_> = store.watch("/", Some(1)).await.unwrap().take(5).map(Result::unwrap).collect().await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_compacted_store_keeps_its_revision_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    let first = create(&store, "/a", "1").await;
    let last = store.delete("/a", first).await.unwrap();
    store.compact(last).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.put("/b", "1".into(), Expected::Absent, None).await, Err(Error::Unavailable { .. })));
    drop(store);

    let store = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    assert_eq!(store.revision().await.unwrap(), last);
    assert!(
        matches!(store.watch("/", Some(first)).await.err(), Some(Error::Compacted { oldest, .. }) if oldest == last)
    );
    assert_eq!(create(&store, "/a", "1").await, last + 1);
}

#[tokio::test]
async fn history_beyond_its_limits_is_forgotten_in_memory_and_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { history_events: 10, ..Limits::default() };
    let log = LogOptions { segment_bytes: 64 << 10, checkpoint_bytes: 64 << 10 };
    let options = Options { limits, log, ..Options::at(directory.path()) };
    let store = EmbeddedStore::open(options.clone()).unwrap();
    let mut revision = create(&store, "/a", "0").await;
    for _ in 0..1000 {
        revision = store.put("/a", "1".into(), Expected::Revision(revision), None).await.unwrap();
    }
    assert!(matches!(store.watch("/", Some(revision - 11)).await.err(), Some(Error::Compacted { .. })));
    assert!(store.watch("/", Some(revision - 10)).await.is_ok());
    drop(store);

    let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
    let named = |start: &str| files.iter().filter(|file| file.file_name().to_str().unwrap().starts_with(start)).count();
    assert_eq!((named("checkpoint-"), named("log-")), (1, 1), "{files:?}");
    let checkpoint = files.iter().find(|file| file.file_name().to_str().unwrap().starts_with("checkpoint-")).unwrap();
    assert!(checkpoint.metadata().unwrap().len() < 1000, "{checkpoint:?}");
    let store = EmbeddedStore::open(options).unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().mod_revision, revision);
    assert!(matches!(store.watch("/", Some(revision - 11)).await.err(), Some(Error::Compacted { .. })));
    assert!(store.watch("/", Some(revision - 10)).await.is_ok());
}

#[tokio::test]
async fn a_reader_that_stops_is_told_that_it_is_too_slow_and_others_are_not() {
    let store = EmbeddedStore::in_memory_with(Limits { watch_buffer: 4, ..Limits::default() });
    let mut slow = store.watch("/", None).await.unwrap();
    let mut quick = store.watch("/", None).await.unwrap();
    for number in 0..6 {
        let revision = create(&store, &format!("/{number}"), "x").await;
        assert_eq!(quick.next().await.unwrap().unwrap().revision(), revision);
    }
    let seen: Vec<_> = slow.by_ref().take(4).map(|event| event.unwrap().revision()).collect().await;
    assert_eq!(seen, [2, 3, 4, 5]);
    assert!(matches!(slow.next().await, Some(Err(Error::TooSlow))));
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn closing_ends_watches_with_an_error() {
    let store = EmbeddedStore::in_memory();
    let mut watch = store.watch("/", None).await.unwrap();
    create(&store, "/a", "1").await;
    store.close().await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Put { .. }))));
    assert!(matches!(watch.next().await, Some(Err(Error::Unavailable { .. }))));
    assert!(watch.next().await.is_none());
    assert!(store.check().await.is_err());
}

#[tokio::test]
async fn a_key_still_expires_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    store.put("/a", "1".into(), Expected::Absent, Some(Duration::from_secs(1))).await.unwrap();
    let revision = store.revision().await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    let mut watch = store.watch("/", Some(revision)).await.unwrap();
    loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Progress(_) => {}
            WatchEvent::Delete { key, previous, .. } => {
                assert_eq!((&*key, previous.unwrap().mod_revision), ("/a", revision));
                break;
            }
            WatchEvent::Put { .. } => panic!("nothing was written"),
        }
    }
    assert_eq!(store.get("/a").await.unwrap(), None);
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let _first = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    let err = EmbeddedStore::open(Options::at(directory.path())).err().unwrap();
    assert!(matches!(err, OpenError::Locked { .. }), "{err}");
    assert!(err.to_string().contains("another process"), "{err}");
}

#[test]
fn a_store_of_an_earlier_version_is_refused_with_what_to_do() {
    let old = tempfile::tempdir().unwrap();
    std::fs::write(old.path().join("store.lock"), "").unwrap();
    std::fs::write(old.path().join("store.db"), [7; 9000]).unwrap();
    let err = EmbeddedStore::open(Options::at(old.path())).err().unwrap();
    assert!(matches!(err, OpenError::Outdated { .. }), "{err}");
    assert!(err.to_string().contains("migrate-from-sqlite"), "{err}");
    assert_eq!(std::fs::read(old.path().join("store.db")).unwrap(), [7; 9000]);
    assert_eq!(std::fs::read_dir(old.path()).unwrap().count(), 2);
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new");
    drop(EmbeddedStore::open(Options::at(&path)).unwrap());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn a_batch_larger_than_a_log_file_is_written_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogOptions { segment_bytes: 4096, checkpoint_bytes: 1 << 30 };
    let options = Options { log, ..Options::at(directory.path()) };
    let store = EmbeddedStore::open(options.clone()).unwrap();
    let value = Bytes::from((0..100_000_u32).map(|at| at as u8).collect::<Vec<_>>());
    store.put("/a", value.clone(), Expected::Absent, None).await.unwrap();
    create(&store, "/b", "1").await;
    drop(store);
    let store = EmbeddedStore::open(options).unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value);
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let err = EmbeddedStore::open(Options::at(&file)).err().unwrap();
    assert!(err.to_string().contains(file.to_str().unwrap()), "{err}");
    let err = EmbeddedStore::open(Options::at("/proc/coracle")).err().unwrap();
    assert!(err.to_string().contains("/proc/coracle"), "{err}");
}

#[test]
fn a_store_in_step_does_all_on_the_thread_of_who_writes() {
    fn at_once<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("nobody has to be waited for")
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let store = EmbeddedStore::in_step();
    assert_eq!(threads(), before);
    let mut watch = at_once(store.watch("/", None)).unwrap();
    let put = |key, expected, ttl| at_once(store.put(key, "1".into(), expected, ttl));
    let revision = put("/a", Expected::Absent, Some(Duration::from_secs(1))).unwrap();
    assert!(matches!(put("/a", Expected::Absent, None), Err(Error::Conflict { .. })));
    assert_eq!(at_once(watch.next()).unwrap().unwrap().revision(), revision);
    let mut last = put("/b", Expected::Absent, None).unwrap();
    while at_once(store.get("/a")).unwrap().is_some() {
        last = put("/b", Expected::Revision(last), None).unwrap();
    }
    at_once(store.close()).unwrap();
    assert!(matches!(put("/c", Expected::Absent, None), Err(Error::Unavailable { .. })));
}
