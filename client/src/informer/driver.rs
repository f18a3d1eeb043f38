//! Feeds one informer from kube-runtime's watcher.
//!
//! ```text
//!  Init -> InitApply* -> InitDone : a list; swapped in at once, the difference becomes events
//!  Apply | Delete                 : one change
//!  error                          : wait (exponentially), the watcher then resumes or lists again
//! ```
//!
//! The loop knows no kind: its code is there once, not for each kind in each component.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, watcher};
use tracing::{debug, warn};

use super::cache::Cache;
use super::raw::Raw;
use super::{Event, Informer, Selection, Watchable, lock};
use crate::ObjectKey;

/// A server that is just starting is found quickly, and one that comes back soon; one that is down is not hammered.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(10);

pub(super) fn config(selection: &Selection) -> watcher::Config {
    let mut config = watcher::Config::default();
    config.field_selector.clone_from(&selection.fields);
    config.label_selector.clone_from(&selection.labels);
    config
}

/// Where the events of a watch go: the informer of one kind.
pub(super) trait Sink: Send {
    /// The kind's name, for the log.
    fn kind(&self) -> String;

    /// Takes an event. Fails when its object is none of the kind.
    fn take(&mut self, event: watcher::Event<Raw>) -> Result<(), serde_json::Error>;
}

/// Never returns: the watch lives until its task is dropped.
pub(super) async fn run(api: Api<Raw>, config: watcher::Config, mut sink: Box<dyn Sink>) {
    let mut events = watcher(api.clone(), config.clone()).boxed();
    let mut pause = FIRST_PAUSE;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(err) => {
                report(&sink.kind(), &err);
                wait(&mut pause).await;
                continue;
            }
        };
        // A list that has only begun may still fail, again and again.
        let is_whole = !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_));
        match sink.take(event) {
            Ok(()) if is_whole => pause = FIRST_PAUSE,
            Ok(()) => {}
            Err(err) => {
                warn!(kind = sink.kind(), error = &err as &dyn Error, "an object cannot be read, listing again");
                events = watcher(api.clone(), config.clone()).boxed();
                wait(&mut pause).await;
            }
        }
    }
}

async fn wait(pause: &mut Duration) {
    tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>() * 0.2)).await;
    *pause = (*pause * 2).min(LAST_PAUSE);
}

/// An expired watch or a closed connection is routine; everything else deserves a line.
fn report(kind: &str, err: &watcher::Error) {
    match err {
        watcher::Error::WatchError(status) if status.code == 410 => debug!(kind, "watch expired, listing again"),
        err => warn!(kind, error = err as &dyn Error, "watch interrupted, trying again"),
    }
}

/// An informer, and what it has been told of a list that is not complete yet.
pub(super) struct Listing<K> {
    informer: Informer<K>,
    listed: BTreeMap<ObjectKey, Arc<K>>,
}

impl<K: Watchable> Listing<K> {
    pub(super) fn new(informer: Informer<K>) -> Self {
        Self { informer, listed: BTreeMap::new() }
    }
}

impl<K: Watchable> Sink for Listing<K> {
    fn kind(&self) -> String {
        K::kind(&()).into_owned()
    }

    fn take(&mut self, event: watcher::Event<Raw>) -> Result<(), serde_json::Error> {
        let informer = &self.informer;
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(object) => {
                let object = informer.prepare(&object)?;
                self.listed.insert(ObjectKey::of(&*object), object);
            }
            watcher::Event::InitDone => informer.replace(std::mem::take(&mut self.listed)),
            watcher::Event::Apply(object) => informer.apply(informer.prepare(&object)?),
            watcher::Event::Delete(object) => {
                let last = informer.prepare(&object)?;
                informer.deliver(|cache| cache.delete(&ObjectKey::of(&*last), Some(last)));
            }
        }
        Ok(())
    }
}

impl<K: Watchable> Informer<K> {
    fn prepare(&self, object: &Raw) -> Result<Arc<K>, serde_json::Error> {
        let mut object: K = object.decode()?;
        object.meta_mut().managed_fields = None;
        let transform = *lock(&self.shared.transform);
        if let Some(transform) = transform {
            transform(&mut object);
        }
        Ok(Arc::new(object))
    }

    /// An object of the same name with another uid means that the old one was deleted unseen.
    fn apply(&self, new: Arc<K>) {
        let key = ObjectKey::of(&*new);
        if self.get(&key).is_some_and(|old| old.meta().uid != new.meta().uid) {
            self.deliver(|cache| cache.delete(&key, None));
        }
        self.deliver(|cache| cache.apply(new));
    }

    fn replace(&self, listed: BTreeMap<ObjectKey, Arc<K>>) {
        let gone = self.read(|cache| cache.gone(&listed));
        for key in gone {
            self.deliver(|cache| cache.delete(&key, None));
        }
        for object in listed.into_values() {
            self.deliver(|cache| cache.apply(object));
        }
        self.shared.synced.send_replace(true);
    }

    /// Changes the cache, then tells the handlers; the cache is not locked while they run.
    fn deliver(&self, change: impl FnOnce(&mut Cache<K>) -> Option<Event<K>>) {
        let handlers = lock(&self.shared.handlers);
        let event = change(&mut self.shared.cache.write().unwrap_or_else(PoisonError::into_inner));
        let Some(event) = event else { return };
        for handler in handlers.iter() {
            handler(&event);
        }
    }
}
