//! The garbage collector: deletes objects whose owners are gone (upstream: `pkg/controller/garbagecollector`).
//!
//! ```text
//!  discovery -> a metadata watch per kind -> graph by uid -> tasks -> GET the object and doubtful owners -> delete / detach
//!      ^                                                                        (nothing is deleted on the cache's word)
//!      +-- again whenever a CustomResourceDefinition or APIService changes
//! ```

mod collector;
mod graph;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Recorder, WorkQueue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::collector::Collector;
use self::graph::{Graph, Node, Task};
use crate::context::Context;
use crate::descriptor::Descriptor;
use crate::discovery::{self, Kind};
use crate::follower::{self, FIRST_PAUSE, Follower, LAST_PAUSE};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "garbage-collector-controller",
    aliases: &["garbagecollector"],
    start: |start| {
        let (collector, workers) = (GarbageCollector::new(start.context), start.config.tuning.concurrent_gc_syncs);
        start.tasks.add("garbage collector", move |shutdown| collector.run(workers, shutdown));
        Ok(())
    },
};

/// Several changes of the kinds at once (a chart with many CRDs) are one discovery.
const SETTLE: Duration = Duration::from_millis(100);

/// The watches, the graph they feed, and the tasks that come of it.
pub(crate) struct GarbageCollector {
    client: kube::Client,
    recorder: Recorder,
    shared: Arc<Shared>,
    kinds_changed: Arc<Notify>,
}

struct Shared {
    graph: std::sync::Mutex<Graph>,
    queue: WorkQueue<Task>,
    /// All kinds that are served; those that can be collected are watched and have been listed.
    kinds: std::sync::Mutex<Vec<Kind>>,
}

impl Shared {
    fn graph(&self) -> std::sync::MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn add_all(&self, tasks: Vec<Task>) {
        tasks.into_iter().for_each(|task| self.queue.add(task));
    }
}

impl GarbageCollector {
    /// Subscribes to changes of what kinds there are.
    pub(crate) fn new(context: &Context) -> Self {
        let kinds_changed = Arc::new(Notify::new());
        discovery::notify_on_change(context, &kinds_changed);
        let shared =
            Shared { graph: std::sync::Mutex::default(), queue: WorkQueue::new(), kinds: std::sync::Mutex::default() };
        let recorder = context.recorder.for_component("garbage-collector-controller");
        Self { client: context.client.clone(), recorder, shared: Arc::new(shared), kinds_changed }
    }

    /// Watches and collects until `shutdown`.
    pub(crate) async fn run(self, workers: usize, shutdown: CancellationToken) -> Result<(), crate::Error> {
        let (synced, mut is_synced) = watch::channel(false);
        let collector = Arc::new(Collector::new(self.client.clone(), self.recorder.clone(), Arc::clone(&self.shared)));
        let queue = self.shared.queue.clone();
        let collect = async {
            let is_ready = is_synced.wait_for(|synced| *synced);
            let is_ready = tokio::select! {
                () = shutdown.cancelled() => return,
                is_ready = is_ready => is_ready.is_ok(),
            };
            if is_ready {
                let reconcile = move |task| {
                    let collector = Arc::clone(&collector);
                    async move { collector.reconcile(task).await }
                };
                client::run_workers("garbage-collector", queue, workers, shutdown.clone(), reconcile).await;
            }
        };
        let watch = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.watch_kinds(synced) => {}
            }
        };
        tokio::join!(collect, watch);
        Ok(())
    }

    /// Follows the kinds that are served; never returns.
    async fn watch_kinds(&self, synced: watch::Sender<bool>) {
        let mut watches: HashMap<ApiResource, JoinSet<()>> = HashMap::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let wait = match discovery::kinds(&self.client).await {
                Ok(kinds) => {
                    pause = FIRST_PAUSE;
                    self.follow(kinds, &mut watches).await;
                    synced.send_replace(true);
                    None
                }
                Err(err) => {
                    warn!(error = &err as &dyn std::error::Error, "cannot discover what to collect, trying again");
                    pause = (pause * 2).min(LAST_PAUSE);
                    Some(pause)
                }
            };
            tokio::select! {
                () = wait_for(wait) => {}
                () = self.kinds_changed.notified() => sleep(SETTLE).await,
            }
        }
    }

    /// Starts watches of new kinds and waits for their first lists, ends those of kinds that are gone.
    async fn follow(&self, kinds: Vec<Kind>, watches: &mut HashMap<ApiResource, JoinSet<()>>) {
        watches.retain(|resource, _| kinds.iter().any(|kind| kind.resource == *resource));
        let mut lists = Vec::new();
        for kind in kinds.iter().filter(|kind| is_collected(kind)) {
            if watches.contains_key(&kind.resource) {
                continue;
            }
            let (listed, is_listed) = watch::channel(false);
            let mut task = JoinSet::new();
            let (shared, resource) = (Arc::clone(&self.shared), kind.resource.clone());
            let follower = OneKind { shared, resource: resource.clone(), listed };
            task.spawn(follower::follow(self.client.clone(), resource, follower));
            watches.insert(kind.resource.clone(), task);
            lists.push(is_listed);
        }
        let gone: Vec<_> = self.forget_kinds(&kinds);
        gone.into_iter().for_each(|tasks| self.shared.add_all(tasks));
        *self.shared.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = kinds;
        for mut is_listed in lists {
            // One kind that cannot be listed must not hold up all others: its objects are verified by GET anyway.
            let _ = tokio::time::timeout(LAST_PAUSE, is_listed.wait_for(|listed| *listed)).await;
        }
    }

    /// The objects of a kind that is no longer served are gone.
    fn forget_kinds(&self, kinds: &[Kind]) -> Vec<Vec<Task>> {
        let known = self.shared.kinds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let gone = known.into_iter().filter(|old| !kinds.iter().any(|kind| kind.resource == old.resource));
        let mut graph = self.shared.graph();
        let uids: Vec<String> = gone.flat_map(|old| graph.of_kind(&old.resource)).collect();
        uids.iter().map(|uid| graph.remove(uid)).collect()
    }
}

async fn wait_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Events own nothing and are many; upstream ignores them, too.
fn is_collected(kind: &Kind) -> bool {
    let is_event = kind.resource.kind == "Event";
    kind.serves(&["delete", "list", "watch"]) && !is_event
}

/// The graph's part of one kind.
struct OneKind {
    shared: Arc<Shared>,
    resource: ApiResource,
    listed: watch::Sender<bool>,
}

impl Follower for OneKind {
    fn known(&self) -> Vec<String> {
        self.shared.graph().of_kind(&self.resource)
    }

    fn apply(&self, metadata: ObjectMeta) {
        let uid = metadata.uid.clone().unwrap_or_default();
        let tasks = self.shared.graph().apply(&uid, Node::new(self.resource.clone(), metadata));
        self.shared.add_all(tasks);
    }

    fn remove(&self, uid: &str) {
        let tasks = self.shared.graph().remove(uid);
        self.shared.add_all(tasks);
    }

    fn listed(&self) {
        self.listed.send_replace(true);
    }
}
