//! The pod's running life: containers are started, probed, restarted with pauses, and forgotten (upstream: SyncPod of
//! pkg/kubelet and of pkg/kubelet/kuberuntime).
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runtime::ContainerState;
use tracing::debug;

use super::stage::{Cause, Stage};
use super::{Desired, Done, RETRY, VOLUMES, Worker};
use crate::backoff::{Backoff, go_duration};
use crate::containers::launch::{self, Launch};
use crate::containers::log_files;
use crate::failure::{Failure, chain};
use crate::handlers::probes::Target;
use crate::pod;
use crate::pods::actions::{Kill, View, compute_actions};
use crate::pods::observed;
use crate::pods::status::Waiting;
use crate::volumes::{self, Synced};

/// Pause between looks at a volume that is on its way; most of the wait is in the look itself.
const WAITING: Duration = Duration::from_millis(500);
/// How long a failed pull shows as such before it shows as waiting.
const SHOW_PULL_FAILURE: Duration = Duration::from_secs(2);

impl Worker {
    /// Does what the pod's stage asks for.
    pub(super) async fn advance(&mut self, desired: &Desired) {
        if matches!(self.stage, Stage::Syncing(_)) && self.should_stop(desired) {
            self.begin_stop(Cause::Told);
        }
        if matches!(self.stage, Stage::Syncing(_)) {
            self.sync().await;
        }
        match self.stage {
            Stage::Syncing(_) => {}
            Stage::Stopping(stopping) => self.stop_step(desired, stopping),
            Stage::Stopped(cleanup) => self.clean_up(desired, cleanup),
        }
    }

    async fn sync(&mut self) {
        let health = self.probes.health();
        let busy = self.flight.containers();
        let view = View { pod: &self.pod, seen: &self.seen, health: &health, busy: &busy, condemned: &self.condemned };
        let actions = compute_actions(&view);
        if actions.finished && self.flight.is_empty() {
            return self.begin_stop(Cause::Finished);
        }
        for kill in &actions.kill {
            self.kill(kill);
        }
        if let Some(deadline) = pod::deadline(&self.pod) {
            self.wake_by(deadline);
        }
        self.sync_sizes();
        self.sync_volumes();
        self.sync_sandbox(&actions);
        for name in &actions.start {
            self.start(name);
        }
        self.sync_probes();
        self.collect_garbage().await;
    }

    fn kill(&mut self, kill: &Kill) {
        let message = kill.message.clone();
        self.context.container_event(&self.pod, &kill.name, "Normal", "Killing", message);
        self.flight.stopping.insert(kill.name.clone(), kill.grace);
        self.condemned.insert(kill.id.clone());
        self.stop_container(&kill.name, &kill.id, kill.grace);
    }

    pub(super) fn stop_container(&mut self, name: &str, id: &str, grace: Duration) {
        let ip = self.pod_ips().first().copied();
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let (name, id) = (name.to_owned(), id.to_owned());
        self.tasks.spawn(async move {
            let container = pod::container(&pod, &name).map(|(_, container)| container);
            let result = launch::stop(&context, &pod, container.as_ref(), &id, ip, grace).await;
            Done::Stopped { name, id, result }
        });
    }

    pub(super) fn stop_done(&mut self, name: &str, id: &str, result: Result<(), runtime::Error>) {
        self.flight.stopping.remove(name);
        if let Err(err) = result {
            let message = format!("error killing container {id}: {}", chain(&err));
            self.context.container_event(&self.pod, name, "Warning", "FailedKillPod", message);
            self.retry_later(name, RETRY);
        }
    }

    /// Brings the volumes up to date; when nothing changed this costs a comparison.
    fn sync_volumes(&mut self) {
        if let Some(at) = self.mounted.as_ref().and_then(|mounted| mounted.renew_at) {
            self.wake_by(at);
        }
        if !self.mounting.is_due() || self.must_wait(VOLUMES) {
            return;
        }
        self.mounting.begin();
        let (volumes, references) = (Arc::clone(&self.volumes), Arc::clone(&self.references));
        let (pod, ips) = (Arc::clone(&self.pod), self.pod_ips());
        self.tasks.spawn(async move { Done::Volumes(volumes.sync(&pod, &references, &ips).await) });
    }

