//! How many objects there are of the kinds that quotas count by `count/<resource>.<group>`.
//!
//! Only kinds that some quota names are watched, and only their metadata.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{Informer, ObjectKey, WorkQueue};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{is_new_limit, plain_kinds};
use crate::context::Context;
use crate::discovery;
use crate::follower::{self, FIRST_PAUSE, Follower, LAST_PAUSE};

/// Several changes at once (a chart with quotas and CRDs) are one discovery.
const SETTLE: Duration = Duration::from_millis(100);

/// The counts by kind.
pub(super) struct PlainObjects {
    client: kube::Client,
    quotas: Informer<ResourceQuota>,
    queue: WorkQueue<ObjectKey>,
    /// Another kind may be wanted or served.
    changed: Arc<Notify>,
    kinds: Mutex<HashMap<String, Arc<Mutex<Counts>>>>,
}

/// The objects of one kind.
#[derive(Default)]
struct Counts {
    namespace_of: HashMap<String, String>,
    per_namespace: HashMap<String, usize>,
    is_listed: bool,
}

impl Counts {
    fn add(&mut self, uid: String, namespace: String) {
        if !self.namespace_of.contains_key(&uid) {
            *self.per_namespace.entry(namespace.clone()).or_default() += 1;
            self.namespace_of.insert(uid, namespace);
        }
    }

    /// The namespace of what was removed.
    fn remove(&mut self, uid: &str) -> Option<String> {
        let namespace = self.namespace_of.remove(uid)?;
        if let Some(count) = self.per_namespace.get_mut(&namespace) {
            *count -= 1;
            if *count == 0 {
                self.per_namespace.remove(&namespace);
            }
        }
        Some(namespace)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PlainObjects {
    /// Subscribes to what kinds quotas name and what kinds there are.
    pub(super) fn new(context: &Context, quotas: &Informer<ResourceQuota>, queue: &WorkQueue<ObjectKey>) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        discovery::notify_on_change(context, &changed);
        let wanted = Arc::clone(&changed);
        quotas.on_event(move |event| {
            if is_new_limit(event) {
                wanted.notify_one();
            }
        });
        let (client, kinds) = (context.client.clone(), Mutex::default());
        Arc::new(Self { client, quotas: quotas.clone(), queue: queue.clone(), changed, kinds })
    }

    /// How many objects of a kind are in a namespace; `None` while that is not known.
    pub(super) fn count(&self, kind: &str, namespace: &str) -> Option<usize> {
        let counts = Arc::clone(lock(&self.kinds).get(kind)?);
        let counts = lock(&counts);
        counts.is_listed.then(|| counts.per_namespace.get(namespace).copied().unwrap_or(0))
    }

    /// Watches what is wanted until `shutdown`.
    pub(super) async fn run(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), crate::Error> {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow_kinds() => {}
        }
        Ok(())
    }

    async fn follow_kinds(self: Arc<Self>) {
        let mut watches: HashMap<String, JoinSet<()>> = HashMap::new();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.follow_wanted(&mut watches).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    self.changed.notified().await;
                    sleep(SETTLE).await;
                }
                Err(err) => {
                    warn!(error = &err as &dyn std::error::Error, "cannot discover what to count, trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// Starts watches of kinds that are wanted and served, ends all others.
    async fn follow_wanted(self: &Arc<Self>, watches: &mut HashMap<String, JoinSet<()>>) -> kube::Result<()> {
        let quotas = self.quotas.list();
        let wanted: BTreeSet<String> = quotas.iter().flat_map(|quota| plain_kinds(quota).into_values()).collect();
        let served = if wanted.is_empty() { Vec::new() } else { discovery::kinds(&self.client).await? };
        let is_counted = |kind: &&discovery::Kind| {
            kind.is_namespaced && kind.serves(&["create", "delete", "list", "watch"]) && wanted.contains(&kind.name())
        };
        let counted: HashMap<String, _> =
            served.iter().filter(is_counted).map(|kind| (kind.name(), kind.resource.clone())).collect();
        watches.retain(|kind, _| counted.contains_key(kind));
        lock(&self.kinds).retain(|kind, _| counted.contains_key(kind));
        for (kind, resource) in counted {
            if watches.contains_key(&kind) {
                continue;
            }
            let counts = Arc::clone(lock(&self.kinds).entry(kind.clone()).or_default());
            let follower = OneKind { objects: Arc::clone(self), kind: kind.clone(), counts };
            let mut task = JoinSet::new();
            task.spawn(follower::follow(self.client.clone(), resource, follower));
            watches.insert(kind, task);
        }
        Ok(())
    }

    /// Has the quotas counted that name a kind.
    fn recount(&self, kind: &str, quotas: Vec<Arc<ResourceQuota>>) {
        let concerned = quotas.into_iter().filter(|quota| plain_kinds(quota).values().any(|known| known == kind));
        concerned.for_each(|quota| self.queue.add(ObjectKey::of(&*quota)));
    }
}

/// Counts the objects of one kind.
struct OneKind {
    objects: Arc<PlainObjects>,
    kind: String,
    counts: Arc<Mutex<Counts>>,
}

impl Follower for OneKind {
    fn known(&self) -> Vec<String> {
        lock(&self.counts).namespace_of.keys().cloned().collect()
    }

    fn apply(&self, metadata: ObjectMeta) {
        lock(&self.counts).add(metadata.uid.unwrap_or_default(), metadata.namespace.unwrap_or_default());
    }

    fn remove(&self, uid: &str) {
        let removed = lock(&self.counts).remove(uid);
        if let Some(namespace) = removed {
            self.objects.recount(&self.kind, self.objects.quotas.list_in(&namespace));
        }
    }

    fn listed(&self) {
        lock(&self.counts).is_listed = true;
        self.objects.recount(&self.kind, self.objects.quotas.list());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_counts_once_and_until_it_is_removed() {
        let mut counts = Counts::default();
        for uid in ["a", "a", "b"] {
            counts.add(uid.to_owned(), "default".to_owned());
        }
        assert_eq!(counts.per_namespace["default"], 2);
        assert_eq!(counts.remove("a").as_deref(), Some("default"));
        assert_eq!(counts.remove("a"), None);
        assert_eq!(counts.remove("b").as_deref(), Some("default"));
        assert!(counts.per_namespace.is_empty());
    }
}
