//! A disk that is full, slow or fails, at every step of the work: what was acknowledged stays, and the store says how it is.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod support;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use faults::Attack;
use store::embedded::{EmbeddedStore, Faults, LogOptions, Operation, Options, Outcome};
use store::{Error, Expected, Range, Store};

/// What a test says shall become of operations, and how many there were.
#[derive(Clone, Default)]
struct Switch {
    outcome: Arc<Mutex<Option<Decide>>>,
    operations: Arc<AtomicU64>,
}

type Decide = Box<dyn Fn(Operation, &Path) -> Outcome + Send>;

impl Switch {
    fn set(&self, decide: impl Fn(Operation, &Path) -> Outcome + Send + 'static) {
        *self.outcome.lock().unwrap() = Some(Box::new(decide));
    }

    fn clear(&self) {
        *self.outcome.lock().unwrap() = None;
    }

    fn faults(&self) -> Faults {
        let switch = self.clone();
        Faults::new(move |operation, path| {
            switch.operations.fetch_add(1, Ordering::SeqCst);
            switch.outcome.lock().unwrap().as_ref().map_or(Outcome::Proceed, |decide| decide(operation, path))
        })
    }

    /// Opens a store whose log files and checkpoints are small.
    fn open(&self, directory: &Path) -> Result<EmbeddedStore, store::embedded::OpenError> {
        let log = LogOptions { segment_bytes: 32 << 10, checkpoint_bytes: 16 << 10 };
        EmbeddedStore::open(Options { log, faults: self.faults(), ..Options::at(directory) })
    }
}

fn is_log(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with("log-")
}

async fn create(store: &EmbeddedStore, key: &str, size: usize) -> Result<u64, Error> {
    store.put(key, vec![b'x'; size].into(), Expected::Absent, None).await
}

async fn keys(store: &EmbeddedStore) -> BTreeMap<String, u64> {
    let page = store.list(Range::default()).await.unwrap();
    page.entries.into_iter().map(|entry| (entry.key.to_string(), entry.mod_revision)).collect()
}

