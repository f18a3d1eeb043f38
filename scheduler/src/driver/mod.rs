//! Drives the cycles: informers fill queue and cache, decisions are taken one by one, bindings run beside them.

mod gang;
mod handlers;
mod metrics;
mod rehearsal;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::events::about;
use client::leader::Candidate;
use client::{Informers, Recorder};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::handlers::Watched;
use self::metrics::Metrics;
pub(crate) use self::rehearsal::Rehearsal;
use crate::binding::{self, Failure};
use crate::cache::Cache;
use crate::config::Config;
use crate::cycle::{Decision, Diagnosis, Scheduler};
use crate::framework::{ClusterEvent, PodInfo, PostFiltered, Preemption, Profile, Snapshot};
use crate::gangs;
use crate::preempt::Evictor;
use crate::profile::Handles;
use crate::queue::{Attempt, BACKOFF, Queue};
use crate::report::{self, Failed, GroupReport, Nomination};
use crate::waiting::{Held, WaitingPods};

/// Bindings and reports that may be under way at once: enough to hide the API server's latency, few enough to stay cheap,
/// besides those that wait for volumes.
const IN_FLIGHT: usize = 256 + crate::volumes::MAX_WAITING;
/// Decisions are pure computation: after so much of it, others on this thread get their turn. A turn costs more than one
/// decision, and bindings that begin together are sent together.
const TURN: Duration = Duration::from_micros(500);
/// How long telling all victims of one pod to go may take.
const EVICTING: Duration = Duration::from_secs(60);
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
    let candidate = config.leader_election.clone().map(|election| election.stand(client.clone()));
    let client = candidate.as_ref().map_or(client, Candidate::client);
    let handles = Handles::default();
    let profiles = Arc::new(config.profiles(&client, &handles)?);
    let backoff = config.backoff.unwrap_or(BACKOFF);
    let work = |stop| schedule(profiles, handles, backoff, client, &process, stop);
    let Some(candidate) = candidate else { return work(process.shutdown.clone()).await };
    // A candidate that waits is as ready as it can be.
    process.ready.set();
    candidate.run(process.shutdown.clone(), work).await?.unwrap_or(Ok(()))
}

async fn schedule(
    profiles: Arc<HashMap<String, Profile>>,
    handles: Handles,
    backoff: (Duration, Duration),
    client: kube::Client,
    process: &daemon::Process,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Some(with_groups) = shutdown.run_until_cancelled(gangs::are_served(&client)).await else { return Ok(()) };
    let informers = Informers::new(client.clone());
    let recorder = Recorder::new(client.clone(), "default-scheduler");
    let metrics = Metrics::new(&process.metrics);
    let shared = Shared::new(profiles, client, recorder.clone(), metrics, backoff, Arc::clone(&handles.waiting));
    let watched = shared.follow(&informers, handles, with_groups);
    let watches = CancellationToken::new();
    let driver = informers.run(watches.clone());
    let recording = recorder.run(watches.clone());
    let decisions = async {
        informers.synced().await;
        process.ready.set();
        info!(nodes = watched.nodes.count(), pods = watched.pods.count(), "scheduling");
        shared.decide_all(&shutdown).await;
        watches.cancel();
    };
    let (ended, (), ()) = tokio::join!(driver, recording, decisions);
    Ok(ended?)
}

