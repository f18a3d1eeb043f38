//! Which pods belong on this node, and a worker for each: pods of the API that name the node, and static pods
//! (upstream: pkg/kubelet/pod and the sync loop of pkg/kubelet).
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use client::{Event, Informer};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::containers::labels::POD_UID;
use crate::context::Context;
use crate::pod::Role;
use crate::{admission, pod, watched_calls};
use status::Verdict;
use worker::{Desired, Report, Worker};

pub(crate) mod actions;
pub(crate) mod observed;
pub(crate) mod resize;
mod resizes;
pub(crate) mod statics;
pub(crate) mod status;
pub(crate) mod worker;

/// A running worker.
struct Entry {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    report: watch::Receiver<Report>,
}

/// A read handle on the pods of this node, for the server and for statistics.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// A pod has come since [`Pods::arrival`] was awaited last.
    arrived: Arc<Notify>,
    /// Set once the node ends, to what pods that come after that have to end: they do not begin.
    ending: Arc<OnceLock<Duration>>,
}

/// A pod as its worker last reported it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The pod, with its newest status.
    pub(crate) pod: Pod,
    /// What runs of it, and its status.
    pub(crate) report: Report,
}

impl Pods {
    /// Every pod.
    pub(crate) fn list(&self) -> Vec<Known> {
        self.entries().values().map(known).collect()
    }

    /// A pod by namespace and name, and by uid if one is given.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Known> {
        let entries = self.entries();
        let mut found: Vec<_> = entries
            .values()
            .map(known)
            .filter(|known| pod::namespace(&known.pod) == namespace && pod::name(&known.pod) == name)
            .filter(|known| uid.is_none_or(|uid| pod::uid(&known.pod) == uid))
            .collect();
        found.sort_by_key(|known| known.report.ended);
        found.into_iter().next()
    }

    /// Waits for a pod that was not here before. For one task.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a pod for good, as the node decided. Says whether that was news.
    pub(crate) fn evict(&self, uid: &str, verdict: Verdict) -> bool {
        self.entries().get(uid).is_some_and(|entry| {
            entry.desired.send_if_modified(|desired| {
                let is_new = desired.rejected.is_none();
                desired.rejected.get_or_insert(verdict);
                is_new
            })
        })
    }

    /// Ends the pods that these are, within so long at most, as the end of the node does; how many have not ended.
    pub(crate) fn end(&self, concerned: impl Fn(&Pod) -> bool, limit: Duration) -> usize {
        self.ending.get_or_init(|| limit);
        let entries = self.entries();
        let concerned = entries.values().filter(|entry| concerned(&entry.desired.borrow().pod));
        let ended = concerned.map(|entry| {
            entry.desired.send_if_modified(|desired| {
                let is_news = desired.ending.is_none();
                desired.ending.get_or_insert(limit);
                is_news
            });
            entry.report.borrow().at_rest
        });
        ended.filter(|at_rest| !at_rest).count()
    }

    /// `namespace/name` of those of which something runs.
    pub(crate) fn not_ended(&self) -> BTreeSet<String> {
        let entries = self.entries();
        let running = entries.values().filter(|entry| !entry.report.borrow().at_rest);
        let named = running.map(|entry| {
            let desired = entry.desired.borrow();
            format!("{}/{}", pod::namespace(&desired.pod), pod::name(&desired.pod))
        });
        named.collect()
    }

    /// The pod of a container, and the container's name in it.
    fn owner(&self, container: &str) -> Option<(Arc<Pod>, String)> {
        let entries = self.entries();
        entries.values().find_map(|entry| {
            let name = entry.report.borrow().seen.by_id(container)?.name.clone();
            Some((Arc::clone(&entry.desired.borrow().pod), name))
        })
    }

    fn wake_all(&self) {
        for entry in self.entries().values() {
            entry.wake.notify_one();
        }
    }

    /// Wakes the worker whose pod has this sandbox; all of them if none is known to.
    fn wake_sandbox(&self, sandbox: &str) {
        let entries = self.entries();
        let owner =
            entries.values().find(|entry| entry.report.borrow().seen.sandboxes.iter().any(|known| known.id == sandbox));
        match owner {
            Some(entry) => entry.wake.notify_one(),
            None => entries.values().for_each(|entry| entry.wake.notify_one()),
        }
    }
}

