//! A store that nobody uses does nothing: alone in this file, so that its threads are alone in the process.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use store::embedded::{EmbeddedStore, Options};
use store::{Expected, Store};

/// How often each of the store's threads was put to sleep so far.
fn wake_ups() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let path = thread.unwrap().path();
        if fs::read_to_string(path.join("comm")).unwrap().starts_with("store-") {
            let status = fs::read_to_string(path.join("status")).unwrap();
            let switches = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
            found.insert(path.display().to_string(), switches.to_owned());
        }
    }
    found
}

fn files(directory: &std::path::Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let describe = |file: std::io::Result<fs::DirEntry>| {
        let file = file.unwrap();
        let data = file.metadata().unwrap();
        (file.file_name().into_string().unwrap(), data.len(), data.modified().unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(describe).collect();
    files.sort();
    files
}

#[tokio::test]
async fn an_idle_store_neither_wakes_up_nor_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(Options::at(directory.path())).unwrap();
    let _watch = store.watch("/", None).await.unwrap();
    for number in 0..100 {
        store.put(&format!("/r/{number}"), "1".into(), Expected::Absent, None).await.unwrap();
    }
    let hour = Some(Duration::from_secs(3600));
    store.put("/r/event", "1".into(), Expected::Absent, hour).await.unwrap();
    store.check().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = (wake_ups(), files(directory.path()));
    assert!(!before.0.is_empty(), "the store has a thread");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(before, (wake_ups(), files(directory.path())));
}
