//! Drives the cycles: informers fill queue and cache, decisions are taken one by one, bindings run beside them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::events::about;
use client::{Event, Informer, Informers, Recorder};
use k8s_openapi::api::core::v1::{Node, Pod};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::binding::{self, Failure, WaitingPods};
use crate::cache::Cache;
use crate::config::Config;
use crate::cycle::{Decision, Scheduler};
use crate::framework::{ClusterEvent, PodInfo, Profile, Rejection};
use crate::queue::{Attempt, BACKOFF, Queue};
use crate::report;

/// Bindings and reports that may be under way at once: enough to hide the API server's latency, few enough to stay cheap.
const IN_FLIGHT: usize = 256;
/// How long bindings under way may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the scheduler ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("watch pods and nodes")]
    Informers(#[from] client::InformerStopped),
    #[error(transparent)]
    Lost(#[from] client::leader::Lost),
    #[error("configuration of the scheduler")]
    Config(#[from] crate::config::ConfigError),
}

/// Schedules pods until shutdown.
pub async fn run(config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    let profiles = Arc::new(config.profiles(&client)?);
    let backoff = config.backoff.unwrap_or(BACKOFF);
    let Some(election) = config.leader_election else {
        return schedule(profiles, backoff, client, &process, process.shutdown.clone()).await;
    };
    // A candidate that waits is as ready as it can be.
    process.ready.set();
    let work = |stop| schedule(profiles, backoff, client.clone(), &process, stop);
    election.run(client.clone(), process.shutdown.clone(), work).await?.unwrap_or(Ok(()))
}

async fn schedule(
    profiles: Arc<HashMap<String, Profile>>,
    backoff: (Duration, Duration),
    client: kube::Client,
    process: &daemon::Process,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let informers = Informers::new(client.clone());
    let recorder = Recorder::new(client.clone(), "default-scheduler");
    let shared = Shared::new(profiles, client, recorder.clone(), Metrics::new(&process.metrics), backoff);
    let pods: Informer<Pod> = informers.with_fields("status.phase!=Succeeded,status.phase!=Failed");
    let nodes: Informer<Node> = informers.of();
    shared.listen(&pods, &nodes);
    let watches = CancellationToken::new();
    let driver = informers.run(watches.clone());
    let recording = recorder.run(watches.clone());
    let decisions = async {
        informers.synced().await;
        process.ready.set();
        info!(nodes = nodes.count(), pods = pods.count(), "scheduling");
        shared.decide_all(&shutdown).await;
        watches.cancel();
    };
    let (ended, (), ()) = tokio::join!(driver, recording, decisions);
    Ok(ended?)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

struct Metrics {
    attempts: Family<ResultLabel, Counter>,
    decision: Histogram,
    latency: Histogram,
    pending: Family<QueueLabel, Gauge>,
}

impl Metrics {
    fn new(metrics: &daemon::Metrics) -> Self {
        let buckets = || exponential_buckets(0.000_05, 2.0, 18);
        let new = Self {
            attempts: Family::default(),
            decision: Histogram::new(buckets()),
            latency: Histogram::new(buckets()),
            pending: Family::default(),
        };
        metrics.register(|registry| {
            registry.register("scheduler_schedule_attempts", "Attempts by result", new.attempts.clone());
            registry.register(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Time of decisions",
                new.decision.clone(),
            );
            registry.register(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "Time from the queue to the binding",
                new.latency.clone(),
            );
            registry.register("scheduler_pending_pods", "Waiting pods by queue", new.pending.clone());
        });
        new
    }

    fn count(&self, result: &'static str) {
        self.attempts.get_or_create(&ResultLabel { result }).inc();
    }

    fn depth(&self, depth: [usize; 4]) {
        for (queue, count) in ["active", "backoff", "unschedulable", "gated"].into_iter().zip(depth) {
            self.pending.get_or_create(&QueueLabel { queue }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// What handlers, decisions and bindings share.
struct Shared {
    profiles: Arc<HashMap<String, Profile>>,
    cache: Arc<Mutex<Cache>>,
    queue: Queue,
    waiting: WaitingPods,
    client: kube::Client,
    recorder: Recorder,
    metrics: Metrics,
}

impl Shared {
    fn new(
        profiles: Arc<HashMap<String, Profile>>,
        client: kube::Client,
        recorder: Recorder,
        metrics: Metrics,
        backoff: (Duration, Duration),
    ) -> Arc<Self> {
        let sort = profiles
            .values()
            .find_map(|profile| profile.queue_sort.clone())
            .expect("the configuration gives every profile a queue sort");
        let queue = Queue::new(Arc::clone(&profiles), sort, backoff);
        Arc::new(Self {
            profiles,
            cache: Arc::default(),
            queue,
            waiting: WaitingPods::default(),
            client,
            recorder,
            metrics,
        })
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, pods: &Informer<Pod>, nodes: &Informer<Node>) {
        let shared = Arc::clone(self);
        nodes.on_event(move |event| shared.node_changed(event));
        let shared = Arc::clone(self);
        pods.on_event(move |event| shared.pod_changed(event));
    }

    fn node_changed(&self, event: &Event<Node>) {
        match event {
            Event::Applied { old, new } => {
                self.cache().set_node(new);
                self.queue.happened(&match old {
                    Some(old) => ClusterEvent::NodeUpdated { old: Arc::clone(old), new: Arc::clone(new) },
                    None => ClusterEvent::NodeAdded(Arc::clone(new)),
                });
            }
            Event::Deleted(node) => self.cache().remove_node(node.metadata.name.as_deref().unwrap_or("")),
        }
    }

    fn pod_changed(&self, event: &Event<Pod>) {
        match event {
            Event::Applied { old, new } => match node_of(new) {
                Some(node) => self.assigned(old.as_ref(), new, node),
                None if self.is_ours(new) => self.unassigned(old.as_ref(), new),
                None => {}
            },
            Event::Deleted(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or("");
                self.waiting.reject(uid, Rejection::unschedulable("the pod was deleted"));
                self.queue.remove(uid);
                self.cache().remove_pod(uid);
                if node_of(pod).is_some() {
                    self.queue.happened(&ClusterEvent::AssignedPodDeleted(Arc::clone(pod)));
                }
            }
        }
    }

    fn assigned(&self, old: Option<&Arc<Pod>>, new: &Arc<Pod>, node: &str) {
        self.queue.remove(new.metadata.uid.as_deref().unwrap_or(""));
        self.cache().set_pod(Arc::new(PodInfo::new(Arc::clone(new))), node);
        match old.filter(|old| node_of(old).is_some()) {
            None => self.queue.happened(&ClusterEvent::AssignedPodAdded(Arc::clone(new))),
            // Status changes all the time and frees nothing.
            Some(old) if old.spec == new.spec && old.metadata.labels == new.metadata.labels => {}
            Some(old) => {
                self.queue.happened(&ClusterEvent::AssignedPodUpdated { old: Arc::clone(old), new: Arc::clone(new) })
            }
        }
    }

    fn unassigned(&self, old: Option<&Arc<Pod>>, new: &Arc<Pod>) {
        if new.metadata.deletion_timestamp.is_some() {
            return self.queue.remove(new.metadata.uid.as_deref().unwrap_or(""));
        }
        let pod = Arc::new(PodInfo::new(Arc::clone(new)));
        let gated = match old {
            // Our own report of a failure comes back as an update: it must not wake the pod.
            Some(old) if old.spec == new.spec && old.metadata.labels == new.metadata.labels => return,
            Some(old) => {
                self.queue.update(pod, &ClusterEvent::PodUpdated { old: Arc::clone(old), new: Arc::clone(new) })
            }
            None => self.queue.add(pod),
        };
        if gated.is_some() {
            debug!(pod = new.metadata.name, "held back by scheduling gates");
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.is_some_and(|name| self.profiles.contains_key(name))
    }

    /// Takes pods and decides, until shutdown; then lets bindings end.
    async fn decide_all(self: &Arc<Self>, shutdown: &CancellationToken) {
        let mut scheduler = Scheduler::new(Arc::clone(&self.cache), rand::random());
        let mut bindings = JoinSet::new();
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        loop {
            let attempt = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = bindings.join_next() => continue,
                attempt = self.queue.take() => attempt,
            };
            let Some(attempt) = attempt else { break };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            self.metrics.depth(self.queue.depth());
            if let Some(work) = self.decide(&mut scheduler, attempt) {
                bindings.spawn(async move {
                    work.await;
                    drop(place);
                });
            }
            // Decisions are pure computation: give others on this thread their turn.
            tokio::task::yield_now().await;
        }
        self.queue.close();
        let drained = async { while bindings.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            warn!("bindings under way were dropped; their pods will be scheduled again");
        }
    }

    /// One decision cycle. What remains to be done over the API is returned as a future.
    fn decide(
        self: &Arc<Self>,
        scheduler: &mut Scheduler,
        attempt: Attempt,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let name = attempt.pod.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("");
        let profile = self.profiles.get(name)?;
        let started = Instant::now();
        let decision = scheduler.decide(profile, &attempt.pod);
        self.metrics.decision.observe(started.elapsed().as_secs_f64());
        let (shared, scheduler_name) = (Arc::clone(self), name.to_owned());
        let outcome = match decision {
            Decision::Rejected(diagnosis) => {
                let message = diagnosis.to_string();
                self.queue.reject(&attempt, diagnosis.plugins);
                Err(message)
            }
            Decision::Chosen(node) => {
                self.cache().assume(Arc::clone(&attempt.pod), &node);
                let granted = binding::reserve(profile, &attempt.pod, &node).and_then(|()| {
                    binding::permit(profile, &attempt.pod, &node)
                        .inspect_err(|_| binding::unreserve(profile, &attempt.pod, &node))
                });
                match granted {
                    Ok(hold) => Ok((node, hold)),
                    Err(failure) => Err(self.undo(&attempt, failure)),
                }
            }
        };
        Some(async move {
            match outcome {
                Err(message) => shared.report_failure(&attempt, &message).await,
                Ok((node, hold)) => shared.bind(&scheduler_name, &attempt, &node, hold).await,
            }
        })
    }

    async fn bind(&self, scheduler_name: &str, attempt: &Attempt, node: &str, hold: Option<(&'static str, Duration)>) {
        let Some(profile) = self.profiles.get(scheduler_name) else { return };
        match binding::bind(profile, &attempt.pod, node, hold, &self.waiting).await {
            Ok(()) => {
                self.metrics.count("scheduled");
                self.metrics.latency.observe(attempt.queued_at.elapsed().as_secs_f64());
                debug!(pod = %attempt.pod.key, node, attempts = attempt.number, "bound");
                let key = &attempt.pod.key;
                self.recorder.normal(
                    about(&*attempt.pod.pod),
                    "Scheduled",
                    format!("Successfully assigned {key} to {node}"),
                );
            }
            Err(failure) => {
                binding::unreserve(profile, &attempt.pod, node);
                let message = self.undo(attempt, failure);
                self.report_failure(attempt, &message).await;
            }
        }
    }

    /// Takes a pod off the node that it was given, queues it again and says why.
    fn undo(&self, attempt: &Attempt, failure: Failure) -> String {
        self.cache().forget(&attempt.pod.uid);
        match failure {
            Failure::Rejected(plugin, no) => {
                self.queue.reject(attempt, std::iter::once(plugin).collect());
                no.reasons.join(", ")
            }
            Failure::Broken(broken) => {
                warn!(pod = %attempt.pod.key, error = &broken as &dyn std::error::Error, "not bound");
                self.queue.retry(attempt);
                broken.to_string()
            }
        }
    }

    async fn report_failure(&self, attempt: &Attempt, message: &str) {
        self.metrics.count("unschedulable");
        self.recorder.warning(about(&*attempt.pod.pod), "FailedScheduling", message);
        report::not_scheduled(&self.client, &attempt.pod, "Unschedulable", message).await;
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}
