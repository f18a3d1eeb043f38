//! The cache of one resource: an immutable ordered snapshot of its objects, a log of recent events and its watchers.
//! Upstream: `cacher.watchCache`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use api::resource::Verb;
use api::{Object, Resource};
use bytes::Bytes;
use store::Entry;

use super::backlog::{Backlog, Beginning, Closed, Initial};
use super::event::Event;
use super::object::{Cached, Facts, Stored, Unreadable, wanted};
use super::own_writes::Written;
use super::partial_json::Sieve;
use super::settled::{Behind, Progress};
use super::snapshot::{Objects, Snapshot};
use super::watchers::{Hub, Interest};

/// The cache of one resource.
#[derive(Debug)]
pub struct ResourceCache {
    row: Arc<Resource>,
    /// `/registry/pods/`.
    prefix: String,
    /// Position of the selectable field that watchers are indexed by.
    indexed_field: Option<usize>,
    /// Lets through what the cache wants to know of an object.
    sieve: Sieve,
    written: Written,
    snapshot: RwLock<Snapshot>,
    /// What lies in the store and cannot be read, and why.
    unreadable: RwLock<BTreeMap<String, String>>,
    /// About how many bytes all objects have.
    bytes: AtomicU64,
    hub: Mutex<Hub>,
    pub(super) progress: Progress,
    /// Caches that this one has replaced and that somebody still reads: they must not fall behind.
    replaced: Mutex<Vec<Weak<ResourceCache>>>,
}

/// A running watch; ends when it fell behind or the cache was reset.
#[derive(Debug)]
pub struct Subscription {
    backlog: Arc<Backlog>,
    cache: Arc<ResourceCache>,
    interest: Interest,
    id: u64,
}

impl Subscription {
    /// The next event; `None` when the watch must start anew.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        self.backlog.next().await
    }

    /// The next event if one waits already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Closed> {
        self.backlog.try_next()
    }

    /// Keeps what the watch begins with until it is read by [`Self::next_initial`], and gives up a reader who lets
    /// things wait for longer than `patience`.
    pub fn begin(&self, beginning: Beginning, patience: Duration) {
        self.backlog.begin(beginning, patience);
    }

    /// The next thing that the watch begins with; `None` when all of it was read.
    pub fn next_initial(&mut self) -> Result<Option<Initial>, Closed> {
        self.backlog.next_initial()
    }

    /// Whether everything that has happened was read: no event waits, and none was let go.
    pub fn is_idle(&self) -> bool {
        self.backlog.is_idle()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.hub().remove(&self.interest, self.id);
    }
}

/// The history asked for is gone.
#[derive(Debug)]
pub struct HistoryGone {
    /// The oldest revision that is still known.
    pub oldest: u64,
}

impl ResourceCache {
    pub(super) fn new(row: Arc<Resource>) -> Self {
        let prefix = format!("/registry/{}/", row.storage_prefix);
        let indexed_field = row.selectable_fields.iter().position(|field| field.name == "spec.nodeName");
        let snapshot = Snapshot { objects: Objects::new_sync(), changed: 0 };
        let sieve = wanted(&row);
        Self {
            row,
            prefix,
            indexed_field,
            sieve,
            written: Written::default(),
            snapshot: RwLock::new(snapshot),
            unreadable: RwLock::default(),
            bytes: AtomicU64::new(0),
            hub: Mutex::default(),
            progress: Progress::default(),
            replaced: Mutex::default(),
        }
    }

    /// The catalog row in the storage version.
    pub fn row(&self) -> &Arc<Resource> {
        &self.row
    }

    /// Where the objects lie: `/registry/pods/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Name of the field that watchers are indexed by.
    pub fn indexed_field(&self) -> Option<&str> {
        self.indexed_field.and_then(|at| self.row.selectable_fields.get(at)).map(|field| field.name.as_ref())
    }