    pub(super) fn volumes_done(&mut self, result: Result<Synced, volumes::Error>) {
        match result {
            Ok(synced) => {
                self.mounted = Some(synced);
                self.mounting.end();
            }
            Err(err) => {
                if !err.is_waiting() {
                    self.context.event(&self.pod, "Warning", "FailedMount", err.to_string());
                }
                // What was due before is done by the next pass, which is due by itself.
                if let Some(mounted) = &mut self.mounted {
                    mounted.renew_at = None;
                }
                self.mounting.end_early();
                self.retry_later(VOLUMES, if err.is_waiting() { WAITING } else { RETRY });
            }
        }
    }

    /// Starts a container once its volumes and back-offs allow.
    fn start(&mut self, name: &str) {
        let Some((_, container)) = pod::container(&self.pod, name) else { return };
        let Some(sandbox) = self.seen.live_sandbox().cloned() else { return };
        let Stage::Syncing(syncing) = &self.stage else { return };
        let Some(places) = self.mounted.as_ref().map(|mounted| Arc::clone(&mounted.places)) else { return };
        let cancel = syncing.starts();
        let now = client::clock::now();
        if self.in_crash_backoff(name, now) || self.must_wait(name) {
            return;
        }
        let blocked = self.pull_blocks(now);
        if let Some(failed_at) = self.ended_at(name) {
            self.crashes(name).next(failed_at, now);
        }
        let launch = Launch {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            container,
            sandbox,
            attempt: self.next_attempt(name),
            places,
            references: Arc::clone(&self.references),
            blocked,
            cancel,
        };
        self.flight.starting.insert(name.to_owned());
        let name = name.to_owned();
        self.tasks.spawn(async move {
            let result = launch.run().await;
            Done::Started { name, result }
        });
    }

    /// The restart count of the next container: one more than any known before.
    fn next_attempt(&self, name: &str) -> u32 {
        if let Some(latest) = self.seen.latest(name) {
            return latest.attempt + 1;
        }
        let status = pod::status(&self.pod);
        let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
        let known =
            lists.into_iter().flatten().flatten().find(|known| known.name == name && known.container_id.is_some());
        known.map_or(0, |known| u32::try_from(known.restart_count + 1).unwrap_or(0))
    }

