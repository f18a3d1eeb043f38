//! One actor per pod. It alone starts and stops what belongs to its pod, and writes its status (upstream: podWorkers of
//! pkg/kubelet).
//!
//! ```text
//!            desired pod, runtime events, probe verdicts, changed ConfigMaps
//!                                   | (level-triggered: "look again")
//!   Syncing --deleted, over, failed, out of time--> Stopping --nothing runs--> Stopped --final DELETE--> gone
//! ```
//! Long work (pulls, hooks, stops, writes) runs in tasks of its own, so that the actor always hears of a deletion.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use runtime::SandboxStatus;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::failure::Failure;
use crate::handlers::probes::Probes;
use crate::pod;
use crate::pods::observed::Seen;
use crate::pods::resize::Allocation;
use crate::pods::status::{Verdict, Waiting};
use crate::references::References;
use crate::volumes::{self, Synced, Volumes};
use pass::Pass;
use stage::{Stage, Syncing};

mod end;
mod messages;
mod pass;
mod publish;
mod resize;
mod sandbox;
mod stage;
mod sync;

/// What a pod's worker is told.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    /// The newest version of the pod.
    pub(crate) pod: Arc<Pod>,
    /// The API's copy of a static pod, which its status goes to.
    pub(crate) mirror: Option<Arc<Pod>>,
    /// The pod is no longer wanted here: stop it and forget it, there is nobody to tell.
    pub(crate) gone: bool,
    /// The node refuses the pod.
    pub(crate) rejected: Option<Verdict>,
    /// The sizes that the pod may have.
    pub(crate) allocation: Arc<Allocation>,
    /// The pod ends with this kubelet, within so long at most; the next one starts it again.
    pub(crate) ending: Option<Duration>,
}

/// What others may know of a pod without disturbing its worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The pod's sandboxes and containers.
    pub(crate) seen: Seen,
    /// Its status.
    pub(crate) status: PodStatus,
    /// Nothing of it runs, nor will again.
    pub(crate) ended: bool,
    /// Nor is anything of it being taken down, unless that has failed.
    pub(crate) at_rest: bool,
}

/// How a task of the worker ended.
#[expect(clippy::large_enum_variant, reason = "each is moved once, to its worker")]
enum Done {
    Sandbox(Result<SandboxStatus, Failure>),
    Volumes(Result<Synced, volumes::Error>),
    Started { name: String, result: Result<String, Failure> },
    Stopped { name: String, id: String, result: Result<(), runtime::Error> },
    Cleaned(Result<(), Failure>),
    Resized(Result<(), String>),
    Published { status: PodStatus, result: kube::Result<Pod> },
    Deleted(kube::Result<()>),
}

/// What is under way for the pod's sandbox and containers.
#[derive(Default)]
struct Flight {
    /// A sandbox is being made.
    sandbox: bool,
    starting: BTreeSet<String>,
    /// Containers that are being stopped, and the grace they were given.
    stopping: BTreeMap<String, Duration>,
}

impl Flight {
    fn is_empty(&self) -> bool {
        !self.sandbox && self.starting.is_empty() && self.stopping.is_empty()
    }

    /// The containers that are being started or stopped.
    fn containers(&self) -> BTreeSet<String> {
        self.starting.iter().chain(self.stopping.keys()).cloned().collect()
    }
}

/// The actor.
pub(crate) struct Worker {
    context: Arc<Context>,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    report: watch::Sender<Report>,
    /// The pod with the newest status that the API is known to have, and the sizes that are allocated to it.
    pod: Arc<Pod>,
    mirror: Option<Arc<Pod>>,
    stage: Stage,
    seen: Seen,
    tasks: JoinSet<Done>,
    flight: Flight,
    waiting: BTreeMap<String, Waiting>,
    messages: BTreeMap<String, String>,
    crashes: BTreeMap<String, Backoff>,
    pulls: BTreeMap<String, PullFailure>,
    retry_at: BTreeMap<String, Timestamp>,
    probes: Probes,
    volumes: Arc<Volumes>,
    /// What the volumes show may have changed.
    mounting: Pass,
    /// What the last pass over them left that succeeded in this life of the kubelet.
    mounted: Option<Synced>,
    references: Arc<References>,
    allocation: Arc<Allocation>,
    resize: resize::Resize,
    /// Containers that were stopped to be started again.
    condemned: BTreeSet<String>,
    verdict: Option<Verdict>,
    /// The pod was interrupted by the end of its node, and is not over.
    leaving: bool,
    publisher: publish::Publisher,
    wake_at: Option<Timestamp>,
}

/// The last failure to pull an image for this pod.
#[derive(Default)]
struct PullFailure {
    backoff: Backoff,
    failed_at: Option<Timestamp>,
    message: String,
}

/// How long after a failure the same thing is tried again; pulls and crashes have back-offs of their own.
const RETRY: Duration = Duration::from_secs(5);
/// Key of `retry_at` for the sandbox; container names have no slash.
const SANDBOX: &str = "/sandbox";
/// Key of `retry_at` for the volumes.
const VOLUMES: &str = "/volumes";
/// Key of `retry_at` for cleaning up.
const CLEANUP: &str = "/cleanup";

