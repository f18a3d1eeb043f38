//! The pod's running life: sandbox, volumes, containers, probes.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runtime::{ContainerState, SandboxConfig};
use tracing::debug;

use super::{Desired, Done, SANDBOX, Stage, VOLUMES, Worker, stop_one};
use crate::backoff::go_duration;
use crate::containers::labels::labels;
use crate::containers::launch::Launch;
use crate::containers::log_files;
use crate::failure::{Failure, chain};
use crate::files::blocking;
use crate::handlers::probes::Target;
use crate::pods::actions::{Actions, Kill, View, compute_actions};
use crate::pods::observed;
use crate::pods::status::Waiting;
use crate::sandbox::{pod_dns, runtime_class, sysctls};
use crate::{pod, resources};

/// How long after a failure the same thing is tried again; pulls and crashes have back-offs of their own.
const RETRY: Duration = Duration::from_secs(5);
/// How long a failed pull shows as such before it shows as waiting.
const SHOW_PULL_FAILURE: Duration = Duration::from_secs(2);

impl Worker {
    /// Does what the pod's stage asks for.
    pub(super) async fn advance(&mut self, desired: &Desired) {
        if self.stage == Stage::Syncing && self.should_stop(desired) {
            self.begin_stop();
        }
        match self.stage {
            Stage::Syncing => self.sync(desired).await,
            Stage::Stopping => self.stop_step(desired),
            Stage::Stopped => self.clean_up(desired),
        }
    }

    async fn sync(&mut self, desired: &Desired) {
        let health = self.probes.health();
        let busy = self.starting.iter().chain(self.stopping.keys()).cloned().collect();
        let view = View { pod: &self.pod, seen: &self.seen, health: &health, busy: &busy, condemned: &self.condemned };
        let actions = compute_actions(&view);
        if actions.finished && self.starting.is_empty() && self.stopping.is_empty() && !self.sandbox_busy {
            self.ended = true;
            self.begin_stop();
            return self.stop_step(desired);
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
        self.stopping.insert(kill.name.clone(), kill.grace);
        self.condemned.insert(kill.id.clone());
        self.stop_container(&kill.name, &kill.id, kill.grace);
    }

    pub(super) fn stop_container(&mut self, name: &str, id: &str, grace: Duration) {
        let ip = self.pod_ips().first().copied();
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        self.tasks.spawn(stop_one(context, pod, name.to_owned(), id.to_owned(), ip, grace));
    }

    pub(super) fn stop_done(&mut self, name: &str, id: &str, result: Result<(), runtime::Error>) {
        self.stopping.remove(name);
        if let Err(err) = result {
            let message = format!("error killing container {id}: {}", chain(&err));
            self.context.container_event(&self.pod, name, "Warning", "FailedKillPod", message);
            self.retry_later(name, RETRY);
        }
    }

    /// Brings the volumes up to date; when nothing changed this costs a comparison.
    fn sync_volumes(&mut self) {
        if let Some(at) = self.renew_at {
            self.wake_by(at);
        }
        if self.volumes_busy || self.must_wait(VOLUMES) || !std::mem::take(&mut self.volumes_stale) {
            return;
        }
        self.volumes_busy = true;
        let (volumes, references) = (Arc::clone(&self.volumes), Arc::clone(&self.references));
        let (pod, ips) = (Arc::clone(&self.pod), self.pod_ips());
        self.tasks.spawn(async move { Done::Volumes(volumes.sync(&pod, &references, &ips).await) });
    }

    pub(super) fn volumes_done(&mut self, result: Result<crate::volumes::Synced, crate::volumes::Error>) {
        self.volumes_busy = false;
        match result {
            Ok(synced) => {
                self.places = Some(synced.places);
                self.renew_at = synced.renew_at;
                self.volumes_fresh = true;
            }
            Err(err) => {
                self.context.event(&self.pod, "Warning", "FailedMount", err.to_string());
                self.volumes_stale = true;
                self.retry_later(VOLUMES, RETRY);
            }
        }
    }

    fn sync_sandbox(&mut self, actions: &Actions) {
        let Some(attempt) = actions.create_sandbox else { return };
        let leftovers = !self.stopping.is_empty() || !self.starting.is_empty();
        if self.sandbox_busy || leftovers || self.must_wait(SANDBOX) {
            return;
        }
        let host_network = pod::is_host_network(&self.pod);
        if !host_network && !*self.context.network.borrow() {
            let message = "network is not ready: the node has no pod CIDR yet".to_owned();
            self.context.event(&self.pod, "Warning", "NetworkNotReady", message);
            self.retry_later(SANDBOX, Duration::from_secs(1));
            return;
        }
        self.sandbox_busy = true;
        let mut config = self.sandbox_config(attempt);
        let own_users = pod::spec(&self.pod).host_users == Some(false);
        let user_ids = Arc::clone(&self.context.user_ids);
        let old: Vec<String> = self.seen.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        let runtime = Arc::clone(&self.context.runtime);
        let (client, pod) = (self.context.client.clone(), Arc::clone(&self.pod));
        self.tasks.spawn(async move {
            if let Err(failure) = runtime_class::check(client, &pod).await {
                return Done::Sandbox(Err(failure));
            }
            for id in old {
                if let Err(err) = runtime.stop_sandbox(&id).await {
                    return Done::Sandbox(Err(Failure::new("FailedKillPod", chain(&err))));
                }
            }
            if own_users {
                let uid = config.uid.clone();
                match blocking(move || user_ids.allocate(&uid)).await {
                    Ok(map) => config.namespaces.users = Some(map),
                    Err(err) => return Done::Sandbox(Err(Failure::new("FailedCreatePodSandBox", chain(&err)))),
                }
            }
            let made = runtime.run_sandbox(&config).await;
            Done::Sandbox(made.map_err(|err| Failure::new("FailedCreatePodSandBox", chain(&err))))
        });
    }

    pub(super) fn sandbox_done(&mut self, result: Result<runtime::SandboxStatus, Failure>) {
        self.sandbox_busy = false;
        if let Err(failure) = result {
            let message = format!("Failed to create pod sandbox: {}", failure.message);
            self.context.event(&self.pod, "Warning", failure.reason, message);
            self.retry_later(SANDBOX, RETRY);
        } else if !self.seen.sandboxes.is_empty() {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.context.event(&self.pod, "Normal", "SandboxChanged", message);
        }
    }

    fn sandbox_config(&self, attempt: u32) -> SandboxConfig {
        let spec = pod::spec(&self.pod);
        let (hostname, _) = pod_dns::hostname(&self.pod, &self.context.dns.domain, &self.context.node_name);
        let wanted_sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.clone());
        let annotations = self.pod.metadata.annotations.clone().unwrap_or_default();
        SandboxConfig {
            name: pod::name(&self.pod).to_owned(),
            namespace: pod::namespace(&self.pod).to_owned(),
            uid: pod::uid(&self.pod).to_owned(),
            attempt,
            hostname,
            log_directory: self.context.pod_log_dir(&self.pod),
            dns: pod_dns::resolv_conf(&self.pod, &self.context.dns),
            port_mappings: port_mappings(&self.pod),
            labels: labels(&self.pod),
            annotations,
            namespaces: runtime::NamespaceOptions {
                host_network: spec.host_network.unwrap_or(false),
                host_pid: spec.host_pid.unwrap_or(false),
                host_ipc: spec.host_ipc.unwrap_or(false),
                shared_pid: spec.share_process_namespace.unwrap_or(false),
                users: None,
            },
            sysctls: wanted_sysctls
                .into_iter()
                .flatten()
                .map(|one| (sysctls::with_dots(&one.name), one.value))
                .collect(),
            cgroup_parent: resources::cgroup_parent(&self.pod),
            resources: resources::pod_resources(&self.pod, self.context.pids_limit),
            node_limits: runtime::Resources { pids_limit: self.context.node_pids_limit, ..Default::default() },
        }
    }