    fn in_crash_backoff(&mut self, name: &str, now: Timestamp) -> bool {
        let Some(failed_at) = self.ended_at(name) else { return false };
        let Some(wait) = self.crashes(name).wait(failed_at, now) else { return false };
        let delay = go_duration(wait.delay);
        let pod = pod::describe(&self.pod);
        let waiting = Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: format!("back-off {delay} restarting failed container={name} pod={pod}"),
        };
        if self.waiting.insert(name.to_owned(), waiting.clone()) != Some(waiting) {
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            self.context.container_event(&self.pod, name, "Warning", "BackOff", message);
        }
        self.wake_by(wait.until);
        true
    }

    fn crashes(&mut self, name: &str) -> &mut Backoff {
        let longest = self.context.tuning.restart_backoff;
        self.crashes.entry(name.to_owned()).or_insert_with(|| Backoff::up_to(longest))
    }

    fn ended_at(&self, name: &str) -> Option<Timestamp> {
        let latest = self.seen.latest(name)?;
        match &latest.state {
            ContainerState::Exited(exit) => Timestamp::try_from(exit.finished_at).ok(),
            ContainerState::Created => Timestamp::try_from(latest.created_at).ok(),
            ContainerState::Running { .. } => None,
        }
    }

    /// The words of the last failed pulls, of those whose next one has to wait.
    fn pull_blocks(&mut self, now: Timestamp) -> BTreeMap<String, String> {
        let mut blocks = BTreeMap::new();
        let mut until = None;
        for (image, pull) in &self.pulls {
            let Some(wait) = pull.failed_at.and_then(|at| pull.backoff.wait(at, now)) else { continue };
            blocks.insert(image.clone(), pull.message.clone());
            until = Some(until.map_or(wait.until, |known: Timestamp| known.min(wait.until)));
        }
        if let Some(until) = until {
            self.wake_by(until);
        }
        blocks
    }

    pub(super) fn start_done(&mut self, name: String, result: Result<String, Failure>) {
        self.flight.starting.remove(&name);
        let now = client::clock::now();
        let failure = match result {
            Ok(id) => {
                debug!(container = %name, %id, "started");
                self.waiting.remove(&name);
                let images = pod::container(&self.pod, &name).map(|(_, one)| pod::images_of(&self.pod, &one));
                for image in images.into_iter().flatten() {
                    self.pulls.remove(&image);
                }
                return;
            }
            Err(failure) => failure,
        };
        let mut pause = RETRY;
        let image = failure.image.unwrap_or_default();
        match failure.reason {
            "ErrImagePull" => {
                let pull = self.pulls.entry(image).or_default();
                pull.backoff.next(now, now);
                pull.failed_at = Some(now);
                pull.message.clone_from(&failure.message);
                pause = SHOW_PULL_FAILURE;
            }
            "ImagePullBackOff" => {
                let wait = self.pulls.get(&image).and_then(|pull| pull.backoff.wait(pull.failed_at?, now));
                let left = wait.and_then(|wait| Duration::try_from(wait.until.duration_since(now)).ok());
                pause = left.unwrap_or(SHOW_PULL_FAILURE);
            }
            "RunContainerError" | "PostStartHookError" => pause = Duration::from_secs(1),
            _ => {}
        }
        self.retry_later(&name, pause);
        let waiting = Waiting { reason: failure.reason.to_owned(), message: failure.message };
        self.waiting.insert(name, waiting);
    }

    fn sync_probes(&mut self) {
        let containers = pod::containers(&self.pod);
        let mut targets = Vec::new();
        for (role, container) in &containers {
            if !matches!(role, pod::Role::App | pod::Role::Sidecar) || self.flight.starting.contains(&container.name) {
                continue;
            }
            let Some(latest) = self.seen.latest(&container.name) else { continue };
            if let ContainerState::Running { started_at, .. } = latest.state {
                let started_at = observed::timestamp(started_at);
                targets.push(Target { container, id: &latest.id, started_at });
            }
        }
        let ip = self.pod_ips().first().copied();
        self.probes.sync(&self.pod, ip, &targets);
    }

    /// Removes records and logs of ended containers, but for the newest two of each name, and records of sandboxes that were replaced.
    async fn collect_garbage(&mut self) {
        let mut stale = Vec::new();
        for (_, container) in pod::containers(&self.pod) {
            let records = self.seen.containers.iter().filter(|record| record.name == container.name);
            let old = records.skip(2).filter(|record| observed::exit(record).is_some());
            stale.extend(old.map(|record| (record.id.clone(), record.log_path.clone())));
        }
        for (id, log) in stale {
            if let Err(err) = self.context.runtime.remove_container(&id).await {
                debug!(%id, error = &err as &dyn std::error::Error, "cannot remove an old container");
                continue;
            }
            // A container that is started again and again would fill the disk with logs that nobody can ask for.
            if let Err(err) = log_files::remove(&log).await {
                debug!(%id, error = &err as &dyn std::error::Error, "cannot remove the log of an old container");
            }
            self.seen.containers.retain(|record| record.id != id);
            self.condemned.remove(&id);
        }
        self.remove_old_sandboxes().await;
    }

    async fn remove_old_sandboxes(&mut self) {
        if self.flight.sandbox || self.seen.live_sandbox().is_none() {
            return;
        }
        let holds_records = |id: &str| self.seen.containers.iter().any(|record| record.sandbox == id);
        let old = self.seen.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready && !holds_records(&sandbox.id));
        for id in old.map(|sandbox| sandbox.id.clone()).collect::<Vec<_>>() {
            if let Err(err) = self.context.runtime.remove_sandbox(&id).await {
                debug!(%id, error = &err as &dyn std::error::Error, "cannot remove an old sandbox");
            } else {
                self.seen.sandboxes.retain(|sandbox| sandbox.id != id);
            }
        }
    }
}
