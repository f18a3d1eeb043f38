//! Feeds one informer from kube-runtime's watcher.
//!
//! ```text
//!  Init -> InitApply* -> InitDone : a list; swapped in at once, the difference becomes events
//!  Apply | Delete                 : one change
//!  error                          : wait (exponentially), the watcher then resumes or lists again
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, watcher};
use tracing::{debug, warn};

use super::cache::Cache;
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

/// Never returns: the watch lives until its task is dropped.
pub(super) async fn run<K: Watchable>(api: Api<K>, config: watcher::Config, informer: Informer<K>) {
    let mut events = watcher(api, config).boxed();
    let mut listed = BTreeMap::new();
    let mut pause = FIRST_PAUSE;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if !matches!(event, watcher::Event::Init) {
                    pause = FIRST_PAUSE;
                }
                informer.take(event, &mut listed);
            }
            Err(err) => {
                report(&K::kind(&()), &err);
                tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>() * 0.2)).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// An expired watch or a closed connection is routine; everything else deserves a line.
fn report(kind: &str, err: &watcher::Error) {
    match err {
        watcher::Error::WatchError(status) if status.code == 410 => debug!(kind, "watch expired, listing again"),
        err => warn!(kind, error = err as &dyn std::error::Error, "watch interrupted, trying again"),
    }
}

impl<K: Watchable> Informer<K> {
    fn take(&self, event: watcher::Event<K>, listed: &mut BTreeMap<ObjectKey, Arc<K>>) {
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(object) => {
                let object = self.prepare(object);
                listed.insert(ObjectKey::of(&*object), object);
            }
            watcher::Event::InitDone => self.replace(std::mem::take(listed)),
            watcher::Event::Apply(object) => self.apply(self.prepare(object)),
            watcher::Event::Delete(object) => {
                let last = self.prepare(object);
                self.deliver(|cache| cache.delete(&ObjectKey::of(&*last), Some(last)));
            }
        }
    }

    fn prepare(&self, mut object: K) -> Arc<K> {
        object.meta_mut().managed_fields = None;
        let transform = *lock(&self.shared.transform);
        if let Some(transform) = transform {
            transform(&mut object);
        }
        Arc::new(object)
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
