//! What is special about the embedded backend: its files, its limits, its history.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use store::embedded::{EmbeddedStore, OpenError, Options};
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
async fn history_beyond_its_limits_is_forgotten_and_its_rows_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { history_events: 10, ..Limits::default() };
    let options = Options { limits, ..Options::at(directory.path()) };
    let store = EmbeddedStore::open(options.clone()).unwrap();
    let mut revision = create(&store, "/a", "0").await;
    for _ in 0..1000 {
        revision = store.put("/a", "1".into(), Expected::Revision(revision), None).await.unwrap();
    }
    assert!(matches!(store.watch("/", Some(revision - 11)).await.err(), Some(Error::Compacted { .. })));
    assert!(store.watch("/", Some(revision - 10)).await.is_ok());
    drop(store);

    let rows = |path: &std::path::Path| -> i64 {
        let sql = rusqlite::Connection::open(path.join("store.db")).unwrap();
        sql.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap()
    };
    assert!(rows(directory.path()) < 300, "{} rows", rows(directory.path()));
    let store = EmbeddedStore::open(options).unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().mod_revision, revision);
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
fn files_that_are_not_ours_are_refused_and_left_alone() {
    let garbage = tempfile::tempdir().unwrap();
    std::fs::write(garbage.path().join("store.db"), [7; 9000]).unwrap();
    let err = EmbeddedStore::open(Options::at(garbage.path())).err().unwrap();
    assert!(matches!(err, OpenError::Foreign { .. }), "{err}");
    assert_eq!(std::fs::read(garbage.path().join("store.db")).unwrap(), [7; 9000]);

    let foreign = tempfile::tempdir().unwrap();
    let sql = rusqlite::Connection::open(foreign.path().join("store.db")).unwrap();
    sql.execute_batch("CREATE TABLE kine (id INTEGER); PRAGMA user_version = 1").unwrap();
    drop(sql);
    let err = EmbeddedStore::open(Options::at(foreign.path())).err().unwrap();
    assert!(matches!(err, OpenError::Foreign { .. }), "{err}");

    let newer = tempfile::tempdir().unwrap();
    drop(EmbeddedStore::open(Options::at(newer.path())).unwrap());
    let sql = rusqlite::Connection::open(newer.path().join("store.db")).unwrap();
    sql.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(sql);
    let err = EmbeddedStore::open(Options::at(newer.path())).err().unwrap();
    assert!(matches!(err, OpenError::Version { found: 99, .. }), "{err}");
}

#[test]
fn a_log_without_its_database_and_a_database_with_a_gap_are_refused() {
    let orphan = tempfile::tempdir().unwrap();
    std::fs::write(orphan.path().join("store.db-wal"), [1; 100]).unwrap();
    let err = EmbeddedStore::open(Options::at(orphan.path())).err().unwrap();
    assert!(matches!(err, OpenError::Orphan { .. }), "{err}");

    let gap = tempfile::tempdir().unwrap();
    drop(EmbeddedStore::open(Options::at(gap.path())).unwrap());
    let sql = rusqlite::Connection::open(gap.path().join("store.db")).unwrap();
    sql.execute_batch("INSERT INTO changes VALUES (2, 2, NULL, '/a', 'x'), (4, 4, NULL, '/b', 'x')").unwrap_err();
    sql.execute_batch("INSERT INTO changes VALUES (2, 2, NULL, '/a', x'00'), (4, 4, NULL, '/b', x'00')").unwrap();
    drop(sql);
    let err = EmbeddedStore::open(Options::at(gap.path())).err().unwrap();
    assert!(matches!(err, OpenError::Gap { after: 2, .. }), "{err}");
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