/// Waits for a state, and fails when it does not come.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_writes_and_checks_until_there_is_room() {
    let (directory, switch) = (support::directory(), Switch::default());
    let store = switch.open(directory.path()).unwrap();
    create(&store, "/before", 3000).await.unwrap();
    let mut tried = 0;
    for stop in (0..5500).step_by(250) {
        // No room is reserved, so that the write itself stops short.
        switch.set(move |operation, path| match operation {
            Operation::Write if is_log(path) => Outcome::Short(stop),
            _ => Outcome::Proceed,
        });
        let key = format!("/{stop}");
        assert!(matches!(create(&store, &key, 5000).await, Err(Error::Unavailable { .. })), "{stop}");
        switch.set(|operation, _| match operation {
            Operation::Allocate => Outcome::Fail(ErrorKind::StorageFull),
            _ => Outcome::Proceed,
        });
        assert!(store.check().await.is_err(), "{stop}");
        assert!(store.get("/before").await.unwrap().is_some(), "reads go on");
        assert_eq!(store.get(&key).await.unwrap(), None, "what failed is not shown");
        switch.clear();
        store.check().await.unwrap();
        create(&store, &key, 100).await.unwrap();
        tried += 1;
    }
    let expected = (keys(&store).await, store.revision().await.unwrap());
    drop(store);
    let store = switch.open(directory.path()).unwrap();
    assert_eq!((keys(&store).await, store.revision().await.unwrap()), expected);
    Attack::new("store: writes that stop short on a full disk").tried(tried, 0).figure("lost writes", 0).record();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_expires_on_a_full_disk_goes_when_there_is_room() {
    let (directory, switch) = (support::directory(), Switch::default());
    let store = switch.open(directory.path()).unwrap();
    store.put("/event", "1".into(), Expected::Absent, Some(Duration::from_millis(100))).await.unwrap();
    switch.set(|operation, path| match operation {
        Operation::Write if is_log(path) => Outcome::Short(0),
        _ => Outcome::Proceed,
    });
    until("expiry is tried", async || store.check().await.is_err()).await;
    let before = switch.operations.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let tries = switch.operations.load(Ordering::SeqCst) - before;
    assert!(tries < 30, "the writer is busy with a full disk: {tries} operations");
    assert!(store.get("/event").await.unwrap().is_some());
    switch.clear();
    until("the key goes", async || store.get("/event").await.unwrap().is_none()).await;
    store.check().await.unwrap();
    Attack::new("store: expiry on a full disk").tried(1, 0).figure("keys that stay", 0).record();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_disk_failed_nothing_is_written_until_a_restart() {
    let mut tried = 0;
    for failing in [Operation::Sync, Operation::Write, Operation::Allocate] {
        let (directory, switch) = (support::directory(), Switch::default());
        let store = switch.open(directory.path()).unwrap();
        let first = create(&store, "/a", 10).await.unwrap();
        switch.set(move |operation, path| {
            if operation == failing && is_log(path) { Outcome::Fail(ErrorKind::Other) } else { Outcome::Proceed }
        });
        // Larger than the room that is reserved.
        assert!(create(&store, "/b", 1 << 20).await.is_err(), "{failing:?}");
        switch.clear();
        assert!(matches!(create(&store, "/c", 10).await, Err(Error::Unavailable { .. })), "{failing:?}");
        assert!(store.check().await.is_err(), "{failing:?}");
        assert_eq!(store.revision().await.unwrap(), first);
        drop(store);
        let store = switch.open(directory.path()).unwrap();
        assert_eq!(keys(&store).await.get("/a"), Some(&first));
        create(&store, "/c", 10).await.unwrap();
        tried += 1;
    }
    Attack::new("store: writes after the disk failed, before a restart").tried(tried, 0).record();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_seen_before_a_slow_disk_has_it_and_reads_do_not_wait() {
    let (directory, switch) = (support::directory(), Switch::default());
    let store = Arc::new(switch.open(directory.path()).unwrap());
    create(&store, "/a", 10).await.unwrap();
    let waiting = Arc::new(AtomicU64::new(0));
    let seen = waiting.clone();
    switch.set(move |operation, path| {
        if operation != Operation::Sync || !is_log(path) {
            return Outcome::Proceed;
        }
        seen.fetch_add(1, Ordering::SeqCst);
        Outcome::Delay(Duration::from_millis(500))
    });
    let writer = store.clone();
    let write = tokio::spawn(async move { create(&writer, "/b", 10).await });
    until("the disk is waited for", async || waiting.load(Ordering::SeqCst) > 0).await;
    let start = Instant::now();
    assert!(store.get("/a").await.unwrap().is_some());
    assert_eq!(store.get("/b").await.unwrap(), None);
    assert!(start.elapsed() < Duration::from_millis(400), "a read waited for the disk");
    write.await.unwrap().unwrap();
    assert!(store.get("/b").await.unwrap().is_some());
    Attack::new("store: a write that is seen before a slow disk has it").tried(1, 0).record();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_fails_leaves_a_longer_log_and_no_rest() {
    let (directory, switch) = (support::directory(), Switch::default());
    let store = switch.open(directory.path()).unwrap();
    switch.set(|operation, path| {
        let checkpoint = path.to_str().unwrap().contains("checkpoint-");
        if operation == Operation::Write && checkpoint { Outcome::Short(700) } else { Outcome::Proceed }
    });
    for number in 0..40 {
        create(&store, &format!("/{number:03}"), 2000).await.unwrap();
    }
    let expected = keys(&store).await;
    drop(store);
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().contains("checkpoint")), "{names:?}");
    switch.clear();
    let store = switch.open(directory.path()).unwrap();
    assert_eq!(keys(&store).await, expected);
    Attack::new("store: checkpoints on a full disk").tried(1, 0).figure("lost writes", 0).record();
}

/// Opens, writes so much that checkpoints are made, and closes. Returns what was acknowledged.
async fn work(switch: &Switch, directory: &Path, acknowledged: &mut BTreeMap<String, u64>) {
    let Ok(store) = switch.open(directory) else { return };
    for number in 0..24 {
        let key = format!("/{number:03}");
        let current = acknowledged.get(&key).copied();
        let expected = current.map_or(Expected::Absent, Expected::Revision);
        match store.put(&key, vec![b'y'; 1500].into(), expected, None).await {
            Ok(revision) => {
                acknowledged.insert(key, revision);
            }
            // A write that failed may have happened.
            Err(Error::Conflict { current: Some(entry), .. }) => {
                acknowledged.insert(key, entry.mod_revision);
            }
            Err(_) => {}
        }
    }
    let _ = store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_single_operation_fails_nothing_acknowledged_is_lost() {
    let (mut tried, mut lost) = (0, 0);
    for fault in [Outcome::Fail(ErrorKind::StorageFull), Outcome::Fail(ErrorKind::Other), Outcome::Short(600)] {
        for failing in 0.. {
            let (directory, switch) = (support::directory(), Switch::default());
            let count = AtomicU64::new(0);
            let reached = switch.operations.clone();
            switch.set(
                move |_, _| {
                    if count.fetch_add(1, Ordering::SeqCst) == failing { fault } else { Outcome::Proceed }
                },
            );
            let mut acknowledged = BTreeMap::new();
            work(&switch, directory.path(), &mut acknowledged).await;
            if reached.load(Ordering::SeqCst) <= failing {
                break;
            }
            switch.clear();
            let store = switch.open(directory.path()).unwrap_or_else(|err| panic!("{fault:?} at {failing}: {err}"));
            let found = keys(&store).await;
            tried += 1;
            lost += u64::from(acknowledged.iter().any(|(key, revision)| found.get(key) < Some(revision)));
            work(&switch, directory.path(), &mut acknowledged).await;
        }
    }
    Attack::new("store: one failing operation on a file, each in turn").tried(tried, lost).record();
}