    /// Starts a container once its volumes and back-offs allow.
    fn start(&mut self, name: &str) {
        let Some((role, container)) = pod::container(&self.pod, name) else { return };
        let Some(sandbox) = self.seen.live_sandbox().cloned() else { return };
        let Some(places) = self.places.clone().filter(|_| self.volumes_fresh) else { return };
        let now = client::clock::now();
        if self.in_crash_backoff(name, now) || self.must_wait(name) {
            return;
        }
        let blocked = self.pull_blocks(now);
        if let Some(failed_at) = self.ended_at(name) {
            self.crashes.entry(name.to_owned()).or_default().next(failed_at, now);
        }
        let launch = Launch {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            role,
            container,
            sandbox,
            attempt: self.next_attempt(name),
            places,
            references: Arc::clone(&self.references),
            blocked,
            cancel: self.cancel.clone(),
        };
        self.starting.insert(name.to_owned());
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
        let backoff = self.crashes.entry(name.to_owned()).or_default();
        let Some(wait) = backoff.wait(failed_at, now) else {
            return false;
        };
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
        self.starting.remove(&name);
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
            if !matches!(role, pod::Role::App | pod::Role::Sidecar) || self.starting.contains(&container.name) {
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
        if self.sandbox_busy || self.seen.live_sandbox().is_none() {
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

fn port_mappings(pod: &k8s_openapi::api::core::v1::Pod) -> Vec<runtime::PortMapping> {
    if pod::is_host_network(pod) {
        return Vec::new();
    }
    let containers = pod::containers(pod);
    let ports = containers.iter().flat_map(|(_, container)| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(runtime::PortMapping {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                container_port: u16::try_from(port.container_port).ok()?,
                host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}
