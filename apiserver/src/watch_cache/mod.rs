//! The watch cache: everything the server answers reads and watches from, fed by one watch of the store. Upstream:
//! `storage/cacher.Cacher`.
//!
//! Per resource there is an immutable ordered snapshot and a bounded log of recent events. An event is never skipped: a
//! watcher that falls behind, or asks for history that is gone, is told to list again.

mod backlog;
mod counted;
mod event;
mod feed;
mod freshen;
mod labels;
mod object;
mod own_writes;
mod partial_json;
mod resource;
mod selection;
mod settled;
mod snapshot;
mod watchers;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use api::Resource;
use store::{Entry, Store};
use tokio::sync::{mpsc, oneshot, watch};

use self::feed::Source;
use crate::encryption::AtRest;

pub use backlog::{Beginning, Closed, Initial};
pub(crate) use counted::StoredObjects;
pub use event::{Event, EventType, frame, frame_around};
pub(crate) use feed::read_all;
pub use feed::{Error, Feed};
pub(crate) use freshen::{catch_up, freshen};
pub use labels::{Labels, Marks};
pub(crate) use object::Unreadable;
pub use object::{Cached, Stored, stored_bytes};
pub(crate) use resource::is_cached;
pub use resource::{HistoryGone, ResourceCache, Subscription, settle};
pub use selection::Selection;
pub use settled::Behind;
pub use snapshot::{Objects, Snapshot};
pub use watchers::Interest;

const ROOT: &str = "/registry/";
/// The caches of all resources, and how far the feed has come.
#[derive(Debug)]
pub struct WatchCache {
    resources: RwLock<resource::ByPrefix>,
    revision: watch::Sender<u64>,
    commands: mpsc::Sender<Command>,
    /// How many values of the store cannot be read.
    unreadable: AtomicUsize,
    /// Whether everything could be read, at the start or since.
    was_whole: AtomicBool,
}

/// What the feed is asked to do between two events.
#[derive(Debug)]
enum Command {
    /// Starts to cache one more resource.
    Open { row: Arc<Resource>, done: oneshot::Sender<Arc<ResourceCache>> },
    /// Forgets a resource and closes its watches.
    Close { prefix: String },
}

impl WatchCache {
    /// An empty cache for these rows (one per storage prefix: the storage version), and its feed.
    pub fn new(store: Arc<dyn Store>, rows: impl IntoIterator<Item = Arc<Resource>>) -> (Arc<Self>, Feed) {
        Self::opened_by(None, store, rows)
    }

    /// As [`Self::new`]; values of the store are opened by `at_rest`, if they may be sealed.
    pub(crate) fn opened_by(
        at_rest: Option<Arc<AtRest>>,
        store: Arc<dyn Store>,
        rows: impl IntoIterator<Item = Arc<Resource>>,
    ) -> (Arc<Self>, Feed) {
        let (sender, commands) = mpsc::channel(16);
        let resources = rows.into_iter().map(|row| (row.storage_prefix.to_string(), Arc::new(ResourceCache::new(row))));
        let cache = Arc::new(Self {
            resources: RwLock::new(resources.collect()),
            revision: watch::Sender::new(0),
            commands: sender,
            unreadable: AtomicUsize::new(0),
            was_whole: AtomicBool::new(false),
        });
        (cache.clone(), Feed { source: Source { store, at_rest }, cache, commands })
    }

    /// How many values of the store cannot be read.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable.load(Ordering::Acquire)
    }

    /// Whether everything in the store could be read once. A server that starts without that (with wrong keys) is not
    /// ready; one that runs is not taken away by one damaged value.
    pub(crate) fn was_whole(&self) -> bool {
        self.was_whole.load(Ordering::Acquire)
    }

    /// Counts again, after something has become readable or has ceased to be. Only the feed does.
    fn recount(&self) {
        let unreadable = self.all().iter().map(|resource| resource.unreadable()).sum();
        self.unreadable.store(unreadable, Ordering::Release);
        self.was_whole.fetch_or(unreadable == 0, Ordering::AcqRel);
    }

    /// The cache of the objects under a storage prefix.
    pub fn resource(&self, storage_prefix: &str) -> Option<Arc<ResourceCache>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).get(storage_prefix).cloned()
    }

    /// Every resource's cache.
    pub fn all(&self) -> Vec<Arc<ResourceCache>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Every event up to this revision has been taken in.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Waits until the cache is at `revision`.
    pub async fn wait_for(&self, revision: u64) {
        if self.revision() >= revision {
            return;
        }
        // The sender lives in `self`, so waiting cannot fail.
        let mut revisions = self.revision.subscribe();
        let _reached = revisions.wait_for(|now| *now >= revision).await;
    }

    /// Starts to cache a resource that came later (a CRD); `None` when the feed has stopped.
    pub async fn open(&self, row: Arc<Resource>) -> Option<Arc<ResourceCache>> {
        let (done, opened) = oneshot::channel();
        self.commands.send(Command::Open { row, done }).await.ok()?;
        opened.await.ok()
    }

    /// Stops to cache a resource; its watches end.
    pub async fn close(&self, storage_prefix: &str) {
        // A stopped feed has no watches left to close.
        let _stopped = self.commands.send(Command::Close { prefix: storage_prefix.to_owned() }).await;
    }

    fn route(&self, key: &str) -> Option<Arc<ResourceCache>> {
        let rest = key.strip_prefix(ROOT)?;
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        let mut slashes = rest.match_indices('/').map(|(at, _)| at);
        let (first, second) = (slashes.next()?, slashes.next());
        let two_parts = second.and_then(|end| resources.get(&rest[..end]));
        two_parts.or_else(|| resources.get(&rest[..first])).cloned()
    }
}

/// Reads an entry that has been opened.
pub(crate) fn read(resource: &ResourceCache, entry: &Entry) -> Result<Cached, Unreadable> {
    resource.read(entry)
}
