//! Shared informers: one watch, one cache, many readers.
//!
//! Every kind (with a selection) is watched once per [`Informers`], however many ask for it. A handler sees each change
//! after the cache shows it. After a lost watch the kind is listed again and the difference is delivered as events, so a
//! reader never has to know.

mod cache;
mod driver;
mod raw;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kube::Api;
use kube_core::{ApiResource, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::cache::Cache;
use crate::ObjectKey;

/// A change, delivered after the cache shows it.
#[derive(Debug)]
pub enum Event<K> {
    /// The object was created (`old` is `None`) or changed.
    Applied {
        /// The object as it was in the cache before.
        old: Option<Arc<K>>,
        /// The object as it is now.
        new: Arc<K>,
    },
    /// The object is gone; this is its last known state.
    Deleted(Arc<K>),
}

impl<K: Resource> Event<K> {
    /// The object this is about, in its latest state.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(last) => last,
        }
    }

    /// The key of the object.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::of(&**self.object())
    }
}

/// Which objects of a kind are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// A field selector, such as `spec.nodeName=node-1` or `metadata.namespace=kube-system`.
    pub fields: Option<String>,
    /// A label selector.
    pub labels: Option<String>,
}

/// A kind that can be watched: every typed Kubernetes object is one.
pub trait Watchable: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}

impl<K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static> Watchable for K {}

/// The informers of a process. Clones share them.
#[derive(Clone)]
pub struct Informers {
    shared: Arc<Registry>,
}

struct Registry {
    client: kube::Client,
    informers: Mutex<HashMap<(TypeId, Selection), Known>>,
    pending: Mutex<Vec<Driver>>,
    added: Notify,
}

struct Known {
    informer: Box<dyn Any + Send + Sync>,
    kind: String,
    synced: watch::Receiver<bool>,
}

type Driver = Box<dyn FnOnce() -> futures::future::BoxFuture<'static, ()> + Send>;