impl Worker {
    /// A worker for the pod that `desired` holds.
    pub(crate) fn new(
        context: Arc<Context>,
        desired: watch::Receiver<Desired>,
        wake: Arc<Notify>,
        report: watch::Sender<Report>,
    ) -> Self {
        let first = desired.borrow().clone();
        let references = context.objects.view(pod::namespace(&first.pod), Arc::clone(&wake));
        Self {
            probes: Probes::new(Arc::clone(&context), Arc::clone(&wake)),
            volumes: Arc::new(Volumes::new(Arc::clone(&context))),
            mounting: Pass::Due,
            mounted: None,
            references: Arc::new(references),
            context,
            desired,
            wake,
            report,
            pod: first.allocation.sizes.apply(&first.pod),
            allocation: first.allocation,
            resize: resize::Resize::default(),
            condemned: BTreeSet::new(),
            mirror: first.mirror,
            stage: Stage::Syncing(Syncing::default()),
            seen: Seen::default(),
            tasks: JoinSet::new(),
            flight: Flight::default(),
            waiting: BTreeMap::new(),
            messages: BTreeMap::new(),
            crashes: BTreeMap::new(),
            pulls: BTreeMap::new(),
            retry_at: BTreeMap::new(),
            verdict: first.rejected,
            leaving: false,
            publisher: publish::Publisher::default(),
            wake_at: None,
        }
    }

    /// Runs until the pod is gone, or until `shutdown`: containers stay as they are then.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        self.recover().await;
        loop {
            self.wake_at = None;
            if self.step().await {
                return;
            }
            let sleep = self.sleep();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = self.desired.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.mounting.ask();
                }
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.finish(done),
                    Err(err) => warn!(pod = pod::describe(&self.pod), error = &err as &dyn std::error::Error, "a task of a pod failed"),
                },
                () = self.wake.notified() => self.woken(),
                () = sleep => self.mounting.ask(),
            }
        }
    }

    /// Something that the pod refers to may have changed: what failed for want of it is tried at once.
    fn woken(&mut self) {
        self.mounting.ask();
        let waiting = &self.waiting;
        self.retry_at
            .retain(|what, _| waiting.get(what).is_none_or(|waiting| waiting.reason != "CreateContainerConfigError"));
        if self.mounted.is_none() {
            self.retry_at.remove(VOLUMES);
        }
    }

    fn sleep(&self) -> impl Future<Output = ()> + 'static {
        let until = self.wake_at.map(|at| at.duration_since(client::clock::now()));
        async move {
            match until {
                // A moment more, so that what was due is due when it is looked at again.
                Some(until) => {
                    let until = Duration::try_from(until).unwrap_or_default() + Duration::from_millis(5);
                    tokio::time::sleep(until).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn wake_by(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    /// One pass: look, decide, act, tell. Says whether the pod is gone for good.
    async fn step(&mut self) -> bool {
        let desired = self.desired.borrow_and_update().clone();
        self.accept(&desired);
        if let Err(err) = self.look().await {
            warn!(
                pod = pod::describe(&self.pod),
                error = &err as &dyn std::error::Error,
                "cannot list the pod's containers"
            );
            self.retry_later(SANDBOX, Duration::from_secs(1));
        } else {
            self.keep_allocation(&desired).await;
            self.advance(&desired).await;
        }
        self.tell(&desired);
        self.stage.is_gone() && desired.gone && self.tasks.is_empty()
    }

    /// Takes over a newer version of the pod.
    fn accept(&mut self, desired: &Desired) {
        if !publish::is_older(&desired.pod, &self.pod) {
            self.pod = self.allocation.sizes.apply(&desired.pod);
        }
        self.take_allocation(&desired.allocation);
        self.mirror.clone_from(&desired.mirror);
        if self.verdict.is_none() {
            self.verdict.clone_from(&desired.rejected);
        }
    }

    /// Lists the pod's sandboxes and containers.
    async fn look(&mut self) -> Result<(), runtime::Error> {
        let uid = pod::uid(&self.pod);
        let sandboxes = self.context.runtime.sandboxes_of(uid).await?;
        let mut containers = Vec::new();
        for sandbox in &sandboxes {
            containers.extend(self.context.runtime.containers(Some(&sandbox.id)).await?);
        }
        self.seen = Seen::new(sandboxes, containers);
        self.read_messages().await;
        Ok(())
    }

    /// Finds what ran before the kubelet started, with the readiness it had.
    async fn recover(&mut self) {
        if self.look().await.is_err() {
            return;
        }
        self.recover_sizes().await;
        let status = pod::status(&self.pod);
        let lists = [&status.container_statuses, &status.init_container_statuses];
        for known in lists.into_iter().flatten().flatten() {
            let id = known.container_id.as_deref().and_then(|id| id.strip_prefix(crate::pods::status::patch::SCHEME));
            let Some(id) = id.filter(|id| self.seen.by_id(id).is_some()) else { continue };
            let health = crate::pods::actions::Health {
                started: known.started.filter(|started| *started),
                live: None,
                ready: Some(known.ready),
            };
            self.probes.remember(id, health);
        }
    }

    fn retry_later(&mut self, what: &str, pause: Duration) {
        let now = client::clock::now();
        let at =
            jiff::SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok()).unwrap_or(now);
        self.retry_at.insert(what.to_owned(), at);
        self.wake_by(at);
    }

    /// Whether something failed so recently that it is not tried again yet.
    fn must_wait(&mut self, what: &str) -> bool {
        let Some(at) = self.retry_at.get(what).copied() else { return false };
        if client::clock::now() < at {
            self.wake_by(at);
            return true;
        }
        self.retry_at.remove(what);
        false
    }

    fn pod_ips(&self) -> Vec<IpAddr> {
        if pod::is_host_network(&self.pod) {
            return self.context.node_ips.clone();
        }
        self.seen.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Sandbox(result) => self.sandbox_done(result),
            Done::Volumes(result) => self.volumes_done(result),
            Done::Started { name, result } => self.start_done(name, result),
            Done::Stopped { name, id, result } => self.stop_done(&name, &id, result),
            Done::Cleaned(result) => self.clean_done(result),
            Done::Resized(result) => self.resize_done(result),
            Done::Published { status, result } => self.publish_done(status, result),
            Done::Deleted(result) => self.delete_done(result),
        }
    }
}