fn known(entry: &Entry) -> Known {
    let report = entry.report.borrow().clone();
    let desired = entry.desired.borrow();
    let mut pod = Arc::unwrap_or_clone(desired.allocation.sizes.apply(&desired.pod));
    drop(desired);
    pod.status = Some(report.status.clone());
    Known { pod, report }
}

/// Owns the workers.
pub(crate) struct Manager {
    context: Arc<Context>,
    pods: Pods,
    informer: Informer<Pod>,
    /// Pods from manifests, by uid.
    statics: watch::Receiver<BTreeMap<String, Arc<Pod>>>,
    workers: JoinSet<String>,
    max_pods: usize,
}

impl Manager {
    /// Nothing runs before [`Manager::run`].
    pub(crate) fn new(
        context: Arc<Context>,
        informer: Informer<Pod>,
        statics: watch::Receiver<BTreeMap<String, Arc<Pod>>>,
        pods: Pods,
        max_pods: usize,
    ) -> Self {
        Self { context, pods, informer, statics, workers: JoinSet::new(), max_pods }
    }

    /// Runs until `shutdown`; then the workers end and leave the containers as they are.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        self.informer.on_event(move |_: &Event<Pod>| notify.notify_one());
        let mut events = self.context.runtime.events();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.informer.synced() => {}
        }
        // The node's own object decides about admission and the network.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.context.node.synced() => {}
        }
        self.sync(&shutdown);
        self.remove_orphans().await;
        let here = self.pods.entries().keys().cloned().collect();
        self.context.csi.abandon_all_but(&here);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = changed.notified() => self.sync(&shutdown),
                Ok(()) = self.statics.changed() => self.sync(&shutdown),
                Some(ended) = self.workers.join_next() => self.forget(ended, &shutdown),
                event = events.next() => match event {
                    Some(runtime::Event::Resync) => self.pods.wake_all(),
                    Some(runtime::Event::ContainerExited { sandbox, container, exit }) => {
                        self.context.exits.add(self.role(&container), &exit);
                        self.pods.wake_sandbox(&sandbox);
                    }
                    Some(
                        runtime::Event::ContainerStarted { sandbox, .. }
                        | runtime::Event::SandboxExited { sandbox },
                    ) => self.pods.wake_sandbox(&sandbox),
                    Some(runtime::Event::WatchedCalls { container, calls, .. }) => self.tell(&container, &calls),
                    None => break,
                },
            }
        }
        shutdown.cancelled().await;
        while self.workers.join_next().await.is_some() {}
    }

    /// What a container is to its pod, if it has been seen.
    fn role(&self, container: &str) -> Option<Role> {
        let (pod, name) = self.pods.owner(container)?;
        pod::containers(&pod).into_iter().find_map(|(role, container)| (container.name == name).then_some(role))
    }

    /// Counts watched system calls, and records the unusual ones.
    fn tell(&self, container: &str, calls: &runtime::WatchedCalls) {
        self.context.watched.add(calls);
        if calls.unusual.is_empty() {
            return;
        }
        let Some((pod, name)) = self.pods.owner(container) else { return };
        for unusual in &calls.unusual {
            let (reason, message) = watched_calls::event(unusual);
            self.context.container_event(&pod, &name, "Warning", reason, message);
        }
    }

    fn forget(&mut self, ended: Result<String, tokio::task::JoinError>, shutdown: &CancellationToken) {
        match ended {
            Ok(uid) => {
                debug!(%uid, "a pod's worker ended");
                self.pods.entries().remove(&uid);
            }
            // A worker that panicked left its entry; the next pass sees its closed channel and starts another.
            Err(err) => warn!(error = &err as &dyn std::error::Error, "a pod's worker failed"),
        }
        self.sync(shutdown);
    }

    /// Brings the workers in line with the pods that belong here.
    fn sync(&mut self, shutdown: &CancellationToken) {
        let mut wanted: BTreeMap<String, (Arc<Pod>, Option<Arc<Pod>>)> = BTreeMap::new();
        let statics = self.statics.borrow_and_update().clone();
        let from_api = self.informer.list();
        for (uid, pod) in &statics {
            let mirror = from_api.iter().find(|mirror| {
                pod::is_mirror(mirror)
                    && pod::name(mirror) == pod::name(pod)
                    && pod::namespace(mirror) == pod::namespace(pod)
            });
            wanted.insert(uid.clone(), (Arc::clone(pod), mirror.cloned()));
        }
        for pod in from_api.iter().filter(|pod| !pod::is_mirror(pod)) {
            wanted.insert(pod::uid(pod).to_owned(), (Arc::clone(pod), None));
        }
        self.pods.entries().retain(|_, entry| !entry.desired.is_closed());
        for (uid, entry) in self.pods.entries().iter() {
            if !wanted.contains_key(uid) {
                entry.desired.send_if_modified(|desired| !std::mem::replace(&mut desired.gone, true));
            }
        }
        let mut ordered: Vec<_> = wanted.into_iter().collect();
        ordered.sort_by_key(|(_, (pod, _))| pod.metadata.creation_timestamp.clone());
        for (uid, (pod, mirror)) in ordered {
            self.deliver(uid, pod, mirror, shutdown);
        }
        self.resize_pods();
    }

    fn deliver(&mut self, uid: String, pod: Arc<Pod>, mirror: Option<Arc<Pod>>, shutdown: &CancellationToken) {
        if let Some(entry) = self.pods.entries().get(&uid) {
            entry.desired.send_if_modified(|desired| {
                let changed =
                    desired.pod.metadata.resource_version != pod.metadata.resource_version || desired.mirror != mirror;
                if changed {
                    desired.pod = Arc::clone(&pod);
                    desired.mirror.clone_from(&mirror);
                }
                changed
            });
            return;
        }
        let rejected = self.admit(&pod);
        if let Some(verdict) = &rejected {
            self.context.event(&pod, "Warning", &verdict.reason, verdict.message.clone());
        }
        let allocation = Arc::new(self.first_allocation(&pod));
        let ending = self.pods.ending.get().copied();
        let (desired, receiver) = watch::channel(Desired { pod, mirror, gone: false, rejected, allocation, ending });
        let wake = Arc::new(Notify::new());
        let (reporter, report) = watch::channel(Report::default());
        let worker = Worker::new(Arc::clone(&self.context), receiver, Arc::clone(&wake), reporter);
        self.pods.entries().insert(uid.clone(), Entry { desired, wake, report });
        self.pods.arrived.notify_one();
        let shutdown = shutdown.clone();
        self.workers.spawn(async move {
            worker.run(shutdown).await;
            uid
        });
    }

    /// Whether the node takes a pod that it sees for the first time. What already ran here is not judged again.
    fn admit(&self, pod: &Pod) -> Option<Verdict> {
        let known_before = pod::status(pod).start_time.is_some();
        if known_before || pod::is_terminal(pod) || pod::is_deleting(pod) {
            return None;
        }
        if let Err(reason) = self.context.allowed_sysctls.check(pod) {
            return Some(admission::refuse("SysctlForbidden", reason));
        }
        if pod::is_static(pod) {
            return None;
        }
        let node = self.context.node()?;
        let pressure = *self.context.pressure.borrow();
        admission::check(pod, &self.others(pod::uid(pod)), &node, self.max_pods, pressure).err()
    }

    /// Stops and removes sandboxes whose pods are neither in the API nor in a manifest.
    async fn remove_orphans(&self) {
        let Ok(sandboxes) = self.context.runtime.sandboxes().await else { return };
        for sandbox in sandboxes {
            let uid = sandbox.config.labels.get(POD_UID).unwrap_or(&sandbox.config.uid);
            if self.pods.entries().contains_key(uid) {
                continue;
            }
            info!(
                sandbox = sandbox.id,
                pod = format!("{}/{}", sandbox.config.namespace, sandbox.config.name),
                "removing a sandbox that no pod owns"
            );
            let runtime = &self.context.runtime;
            let removed = async {
                runtime.stop_sandbox(&sandbox.id).await?;
                runtime.remove_sandbox(&sandbox.id).await
            };
            if let Err(err) = removed.await {
                warn!(sandbox = sandbox.id, error = &err as &dyn std::error::Error, "cannot remove an orphan");
            }
        }
    }
}
