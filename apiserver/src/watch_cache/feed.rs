//! The loop that feeds the cache from the store's one watch (upstream's `Reflector` of the cacher).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use store::{Entry, Range, Store, WatchEvent, WatchStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::object::{Cached, Unreadable};
use super::resource::ResourceCache;
use super::snapshot::Objects;
use super::{Command, ROOT, WatchCache};
use crate::encryption::AtRest;

const PAGE: usize = 2000;
/// What cannot be read is tried again after this, and then ever more rarely.
const REREAD: Duration = Duration::from_secs(1);
const REREAD_AT_LEAST: Duration = Duration::from_secs(60);

/// The loop that feeds the cache. There is one, and it owns all changes.
pub struct Feed {
    pub(super) source: Source,
    pub(super) cache: Arc<WatchCache>,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// The store as it is, and how what lies there is opened.
pub(super) struct Source {
    pub(super) store: Arc<dyn Store>,
    pub(super) at_rest: Option<Arc<AtRest>>,
}

/// The objects of a resource, and what could not be read.
#[derive(Default)]
struct Found {
    objects: Objects,
    unreadable: Vec<Unreadable>,
}

/// The cache could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the store")]
    Store(#[from] store::Error),
    #[error("the store closed the watch")]
    Closed,
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
                ended = follow(&self.source, &self.cache, &mut self.commands, &mut events) => ended,
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
            let resumed = match self.source.store.watch(ROOT, Some(after)).await {
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
        let (revision, entries) = read_all(&self.source.store, ROOT, None).await?;
        let mut filled: HashMap<String, Found> = HashMap::new();
        for entry in entries {
            let Some(resource) = self.cache.route(&entry.key) else { continue };
            let read = self.source.read(&resource, entry).await;
            filled.entry(resource.row().storage_prefix.to_string()).or_default().add(read);
        }
        for resource in self.cache.all() {
            let found = filled.remove(resource.row().storage_prefix.as_ref()).unwrap_or_default();
            resource.reset(found.objects, found.unreadable, revision);
        }
        self.cache.recount();
        let events = self.source.store.watch(ROOT, Some(revision)).await?;
        self.cache.revision.send_replace(revision);
        Ok(events)
    }
}

impl Source {
    /// Opens an entry and reads it.
    async fn read(&self, resource: &ResourceCache, mut entry: Entry) -> Result<Cached, Unreadable> {
        if let Some(at_rest) = &self.at_rest {
            let opened = at_rest.open(&entry.key, &entry.value).await;
            entry.value = opened.map_err(|err| Unreadable { key: entry.key.to_string(), why: err.to_string() })?.value;
        }
        resource.read(&entry)
    }

    /// Reads a whole resource at one revision.
    async fn read_resource(&self, resource: &ResourceCache, revision: u64) -> Result<Found, store::Error> {
        let (_, entries) = read_all(&self.store, resource.prefix(), Some(revision)).await?;
        let mut found = Found::default();
        for entry in entries {
            found.add(self.read(resource, entry).await);
        }
        Ok(found)
    }

    /// Waits until what cannot be read is worth another try: after `delay`, or when there are new keys to open it with.
    /// With nothing to try it waits for ever.
    async fn worth_a_try(&self, cache: &WatchCache, changes: &mut Option<watch::Receiver<u64>>, at: Instant) {
        if cache.unreadable() == 0 {
            std::future::pending::<()>().await;
        }
        let Some(changes) = changes else { return tokio::time::sleep_until(at).await };
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            // The sender lives as long as the server.
            _changed = changes.changed() => {}
        }
    }
}

impl Found {
    fn add(&mut self, read: Result<Cached, Unreadable>) {
        match read {
            Ok(cached) => self.objects.insert_mut(cached.key.clone(), Arc::new(cached)),
            Err(err) => {
                tracing::error!(error = &err as &dyn std::error::Error, "a stored value cannot be read");
                self.unreadable.push(err);
            }
        }
    }
}

async fn follow(
    source: &Source,
    cache: &Arc<WatchCache>,
    commands: &mut mpsc::Receiver<Command>,
    events: &mut WatchStream,
) -> Error {
    let mut changes = source.at_rest.as_ref().map(|at_rest| at_rest.changes());
    let mut delay = REREAD;
    let mut retry = Instant::now() + delay;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => take_in(source, cache, event).await,
                Some(Err(err)) => return err.into(),
                None => return Error::Closed,
            },
            Some(command) = commands.recv() => {
                if let Err(err) = obey(source, cache, command).await {
                    return err;
                }
            }
            () = source.worth_a_try(cache, &mut changes, retry) => {
                delay = if reread(source, cache).await { REREAD } else { (delay * 2).min(REREAD_AT_LEAST) };
                retry = Instant::now() + delay;
            }
        }
    }
}

async fn take_in(source: &Source, cache: &WatchCache, event: WatchEvent) {
    let revision = event.revision();
    let resource = event.key().and_then(|key| cache.route(key));
    let had = cache.unreadable();
    match (event, resource) {
        (WatchEvent::Put { entry, .. }, Some(resource)) => match source.read(&resource, entry).await {
            Ok(cached) => resource.put(cached),
            Err(err) => {
                tracing::error!(error = &err as &dyn std::error::Error, "a stored value cannot be read");
                resource.put_unreadable(err, revision);
                cache.recount();
            }
        },
        (WatchEvent::Delete { key, .. }, Some(resource)) => resource.delete(&key, revision),
        _ => {}
    }
    if had > 0 {
        cache.recount();
    }
    cache.revision.send_if_modified(|now| {
        let moved = revision > *now;
        *now = revision.max(*now);
        moved
    });
}

/// Tries again what could not be read; whether some of it can be now.
async fn reread(source: &Source, cache: &WatchCache) -> bool {
    let before = cache.unreadable();
    let revision = cache.revision();
    for resource in cache.all().iter().filter(|resource| resource.unreadable() > 0) {
        match source.read_resource(resource, revision).await {
            Ok(found) if found.unreadable.len() < resource.unreadable() => {
                resource.reset(found.objects, found.unreadable, revision);
            }
            Ok(_) => {}
            Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "the store cannot be read anew"),
        }
    }
    cache.recount();
    cache.unreadable() < before
}

async fn obey(source: &Source, cache: &WatchCache, command: Command) -> Result<(), Error> {
    match command {
        Command::Open { row, done } => {
            let resource = Arc::new(ResourceCache::new(row));
            let revision = cache.revision();
            let found = source.read_resource(&resource, revision).await?;
            resource.reset(found.objects, found.unreadable, revision);
            let prefix = resource.row().storage_prefix.to_string();
            {
                let mut resources = cache.resources.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(replaced) = resources.insert(prefix, resource.clone()) {
                    resource.replace(&replaced, revision);
                }
            }
            cache.recount();
            // The asker may have given up.
            let _gone = done.send(resource);
        }
        Command::Close { prefix } => {
            let closed = cache.resources.write().unwrap_or_else(PoisonError::into_inner).remove(&prefix);
            if let Some(resource) = closed {
                resource.reset(Objects::new_sync(), Vec::new(), cache.revision());
                cache.recount();
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