/// What handlers, decisions and bindings share.
struct Shared {
    profiles: Arc<HashMap<String, Profile>>,
    cache: Arc<Mutex<Cache>>,
    queue: Queue,
    waiting: Arc<WaitingPods>,
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
        waiting: Arc<WaitingPods>,
    ) -> Arc<Self> {
        let sort = profiles
            .values()
            .find_map(|profile| profile.queue_sort.clone())
            .expect("the configuration gives every profile a queue sort");
        let queue = Queue::new(Arc::clone(&profiles), sort, backoff);
        Arc::new(Self { profiles, cache: Arc::default(), queue, waiting, client, recorder, metrics })
    }

    /// Follows the cluster from now on. First come those who know more of a pod than that it is there: who hears of a pod
    /// must find its volumes and its gang known.
    fn follow(self: &Arc<Self>, informers: &Informers, handles: Handles, with_groups: bool) -> Watched {
        let watched = Watched::new(informers);
        let told = Arc::clone(self);
        crate::volumes::listen(handles.volumes, informers, &watched.pods, move |event| told.queue.happened(event));
        let told = Arc::clone(self);
        gangs::listen(&handles.gangs, informers, &watched.pods, with_groups, move |group, uids| {
            uids.iter().for_each(|uid| told.queue.ask_again(uid));
            if let Some(key) = group {
                told.queue.happened(&ClusterEvent::PodGroupChanged(key));
            }
        });
        self.listen(&watched);
        watched
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes pods and decides, until shutdown; then lets bindings end.
    async fn decide_all(self: &Arc<Self>, shutdown: &CancellationToken) {
        let mut scheduler = Scheduler::new(Arc::clone(&self.cache), rand::random());
        let mut bindings = JoinSet::new();
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut turn = Instant::now();
        loop {
            let attempt = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = bindings.join_next() => continue,
                attempt = self.queue.take() => attempt,
            };
            let Some(attempt) = attempt else { break };
            let Ok(mut place) = Arc::clone(&places).acquire_owned().await else { break };
            self.metrics.depth(self.queue.depth());
            // A gang may be larger than what may be under way: it needs places when all is decided.
            let mut works = self.decide(&mut scheduler, attempt).into_iter();
            while let Some(work) = works.next() {
                bindings.spawn(async move {
                    work.await;
                    drop(place);
                });
                if works.len() == 0 {
                    break;
                }
                let Ok(next) = Arc::clone(&places).acquire_owned().await else { break };
                place = next;
            }
            if turn.elapsed() >= TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
        self.queue.close();
        let drained = async { while bindings.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            warn!("bindings under way were dropped; their pods will be scheduled again");
        }
    }

    /// What is decided, as futures of what remains to be done over the API.
    fn decide(
        self: &Arc<Self>,
        scheduler: &mut Scheduler,
        attempt: Attempt,
    ) -> Vec<impl Future<Output = ()> + Send + 'static> {
        let name = scheduler_of(&attempt).to_owned();
        let tasks = self.tasks(scheduler, attempt).into_iter();
        tasks.map(|task| Arc::clone(self).act(name.clone(), task)).collect()
    }

    /// One decision cycle, or one for each pod of a gang.
    fn tasks(&self, scheduler: &mut Scheduler, attempt: Attempt) -> Vec<Task> {
        let Some(profile) = self.profiles.get(scheduler_of(&attempt)) else { return Vec::new() };
        match profile.gang.as_ref().and_then(|gang| gang.mates(&attempt.pod)) {
            Some(mates) => self.decide_gang(scheduler, profile, attempt, &mates),
            None => {
                let next = self.judge(scheduler, profile, &attempt);
                vec![Task::Pod(attempt, next)]
            }
        }
    }

    async fn act(self: Arc<Self>, scheduler_name: String, task: Task) {
        match task {
            Task::Group(report) => report.write(&self.client).await,
            Task::Pod(attempt, Next::Report(failed)) => self.report_failure(&attempt, &failed).await,
            Task::Pod(attempt, Next::Bind(node, hold)) => self.bind(&scheduler_name, &attempt, &node, hold).await,
            Task::Pod(attempt, Next::MakeRoom(room)) => self.make_room(&attempt, room).await,
        }
    }

    fn judge(&self, scheduler: &mut Scheduler, profile: &Profile, attempt: &Attempt) -> Next {
        let started = Instant::now();
        let decision = scheduler.decide(profile, &attempt.pod);
        self.metrics.decision.observe(started.elapsed().as_secs_f64());
        match decision {
            Decision::Rejected(diagnosis) => self.rejected(attempt, diagnosis),
            Decision::Chosen(node) => self.chosen(profile, attempt, node, scheduler.snapshot()),
        }
    }

    fn chosen(&self, profile: &Profile, attempt: &Attempt, node: String, snapshot: &Snapshot) -> Next {
        let nominated = {
            let mut cache = self.cache();
            cache.assume(Arc::clone(&attempt.pod), &node);
            cache.end_nomination(&attempt.pod.uid)
        };
        // What was kept free for it is free for others.
        if nominated.is_some_and(|nominated| nominated != node) {
            self.queue.happened(&ClusterEvent::AssignedPodDeleted(Arc::clone(&attempt.pod.pod)));
        }
        let granted = binding::reserve(profile, &attempt.pod, &node).and_then(|()| {
            binding::permit(profile, &attempt.pod, &node, snapshot)
                .inspect_err(|_| binding::unreserve(profile, &attempt.pod, &node))
        });
        match granted {
            Ok(hold) => {
                let hold = hold.map(|(plugin, at_most)| self.waiting.hold(&attempt.pod.uid, plugin, at_most));
                Next::Bind(node, hold)
            }
            // Nobody has seen it there: nobody is woken by its leaving.
            Err(failure) => Next::Report(self.take_back(attempt, failure)),
        }
    }

    fn rejected(&self, attempt: &Attempt, diagnosis: Diagnosis) -> Next {
        let message = diagnosis.to_string();
        if let Some(outcome) = &diagnosis.after {
            self.metrics.preemption(outcome);
        }
        let failed = |nomination| Failed { reason: "Unschedulable", message, nomination };
        let failed = match diagnosis.after {
            Some(PostFiltered::Preempt(plan)) => {
                let lesser = {
                    let mut cache = self.cache();
                    cache.nominate(Arc::clone(&attempt.pod), &plan.node);
                    cache.nominated_below(&plan.node, attempt.pod.priority)
                };
                let failed = failed(Nomination::Is(plan.node.clone()));
                return Next::MakeRoom(Room { failed, plan, lesser, plugins: diagnosis.plugins });
            }
            Some(PostFiltered::Wait(_)) => failed(Nomination::Keep),
            Some(PostFiltered::Hopeless(_)) | None => failed(Nomination::End),
        };
        self.queue.reject(attempt, diagnosis.plugins);
        if failed.nomination == Nomination::End {
            self.end_nomination(&attempt.pod);
        }
        Next::Report(failed)
    }

    /// What was kept free for the pod is free for others.
    fn end_nomination(&self, pod: &PodInfo) {
        let ended = self.cache().end_nomination(&pod.uid);
        if ended.is_some() {
            self.queue.happened_to(&ClusterEvent::AssignedPodDeleted(Arc::clone(&pod.pod)), &pod.uid);
        }
    }

    /// The preemptor is queued again when its victims have been told to go.
    async fn make_room(&self, attempt: &Attempt, room: Room) {
        let evictor = Evictor { client: &self.client, recorder: &self.recorder, waiting: &self.waiting };
        let making = tokio::time::timeout(EVICTING, evictor.make_room(&attempt.pod, &room.plan, &room.lesser));
        let ((), made) = tokio::join!(self.report_failure(attempt, &room.failed), making);
        match made {
            Ok(Ok(())) => self.queue.reject(attempt, room.plugins),
            Ok(Err(err)) => {
                warn!(pod = %attempt.pod.key, error = &err as &dyn std::error::Error, "victims not evicted");
                self.queue.retry(attempt);
            }
            Err(_elapsed) => {
                warn!(pod = %attempt.pod.key, "victims not evicted within {EVICTING:?}");
                self.queue.retry(attempt);
            }
        }
    }

    async fn bind(&self, scheduler_name: &str, attempt: &Attempt, node: &str, hold: Option<Held>) {
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
                let failed = self.undo(attempt, failure);
                self.report_failure(attempt, &failed).await;
            }
        }
    }

    /// Takes a pod off the node that others saw it on.
    fn undo(&self, attempt: &Attempt, failure: Failure) -> Failed {
        let failed = self.take_back(attempt, failure);
        // Its place is free again for those who came after it.
        self.queue.happened_to(&ClusterEvent::AssignedPodDeleted(Arc::clone(&attempt.pod.pod)), &attempt.pod.uid);
        failed
    }

    /// Takes a pod off the node that it was given, queues it again and says why.
    fn take_back(&self, attempt: &Attempt, failure: Failure) -> Failed {
        self.cache().forget(&attempt.pod.uid);
        let (reason, message) = match failure {
            Failure::Rejected(plugin, no) => {
                self.queue.reject(attempt, std::iter::once(plugin).collect());
                ("Unschedulable", no.reasons.join(", "))
            }
            Failure::Broken(broken) => {
                warn!(pod = %attempt.pod.key, error = &broken as &dyn std::error::Error, "not bound");
                self.queue.retry(attempt);
                ("SchedulerError", broken.to_string())
            }
        };
        Failed { reason, message, nomination: Nomination::End }
    }

    async fn report_failure(&self, attempt: &Attempt, failed: &Failed) {
        self.metrics.count(if failed.reason == "Unschedulable" { "unschedulable" } else { "error" });
        self.recorder.warning(about(&*attempt.pod.pod), "FailedScheduling", failed.note());
        report::not_scheduled(&self.client, &attempt.pod, failed).await;
    }
}

fn scheduler_of(attempt: &Attempt) -> &str {
    attempt.pod.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or_default()
}

/// What is to be done over the API.
enum Task {
    Pod(Attempt, Next),
    Group(GroupReport),
}

/// What is to be done after a decision.
enum Next {
    Report(Failed),
    /// The node, and whether Permit holds the pod there.
    Bind(String, Option<Held>),
    MakeRoom(Room),
}

/// A preemption to be done.
struct Room {
    failed: Failed,
    plan: Preemption,
    /// Less important pods that are nominated for the node.
    lesser: Vec<Arc<PodInfo>>,
    /// The plugins that refused the preemptor.
    plugins: BTreeSet<&'static str>,
}
