//! The store, watched: whatever is written is shown to the rules before anybody else can act on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use store::embedded::EmbeddedStore;
use store::{Entry, Error, Expected, Page, Range, Revision, Store, WatchEvent, WatchStream};
use tokio::time::Instant;

use crate::history::History;
use crate::objects::{self, Change, Objects};
use crate::plan::Plan;
use crate::rules::{self, Rule};

/// The prefix of all keys.
const PREFIX: &str = "/registry/";

/// A store whose every change is looked at.
pub(crate) struct Recorded {
    inner: EmbeddedStore,
    observer: Mutex<Observer>,
}

struct Observer {
    events: WatchStream,
    revision: Revision,
    objects: Objects,
    rules: Vec<Box<dyn Rule>>,
    history: History,
    writes: Writes,
}

/// What was last written but for leases and events, and when.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    pub(crate) last: Instant,
    pub(crate) what: String,
}

impl Recorded {
    /// An empty store, and all rules.
    pub(crate) async fn new(plan: &Plan, history: History) -> Result<Arc<Self>, Error> {
        let inner = EmbeddedStore::in_step();
        let events = inner.watch("", None).await?;
        let writes = Writes { last: Instant::now(), what: String::new() };
        let observer =
            Observer { events, revision: 0, objects: Objects::new(), rules: rules::all(plan), history, writes };
        Ok(Arc::new(Self { inner, observer: Mutex::new(observer) }))
    }

    fn observer(&self) -> MutexGuard<'_, Observer> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all objects.
    pub(crate) fn look<T>(&self, with: impl FnOnce(&Objects) -> T) -> T {
        with(&self.observer().objects)
    }

    /// The last write that a cluster at rest does not do.
    pub(crate) fn writes(&self) -> Writes {
        self.observer().writes.clone()
    }

    fn observe(&self) {
        self.observer().catch_up();
    }
}

impl Observer {
    fn catch_up(&mut self) {
        while let Some(Some(event)) = tokio::task::unconstrained(self.events.next()).now_or_never() {
            match event {
                Ok(event) => self.see(&event),
                Err(err) => self.history.wrong(format!("the observer lost track of the store: {err}")),
            }
        }
    }

    fn see(&mut self, event: &WatchEvent) {
        let Some(key) = event.key() else { return };
        let revision = event.revision();
        if revision <= self.revision {
            self.history.wrong(format!("revision {revision} of {key} follows {}", self.revision));
        }
        self.revision = revision;
        let key = key.strip_prefix(PREFIX).unwrap_or(key).to_owned();
        let new = match event {
            WatchEvent::Put { entry, .. } => match serde_json::from_slice::<Value>(&entry.value) {
                Ok(object) => Some(object),
                Err(err) => return self.history.wrong(format!("{key} is no JSON: {err}")),
            },
            _ => None,
        };
        let old = match &new {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        self.note(&key, old.as_ref(), new.as_ref());
        let change =
            Change { key: &key, old: old.as_ref(), new: new.as_ref(), objects: &self.objects, at: Instant::now() };
        for rule in &mut self.rules {
            if let Err(why) = rule.see(&change) {
                self.history.wrong(format!("revision {revision}: {}: {why}", rule.name()));
            }
        }
    }

    fn note(&mut self, key: &str, old: Option<&Value>, new: Option<&Value>) {
        let verb = match (old, new) {
            (None, _) => "create",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        };
        let kind = objects::kind(key);
        let what = new.or(old).map(|object| gist(kind, object)).unwrap_or_default();
        self.history.note(|| format!("r{} {verb} {key} {what}", self.revision));
        if !matches!(kind, "leases" | "events" | "masterleases") {
            self.writes = Writes { last: Instant::now(), what: format!("{verb} {key} {what}") };
        }
    }
}

/// What matters of an object, in a few words.
fn gist(kind: &str, object: &Value) -> String {
    let text = |path| objects::text(object, path);
    let number = |path| objects::number(object, path).map_or_else(|| "-".to_owned(), |number| number.to_string());
    let going = if objects::is_going(object) { " going" } else { "" };
    match kind {
        "pods" => {
            let ready = if objects::is_true(object, "Ready") { " ready" } else { "" };
            format!("{} {}{ready}{going}", text("/spec/nodeName"), text("/status/phase"))
        }
        "leases" => text("/spec/holderIdentity").to_owned(),
        "events" => format!("{}: {}", text("/reason"), text("/message")),
        "replicasets" | "deployments" | "statefulsets" => format!(
            "wants {} has {} ready {} available {}{going}",
            number("/spec/replicas"),
            number("/status/replicas"),
            number("/status/readyReplicas"),
            number("/status/availableReplicas")
        ),
        "jobs" => format!("active {} succeeded {}{going}", number("/status/active"), number("/status/succeeded")),
        _ => going.to_owned(),
    }
}

#[async_trait]
impl Store for Recorded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn list(&self, range: Range) -> Result<Page, Error> {
        self.inner.list(range).await
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected, ttl: Option<Duration>) -> Result<Revision, Error> {
        let outcome = self.inner.put(key, value, expected, ttl).await;
        self.observe();
        outcome
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        let outcome = self.inner.delete(key, expected).await;
        self.observe();
        outcome
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream, Error> {
        self.inner.watch(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.inner.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }
}