    /// The key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if namespace.is_empty() {
            format!("{}{name}", self.prefix)
        } else {
            format!("{}{namespace}/{name}", self.prefix)
        }
    }

    /// Tells of a value that is about to be written, and of the object in it, which is what reading it will show.
    pub fn will_write(&self, value: &Bytes, object: &Object) {
        self.written.note(value.clone(), Facts::of(&self.row, object));
    }

    /// Tells of a write that its client is about to be told of: [`Self::settle`] waits for it.
    pub fn acknowledge(&self, revision: u64) {
        self.progress.acknowledge(revision);
    }

    /// Waits until the cache shows every write of its objects that this server acknowledged before this call. Whatever
    /// decides on security by what it reads here waits first, and says no if this fails.
    pub async fn settle(&self) -> Result<(), Behind> {
        self.progress.settle(&self.row).await
    }

    /// Reads an entry of the store.
    pub(super) fn read(&self, entry: &Entry) -> Result<Cached, Unreadable> {
        if let Some(facts) = self.written.take(&entry.value)
            && let Some(stored) = Stored::of(entry.value.clone())
        {
            return Ok(Cached::new(&self.row, entry.key.clone(), stored, entry.mod_revision, facts));
        }
        Cached::read(&self.row, &self.sieve, entry.key.clone(), &entry.value, entry.mod_revision)
    }

    /// The current objects. Costs no more than a reference count.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest revision that changed an object.
    pub fn changed(&self) -> u64 {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).changed
    }

    /// The object at `key`.
    pub fn get(&self, key: &str) -> Option<Arc<Cached>> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).objects.get(key).cloned()
    }

    /// An object by its name. One that is not there may have been made a moment ago, and is waited for.
    pub async fn find(&self, namespace: &str, name: &str) -> Result<Option<Object>, Behind> {
        let key = self.key(namespace, name);
        let known = || self.get(&key).map(|cached| cached.object());
        if let Some(object) = known() {
            return Ok(Some(object));
        }
        self.settle().await?;
        Ok(known())
    }

    /// The first object whose key begins so and whose value cannot be read: a list without it would be a lie.
    pub(crate) fn unreadable_below(&self, prefix: &str) -> Option<Unreadable> {
        let all = self.unreadable.read().unwrap_or_else(PoisonError::into_inner);
        let (key, why) = all.range(prefix.to_owned()..).next().filter(|(key, _)| key.starts_with(prefix))?;
        Some(Unreadable { key: key.clone(), why: why.clone() })
    }

    /// Why the value at a key cannot be read, if there is such a one.
    pub(crate) fn unreadable_at(&self, key: &str) -> Option<Unreadable> {
        let all = self.unreadable.read().unwrap_or_else(PoisonError::into_inner);
        all.get(key).map(|why| Unreadable { key: key.to_owned(), why: why.clone() })
    }

    /// How many values cannot be read.
    pub(super) fn unreadable(&self) -> usize {
        self.unreadable.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The objects as they were at `revision`, undone from the log; `None` when the log does not reach back so far.
    pub fn snapshot_at(&self, revision: u64) -> Option<Snapshot> {
        let hub = self.hub();
        let mut snapshot = self.snapshot();
        if snapshot.changed <= revision {
            return Some(snapshot);
        }
        for event in hub.since(revision)?.iter().rev() {
            match (&event.previous, &event.current) {
                (Some(previous), _) => snapshot.objects.insert_mut(previous.key.clone(), previous.clone()),
                (None, Some(current)) => {
                    snapshot.objects.remove_mut(&current.key);
                }
                (None, None) => {}
            }
        }
        snapshot.changed = revision;
        Some(snapshot)
    }

    /// Begins a watch of what follows `revision`.
    pub fn watch_after(
        self: &Arc<Self>,
        revision: u64,
        interest: Interest,
    ) -> Result<(Beginning, Subscription), HistoryGone> {
        let mut hub = self.hub();
        let events = hub.since(revision).ok_or(HistoryGone { oldest: hub.complete_after() })?;
        let subscription = self.subscribe(&mut hub, interest);
        Ok((Beginning::Events(events), subscription))
    }

    /// Begins a watch with the objects that there are.
    pub fn watch_from_now(self: &Arc<Self>, interest: Interest) -> (Beginning, Subscription) {
        let mut hub = self.hub();
        let subscription = self.subscribe(&mut hub, interest);
        (Beginning::Objects(self.snapshot()), subscription)
    }

    /// How many objects there are, and about how many bytes they have.
    pub fn size(&self) -> (u64, u64) {
        let count = self.snapshot.read().unwrap_or_else(PoisonError::into_inner).objects.size();
        (count as u64, self.bytes.load(Ordering::Relaxed))
    }

    /// How many watches are told of a change of the object (`""` for one that is not named yet).
    pub fn watchers_of(&self, namespace: &str, name: &str) -> usize {
        let mut interests = Vec::new();
        if self.row.namespaced && !namespace.is_empty() {
            interests.push(Interest::Namespace(namespace.into()));
        }
        if !name.is_empty() {
            let namespace = if self.row.namespaced { namespace } else { "" };
            interests.push(Interest::Key(self.key(namespace, name).into()));
        }
        self.hub().watchers_of(&interests)
    }

    /// How many watches are open.
    pub fn watchers(&self) -> usize {
        self.hub().watchers()
    }

    fn subscribe(self: &Arc<Self>, hub: &mut Hub, interest: Interest) -> Subscription {
        let (id, backlog) = hub.add(interest.clone());
        Subscription { backlog, cache: self.clone(), interest, id }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of another cache, whose watches end. They can go on here where they were, and requests that have
    /// the old cache in hand can finish.
    pub(super) fn replace(&self, old: &Arc<Self>, revision: u64) {
        old.hub().reset(revision);
        self.hub().reset(old.changed().min(revision));
        let mut replaced = std::mem::take(&mut *old.replaced.lock().unwrap_or_else(PoisonError::into_inner));
        replaced.push(Arc::downgrade(old));
        *self.replaced.lock().unwrap_or_else(PoisonError::into_inner) = replaced;
    }

    fn for_replaced(&self, then: impl Fn(&Self)) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.retain(|old| {
            old.upgrade().is_some_and(|old| {
                then(&old);
                true
            })
        });
    }

    /// Takes in a put of which nothing can be read: the object leaves the cache, and watches end, for they must not show
    /// that it had been deleted.
    pub(super) fn put_unreadable(&self, unreadable: Unreadable, revision: u64) {
        self.for_replaced(|old| old.lose(&unreadable, revision));
        self.lose(&unreadable, revision);
        self.pass(revision);
    }

    fn lose(&self, unreadable: &Unreadable, revision: u64) {
        let mut hub = self.hub();
        {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            snapshot.objects.remove_mut(unreadable.key.as_str());
            snapshot.changed = revision;
        }
        let mut all = self.unreadable.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(unreadable.key.clone(), unreadable.why.clone());
        hub.reset(revision);
    }

    /// Whatever lay at a key is replaced, or gone.
    fn forget_unreadable(&self, key: &str) {
        if self.unreadable() > 0 {
            self.unreadable.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }

    /// Takes in a put.
    pub(super) fn put(&self, cached: Cached) {
        let cached = Arc::new(cached);
        self.for_replaced(|old| old.take_in(&cached));
        self.take_in(&cached);
    }

    /// Takes in an event that leaves everything as it was.
    pub(super) fn pass(&self, revision: u64) {
        self.for_replaced(|old| old.progress.reach(revision));
        self.progress.reach(revision);
    }

    fn take_in(&self, cached: &Arc<Cached>) {
        let mut hub = self.hub();
        self.forget_unreadable(&cached.key);
        let previous = {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            let previous = snapshot.objects.get(&cached.key).cloned();
            snapshot.objects.insert_mut(cached.key.clone(), cached.clone());
            snapshot.changed = cached.revision;
            previous
        };
        // Only the feed changes objects, so it need not be done at once.
        let replaced = previous.as_ref().map_or(0, |previous| previous.size());
        let bytes = self.bytes.load(Ordering::Relaxed) + cached.size() as u64;
        self.bytes.store(bytes.saturating_sub(replaced as u64), Ordering::Relaxed);
        let event = Arc::new(Event::new(cached.revision, previous, Some(cached.clone())));
        hub.publish(&event, self.indexed_field);
        // Only now: indexes over the cache follow what is published.
        self.progress.reach(cached.revision);
    }

    /// Takes in a delete.
    pub(super) fn delete(&self, key: &str, revision: u64) {
        self.for_replaced(|old| old.take_out(key, revision));
        self.take_out(key, revision);
    }

    fn take_out(&self, key: &str, revision: u64) {
        let mut hub = self.hub();
        self.forget_unreadable(key);
        let previous = {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            let Some(previous) = snapshot.objects.get(key).cloned() else {
                self.progress.reach(revision);
                return;
            };
            snapshot.objects.remove_mut(key);
            snapshot.changed = revision;
            previous
        };
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(bytes.saturating_sub(previous.size() as u64), Ordering::Relaxed);
        let event = Arc::new(Event::new(revision, Some(previous), None));
        hub.publish(&event, self.indexed_field);
        self.progress.reach(revision);
    }

    /// Replaces everything; watchers are closed, since they may have missed events.
    pub(super) fn reset(&self, objects: Objects, unreadable: Vec<Unreadable>, revision: u64) {
        let mut hub = self.hub();
        let unreadable = unreadable.into_iter().map(|Unreadable { key, why }| (key, why)).collect();
        *self.unreadable.write().unwrap_or_else(PoisonError::into_inner) = unreadable;
        let bytes = objects.values().map(|cached| cached.size() as u64).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Snapshot { objects, changed: revision };
        hub.reset(revision);
        self.progress.reach(revision);
    }
}

/// As [`ResourceCache::settle`], for several.
pub async fn settle(caches: &[Arc<ResourceCache>]) -> Result<(), Behind> {
    for cache in caches {
        cache.settle().await?;
    }
    Ok(())
}

/// Whether objects of a resource lie in the store, and so in a cache.
pub(crate) fn is_cached(row: &Resource) -> bool {
    row.allows(Verb::Watch)
}

/// Caches by storage prefix.
pub(super) type ByPrefix = HashMap<String, Arc<ResourceCache>>;
