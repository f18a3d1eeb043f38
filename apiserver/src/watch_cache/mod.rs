//! The watch cache: everything the server answers reads and watches from, fed by one watch of the store.
//!
//! Per resource there is an immutable ordered snapshot and a bounded log of recent events. An event is never skipped: a
//! watcher that falls behind, or asks for history that is gone, is told to list again.

mod backlog;
mod cached;
mod event;
mod hub;
mod labels;
mod resource;
mod selection;
mod settled;
mod sieve;
mod written;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::Resource;
use futures::StreamExt as _;
use store::{Entry, Range, Store, WatchEvent, WatchStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use backlog::Initial;
pub use cached::{Cached, Stored, stored_bytes};
pub use event::{Event, EventType, frame, frame_around};
pub use hub::Interest;
pub use labels::{Labels, Marks};
pub use resource::{Beginning, Closed, HistoryGone, Objects, ResourceCache, Snapshot, Subscription};
pub use selection::Selection;
pub use settled::{Behind, settle};

const ROOT: &str = "/registry/";
const PAGE: usize = 2000;

/// The caches of all resources, and how far the feed has come.
#[derive(Debug)]
pub struct WatchCache {
    resources: RwLock<resource::ByPrefix>,
    revision: watch::Sender<u64>,
    commands: mpsc::Sender<Command>,
}

/// What the feed is asked to do between two events.
#[derive(Debug)]
enum Command {
    /// Starts to cache one more resource.
    Open { row: Arc<Resource>, done: oneshot::Sender<Arc<ResourceCache>> },
    /// Forgets a resource and closes its watches.
    Close { prefix: String },
}

/// The loop that feeds the cache. There is one, and it owns all changes.
pub struct Feed {
    store: Arc<dyn Store>,
    cache: Arc<WatchCache>,
    commands: mpsc::Receiver<Command>,
}

/// The cache could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the store")]
    Store(#[from] store::Error),
    #[error("the store closed the watch")]
    Closed,
}

impl WatchCache {
    /// An empty cache for these rows (one per storage prefix: the storage version), and its feed.
    pub fn new(store: Arc<dyn Store>, rows: impl IntoIterator<Item = Arc<Resource>>) -> (Arc<Self>, Feed) {
        let (sender, commands) = mpsc::channel(16);
        let resources = rows.into_iter().map(|row| (row.storage_prefix.to_string(), Arc::new(ResourceCache::new(row))));
        let cache = Arc::new(Self {
            resources: RwLock::new(resources.collect()),
            revision: watch::Sender::new(0),
            commands: sender,
        });
        (cache.clone(), Feed { store, cache, commands })
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

impl Feed {
    /// Fills the cache and follows the store until shutdown. After `filled` the cache answers. When the store's watch
    /// breaks, it is taken up where it ended; when that history is gone, everything is read anew and watchers restart.
    pub async fn run(mut self, shutdown: CancellationToken, filled: oneshot::Sender<()>) -> Result<(), Error> {
        let mut events = self.fill().await?;
        // Nobody waiting for the first fill is fine.
        let _nobody = filled.send(());
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                ended = follow(&self.store, &self.cache, &mut self.commands, &mut events) => ended,
            };
            tracing::warn!(error = &ended as &dyn std::error::Error, "store watch ended");
            events = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                events = self.resume() => events,
            };
        }
    }

    async fn resume(&self) -> WatchStream {
        let mut delay = Duration::from_millis(50);
        loop {
            let after = self.cache.revision();
            let resumed = match self.store.watch(ROOT, Some(after)).await {
                Err(store::Error::Compacted { .. } | store::Error::TooSlow) => self.fill().await,
                other => other.map_err(Error::from),
            };
            match resumed {
                Ok(events) => return events,
                Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "store cannot be watched"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(5));
        }
    }

    /// Reads the whole store at one revision and begins the watch that follows it.
    async fn fill(&self) -> Result<WatchStream, Error> {
        let (revision, entries) = read_all(&self.store, ROOT, None).await?;
        let mut filled: std::collections::HashMap<String, Objects> = std::collections::HashMap::new();
        for entry in entries {
            let Some(resource) = self.cache.route(&entry.key) else { continue };
            if let Some(cached) = read(&resource, &entry) {
                let objects = filled.entry(resource.row().storage_prefix.to_string()).or_insert_with(Objects::new_sync);
                objects.insert_mut(cached.key.clone(), Arc::new(cached));
            }
        }
        for resource in self.cache.all() {
            let objects = filled.remove(resource.row().storage_prefix.as_ref()).unwrap_or_else(Objects::new_sync);
            resource.reset(objects, revision);
        }
        let events = self.store.watch(ROOT, Some(revision)).await?;
        self.cache.revision.send_replace(revision);
        Ok(events)
    }
}

