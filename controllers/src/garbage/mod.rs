//! The garbage collector: deletes objects whose owners are gone.
//!
//! ```text
//!  discovery -> a metadata watch per kind -> graph by uid -> tasks -> GET the object and doubtful owners -> delete / detach
//!      ^                                                                        (nothing is deleted on the cache's word)
//!      +-- again whenever a CustomResourceDefinition or APIService changes
//! ```

mod collector;
mod graph;

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{Event, Informer, WorkQueue};
use futures::StreamExt;
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Resource,
    api::DynamicObject,
    core::{ApiResource, PartialObjectMeta},
    runtime::watcher::{self, watcher},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{
    collector::Collector,
    graph::{Graph, Node, Task},
};
use crate::{
    context::Context,
    discovery::{self, Kind},
};

/// Several changes of the kinds at once (a chart with many CRDs) are one discovery.
const SETTLE: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// The watches, the graph they feed, and the tasks that come of it.
pub(crate) struct GarbageCollector {
    client: kube::Client,
    shared: Arc<Shared>,
    kinds_changed: Arc<Notify>,
}

struct Shared {
    graph: std::sync::Mutex<Graph>,
    queue: WorkQueue<Task>,
    /// The kinds that are watched and have been listed.
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
        notify_on_change(&context.informers.of::<CustomResourceDefinition>(), &kinds_changed, |crd| {
            let names = crd.status.as_ref().and_then(|status| status.conditions.clone());
            format!("{:?} {names:?}", crd.metadata.generation)
        });
        notify_on_change(&context.informers.of::<APIService>(), &kinds_changed, |service| {
            format!("{:?}", service.status)
        });
        let shared =
            Shared { graph: std::sync::Mutex::default(), queue: WorkQueue::new(), kinds: std::sync::Mutex::default() };
        Self { client: context.client.clone(), shared: Arc::new(shared), kinds_changed }
    }

    /// Watches and collects until `shutdown`.
    pub(crate) async fn run(self, workers: usize, shutdown: CancellationToken) -> Result<(), crate::Error> {
        let (synced, mut is_synced) = watch::channel(false);
        let collector = Arc::new(Collector::new(self.client.clone(), Arc::clone(&self.shared)));
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
        let kinds: Vec<Kind> = kinds.into_iter().filter(is_collected).collect();
        watches.retain(|resource, _| kinds.iter().any(|kind| kind.resource == *resource));
        let mut lists = Vec::new();
        for kind in &kinds {
            if watches.contains_key(&kind.resource) {
                continue;
            }
            let (listed, is_listed) = watch::channel(false);
            let mut task = JoinSet::new();
            task.spawn(follow_kind(self.client.clone(), kind.resource.clone(), Arc::clone(&self.shared), listed));
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

fn notify_on_change<K: client::Watchable>(informer: &Informer<K>, changed: &Arc<Notify>, view: fn(&K) -> String) {
    let changed = Arc::clone(changed);
    informer.on_event(move |event| {
        if let Event::Applied { old: Some(old), new } = event
            && view(old) == view(new)
        {
            return;
        }
        changed.notify_one();
    });
}

/// Events own nothing and are many; upstream ignores them, too.
fn is_collected(kind: &Kind) -> bool {
    let is_event = kind.resource.kind == "Event";
    kind.serves(&["delete", "list", "watch"]) && !is_event
}

/// Keeps the graph's part of one kind; never returns.
async fn follow_kind(client: kube::Client, resource: ApiResource, shared: Arc<Shared>, listed: watch::Sender<bool>) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let mut events = watcher(api, watcher::Config::default()).boxed();
    let mut unseen: Vec<String> = Vec::new();
    let mut pause = FIRST_PAUSE;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => unseen = shared.graph().of_kind(&resource),
            Ok(watcher::Event::InitApply(object)) => {
                unseen.retain(|uid| Some(uid) != object.meta().uid.as_ref());
                take(&shared, &resource, object);
            }
            Ok(watcher::Event::InitDone) => {
                for uid in std::mem::take(&mut unseen) {
                    let tasks = shared.graph().remove(&uid);
                    shared.add_all(tasks);
                }
                listed.send_replace(true);
                pause = FIRST_PAUSE;
            }
            Ok(watcher::Event::Apply(object)) => take(&shared, &resource, object),
            Ok(watcher::Event::Delete(object)) => {
                let tasks = shared.graph().remove(object.meta().uid.as_deref().unwrap_or_default());
                shared.add_all(tasks);
            }
            Err(err) => {
                debug!(kind = resource.kind, error = &err as &dyn std::error::Error, "watch interrupted, trying again");
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

fn take(shared: &Shared, resource: &ApiResource, object: PartialObjectMeta<DynamicObject>) {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let tasks = shared.graph().apply(&uid, Node::new(resource.clone(), object.metadata));
    shared.add_all(tasks);
}

/// Starts the collector.
pub(crate) fn start(context: &Context, workers: usize, tasks: &mut daemon::Supervisor) {
    let collector = GarbageCollector::new(context);
    tasks.add("garbage collector", move |shutdown| collector.run(workers, shutdown));
}
