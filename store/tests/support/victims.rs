//! Stores that damage is done to: one that was stopped, one that was stopped when it could not make a checkpoint (so that
//! its log is in use), and one that was killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use store::embedded::{EmbeddedStore, Faults, Operation, Options, Outcome};
use store::{Expected, Store as _};
use tempfile::TempDir;

use super::{Seen, copy, directory, see, small};

/// What a disk writes as a whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// The files of a store that nobody uses, and what it should show.
pub(crate) struct Victim {
    pub(crate) name: &'static str,
    pub(crate) directory: TempDir,
    pub(crate) seen: Seen,
}

/// Writes, changes and deletes; values differ in size, so that records have one sector or many.
pub(crate) async fn write(store: &EmbeddedStore, from: u64, count: u64) {
    for number in from..from + count {
        let key = format!("/registry/things/{:03}", number % 23);
        let current = store.get(&key).await.unwrap().map(|entry| entry.mod_revision);
        match current {
            Some(revision) if number % 5 == 0 => store.delete(&key, revision).await.map(drop).unwrap(),
            current => {
                let expected = current.map_or(Expected::Absent, Expected::Revision);
                let value = vec![(number % 251) as u8; (number * 397 % 2500) as usize];
                store.put(&key, value.into(), expected, None).await.unwrap();
            }
        }
    }
}

/// Waits until no checkpoint is being made, and none is about to.
pub(crate) async fn settle(store: &EmbeddedStore, directory: &Path) {
    let names = || -> Vec<_> { files(directory).into_keys().collect() };
    loop {
        write(store, 1000, 1).await;
        let before = names();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if names() == before && before.iter().filter(|name| name.starts_with("log-")).count() >= 2 {
            return;
        }
    }
}

pub(crate) async fn stopped() -> Victim {
    let directory = directory();
    let store = EmbeddedStore::open(small(directory.path())).unwrap();
    write(&store, 0, 90).await;
    let seen = see(&store).await;
    store.close().await.unwrap();
    drop(store);
    Victim { name: "stopped", directory, seen }
}

pub(crate) async fn stopped_with_a_log() -> Victim {
    let directory = directory();
    let store = EmbeddedStore::open(small(directory.path())).unwrap();
    write(&store, 0, 50).await;
    drop(store);
    let faults = Faults::new(|operation, path| match operation {
        Operation::Create if path.to_str().unwrap().contains("checkpoint") => Outcome::Fail(ErrorKind::StorageFull),
        _ => Outcome::Proceed,
    });
    let store = EmbeddedStore::open(Options { faults, ..small(directory.path()) }).unwrap();
    write(&store, 50, 40).await;
    let seen = see(&store).await;
    store.close().await.unwrap();
    drop(store);
    Victim { name: "stopped, with a log", directory, seen }
}

/// What a kill leaves is what the files have between two commits.
pub(crate) async fn killed() -> Victim {
    let directory = directory();
    let store = EmbeddedStore::open(small(directory.path())).unwrap();
    write(&store, 0, 90).await;
    settle(&store, directory.path()).await;
    Victim { name: "killed", directory: copy(directory.path()), seen: see(&store).await }
}

/// The names of a directory's files and what they have.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |file: std::io::Result<fs::DirEntry>| {
        let file = file.unwrap();
        // A checkpoint may be renamed while this looks.
        (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap_or_default())
    };
    fs::read_dir(directory).unwrap().map(read).collect()
}

/// All three.
pub(crate) async fn victims() -> [Victim; 3] {
    [stopped().await, stopped_with_a_log().await, killed().await]
}