async fn follow(
    store: &Arc<dyn Store>,
    cache: &Arc<WatchCache>,
    commands: &mut mpsc::Receiver<Command>,
    events: &mut WatchStream,
) -> Error {
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => take_in(cache, event),
                Some(Err(err)) => return err.into(),
                None => return Error::Closed,
            },
            Some(command) = commands.recv() => {
                if let Err(err) = obey(store, cache, command).await {
                    return err;
                }
            }
        }
    }
}

fn take_in(cache: &WatchCache, event: WatchEvent) {
    let revision = match event {
        WatchEvent::Put { entry, .. } => {
            if let Some(resource) = cache.route(&entry.key) {
                match read(&resource, &entry) {
                    Some(cached) => resource.put(cached),
                    None => resource.pass(entry.mod_revision),
                }
            }
            entry.mod_revision
        }
        WatchEvent::Delete { key, revision, .. } => {
            if let Some(resource) = cache.route(&key) {
                resource.delete(&key, revision);
            }
            revision
        }
        WatchEvent::Progress(revision) => revision,
    };
    cache.revision.send_if_modified(|now| {
        let moved = revision > *now;
        *now = revision.max(*now);
        moved
    });
}

async fn obey(store: &Arc<dyn Store>, cache: &WatchCache, command: Command) -> Result<(), Error> {
    match command {
        Command::Open { row, done } => {
            let resource = Arc::new(ResourceCache::new(row));
            let revision = cache.revision();
            let (_, entries) = read_all(store, resource.prefix(), Some(revision)).await?;
            let cached = entries.iter().filter_map(|entry| read(&resource, entry));
            let objects = cached.map(|cached| (cached.key.clone(), Arc::new(cached))).collect();
            resource.reset(objects, revision);
            let prefix = resource.row().storage_prefix.to_string();
            let mut resources = cache.resources.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(replaced) = resources.insert(prefix, resource.clone()) {
                resource.replace(&replaced, revision);
            }
            // The asker may have given up.
            let _gone = done.send(resource);
        }
        Command::Close { prefix } => {
            let closed = cache.resources.write().unwrap_or_else(PoisonError::into_inner).remove(&prefix);
            if let Some(resource) = closed {
                resource.reset(Objects::new_sync(), cache.revision());
            }
        }
    }
    Ok(())
}

/// All entries under a prefix at one revision (the newest, if none is given).
pub(crate) async fn read_all(
    store: &Arc<dyn Store>,
    prefix: &str,
    at: Option<u64>,
) -> Result<(u64, Vec<Entry>), store::Error> {
    let mut range = Range { prefix: prefix.to_owned(), after: None, limit: Some(PAGE), revision: at };
    let mut all = Vec::new();
    loop {
        let page = store.list(range.clone()).await?;
        let last = page.entries.last().map(|entry| entry.key.to_string());
        all.extend(page.entries);
        if page.remaining == 0 || last.is_none() {
            return Ok((at.unwrap_or(page.revision), all));
        }
        range.revision = Some(at.unwrap_or(range.revision.unwrap_or(page.revision)));
        range.after = last;
    }
}

/// Reads a value, or says in the log that it is not one (and then the object does not exist for clients).
pub(crate) fn read(resource: &ResourceCache, entry: &Entry) -> Option<Cached> {
    match resource.read(entry) {
        Ok(cached) => Some(cached),
        Err(err) => {
            tracing::error!(error = &err as &dyn std::error::Error, "a stored value is left out");
            None
        }
    }
}
