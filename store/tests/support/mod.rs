//! What several suites of the store need.
#![allow(dead_code, reason = "each suite uses a part")]

pub(crate) mod victims;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use store::embedded::{EmbeddedStore, LogOptions, OpenError, Options};
use store::{Entry, Range, Revision, Store as _};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span;

/// A directory in memory where there is one: these suites are about content, and open a store thousands of times.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A store whose log files and checkpoints are small.
pub(crate) fn small(directory: &Path) -> Options {
    let log = LogOptions { segment_bytes: 16 << 10, checkpoint_bytes: 24 << 10 };
    Options { log, ..Options::at(directory) }
}

/// Copies the files of a directory.
pub(crate) fn copy(from: &Path) -> TempDir {
    let to = directory();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

/// All that clients can see of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<Entry>,
    /// The entries a few revisions ago.
    pub(crate) past: Vec<Entry>,
}

/// Opens a store, looks, and closes it.
pub(crate) async fn look(directory: &Path) -> Result<Seen, OpenError> {
    let store = EmbeddedStore::open(small(directory))?;
    Ok(see(&store).await)
}

pub(crate) async fn see(store: &EmbeddedStore) -> Seen {
    let revision = store.revision().await.unwrap();
    let list = async |revision| match store.list(Range { revision: Some(revision), ..Range::default() }).await {
        Ok(page) => page.entries,
        Err(store::Error::Compacted { .. }) => Vec::new(),
        Err(err) => panic!("{err}"),
    };
    Seen { revision, entries: list(revision).await, past: list(revision.saturating_sub(3).max(1)).await }
}

/// Keeps the warnings of one thread.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Runs something and returns what it warned of.
    pub(crate) fn of<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
        let warnings = Self::default();
        let result = tracing::subscriber::with_default(warnings.clone(), run);
        let found = warnings.0.lock().unwrap().clone();
        (result, found)
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}