/// A watch ended although nobody asked it to: a handler panicked.
#[derive(Debug, thiserror::Error)]
#[error("an informer stopped")]
pub struct InformerStopped(#[source] tokio::task::JoinError);

impl Informers {
    /// No informers yet; nothing is watched before [`Informers::run`].
    pub fn new(client: kube::Client) -> Self {
        let shared = Registry { client, informers: Mutex::default(), pending: Mutex::default(), added: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// The informer of all objects of a kind.
    pub fn of<K: Watchable>(&self) -> Informer<K> {
        self.select(Selection::default())
    }

    /// The informer of the objects that match a field selector.
    pub fn with_fields<K: Watchable>(&self, fields: &str) -> Informer<K> {
        self.select(Selection { fields: Some(fields.to_owned()), ..Selection::default() })
    }

    /// The informer of the objects that match a label selector.
    pub fn with_labels<K: Watchable>(&self, labels: &str) -> Informer<K> {
        self.select(Selection { labels: Some(labels.to_owned()), ..Selection::default() })
    }

    /// The informer of a selection of a kind. Whoever asks first starts the watch, the others share it.
    pub fn select<K: Watchable>(&self, selection: Selection) -> Informer<K> {
        let mut informers = lock(&self.shared.informers);
        let id = (TypeId::of::<K>(), selection.clone());
        if let Some(informer) = informers.get(&id).and_then(|known| known.informer.downcast_ref::<Informer<K>>()) {
            return informer.clone();
        }
        let informer = Informer::new();
        let known = Known {
            informer: Box::new(informer.clone()),
            kind: K::kind(&()).into_owned(),
            synced: informer.shared.synced.subscribe(),
        };
        informers.insert(id, known);
        let api = Api::all_with(self.shared.client.clone(), &ApiResource::erase::<K>(&()));
        let config = driver::config(&selection);
        let sink = Box::new(driver::Listing::new(informer.clone()));
        lock(&self.shared.pending).push(Box::new(move || Box::pin(driver::run(api, config, sink))));
        self.shared.added.notify_one();
        informer
    }

    /// Drives every informer, also those asked for later, until `shutdown`. Run it once.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), InformerStopped> {
        let mut watches = JoinSet::new();
        loop {
            for driver in std::mem::take(&mut *lock(&self.shared.pending)) {
                watches.spawn(driver());
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(Err(err)) = watches.join_next() => return Err(InformerStopped(err)),
                () = self.shared.added.notified() => {}
            }
        }
    }

    /// Drives every informer for as long as some work takes, which begins once they have seen everything. The work ends by
    /// itself at `shutdown`; `None` where that came before it could begin.
    pub async fn beside<T>(
        &self,
        shutdown: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, InformerStopped> {
        let watches = CancellationToken::new();
        let _ends_them = watches.clone().drop_guard();
        let work = async {
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = self.synced() => {}
            }
            Some(work.await)
        };
        tokio::select! {
            // Nobody cancels them before `work` is done.
            Err(stopped) = self.run(watches) => Err(stopped),
            done = work => Ok(done),
        }
    }

    /// Waits until every informer asked for so far has seen its first full list.
    pub async fn synced(&self) {
        let waits: Vec<_> = lock(&self.shared.informers).values().map(|known| known.synced.clone()).collect();
        for mut synced in waits {
            if synced.wait_for(|done| *done).await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The kinds that have not been listed yet, for a readiness report.
    pub fn unsynced(&self) -> Vec<String> {
        let informers = lock(&self.shared.informers);
        let mut kinds: Vec<_> =
            informers.values().filter(|known| !*known.synced.borrow()).map(|known| known.kind.clone()).collect();
        kinds.sort_unstable();
        kinds
    }
}

type Handler<K> = Box<dyn Fn(&Event<K>) + Send + Sync>;

/// A read handle on the shared cache of one kind. Clones share the cache.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    cache: RwLock<Cache<K>>,
    /// Held while an event is delivered, so that a new handler neither misses nor repeats one.
    handlers: Mutex<Vec<Handler<K>>>,
    transform: Mutex<Option<fn(&mut K)>>,
    synced: watch::Sender<bool>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Watchable> Informer<K> {
    fn new() -> Self {
        let shared = Shared {
            cache: RwLock::new(Cache::new()),
            handlers: Mutex::default(),
            transform: Mutex::default(),
            synced: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The object with this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read(|cache| cache.get(key).cloned())
    }

    /// All objects, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read(|cache| cache.list().cloned().collect())
    }

    /// The objects of a namespace, ordered by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read(|cache| cache.list_in(namespace).cloned().collect())
    }

    /// Whether there is an object in a namespace.
    pub fn has_any_in(&self, namespace: &str) -> bool {
        self.read(|cache| cache.list_in(namespace).next().is_some())
    }

    /// Whether there is an object like this. `is` runs while nobody can write: it must be quick.
    pub fn has_any(&self, is: impl Fn(&K) -> bool) -> bool {
        self.read(|cache| cache.list().any(|object| is(object)))
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.read(Cache::len)
    }

    /// The objects that the index puts under `value`, ordered by key. The index must have been added: asking for another
    /// is a bug and panics.
    pub fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        self.read(|cache| cache.by_index(index, value).cloned().collect())
    }

    /// Adds an index; `values` says under which values an object is found. An index of this name that exists already is
    /// kept, so two users of one informer may both add it.
    pub fn add_index(&self, index: &'static str, values: fn(&K) -> Vec<String>) {
        self.shared.cache.write().unwrap_or_else(PoisonError::into_inner).add_index(index, values);
    }

    /// Strips objects before they are cached, to save memory. Set it before the informer runs. `managedFields` are
    /// dropped always.
    pub fn set_transform(&self, transform: fn(&mut K)) {
        *lock(&self.shared.transform) = Some(transform);
    }

    /// Calls `handler` for every change from now on, and first for what is cached already. The handler runs on the
    /// watch's task: it must be quick, must not block, and must not add handlers to the same informer.
    pub fn on_event(&self, handler: impl Fn(&Event<K>) + Send + Sync + 'static) {
        let mut handlers = lock(&self.shared.handlers);
        for new in self.list() {
            handler(&Event::Applied { old: None, new });
        }
        handlers.push(Box::new(handler));
    }

    /// Waits for the first full list.
    pub async fn synced(&self) {
        // `self` holds the sender, so the wait cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|done| *done).await;
    }

    /// Whether the first full list has been seen.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    fn read<T>(&self, look: impl FnOnce(&Cache<K>) -> T) -> T {
        look(&self.shared.cache.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
