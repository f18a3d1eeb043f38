//! Decides what brings a pod's containers to its spec. Pure: no clock, no client, no I/O (upstream: computePodActions
//! of pkg/kubelet/kuberuntime).
//!
//! ```text
//! no live sandbox --> kill leftovers, create a sandbox --> init containers in order (sidecars stay)
//!                                                       --> app and ephemeral containers --> restarts
//! ```
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{ContainerState, ContainerStatus};

use crate::containers::labels::{HASH_LABEL, container_hash};
use crate::pod::{self, Role};
use crate::pods::observed::{self, Seen};
use crate::pods::resize::plan;

/// What probes say of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The startup probe's verdict; `None` before there is one.
    pub(crate) started: Option<bool>,
    /// The liveness probe's verdict.
    pub(crate) live: Option<bool>,
    /// The readiness probe's verdict.
    pub(crate) ready: Option<bool>,
}

/// Everything the decision depends on.
pub(crate) struct View<'a> {
    /// The desired state.
    pub(crate) pod: &'a Pod,
    /// The actual state.
    pub(crate) seen: &'a Seen,
    /// By container id.
    pub(crate) health: &'a BTreeMap<String, Health>,
    /// Names of containers that are being started or stopped now; they are left alone.
    pub(crate) busy: &'a BTreeSet<String>,
    /// Ids of containers that were stopped to be started again, whatever they exited with.
    pub(crate) condemned: &'a BTreeSet<String>,
}

/// A container to stop, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    /// The runtime's id.
    pub(crate) id: String,
    /// Its name in the pod.
    pub(crate) name: String,
    /// For the `Killing` event.
    pub(crate) message: String,
    /// How long it may take.
    pub(crate) grace: Duration,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Nothing is left to run: stop the sandbox, the pod is over.
    pub(crate) finished: bool,
    /// Make a sandbox with this attempt number, once the leftovers in `kill` are gone.
    pub(crate) create_sandbox: Option<u32>,
    /// Names of the containers to start, in order.
    pub(crate) start: Vec<String>,
    /// Containers to stop.
    pub(crate) kill: Vec<Kill>,
}

/// Compares the pod with what runs.
pub(crate) fn compute_actions(view: &View<'_>) -> Actions {
    match view.seen.live_sandbox() {
        Some(sandbox) => in_sandbox(view, &sandbox.id),
        None => without_sandbox(view),
    }
}

fn without_sandbox(view: &View<'_>) -> Actions {
    let mut actions = Actions::default();
    for container in view.seen.running() {
        let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
        actions.kill.push(kill(container, message, Duration::ZERO));
    }
    let attempt = view.seen.sandboxes.first().map_or(0, |sandbox| sandbox.config.attempt + 1);
    let ran_before = attempt > 0 && !view.seen.containers.is_empty();
    let anything_to_run = pod::spec(view.pod).containers.iter().any(|container| wants_to_run(view, container));
    if (ran_before && !any_restart_allowed(view.pod)) || !anything_to_run {
        actions.finished = true;
        return actions;
    }
    actions.create_sandbox = Some(attempt);
    actions
}

/// A pod of policy `Never` does not get a second sandbox unless a container's own policy allows restarts.
fn any_restart_allowed(pod: &Pod) -> bool {
    pod::restart_policy(pod) != "Never"
        || pod::spec(pod).containers.iter().any(|container| {
            container.restart_policy.as_deref().is_some_and(|policy| policy != "Never")
                || container.restart_policy_rules.as_ref().is_some_and(|rules| !rules.is_empty())
        })
}

fn in_sandbox(view: &View<'_>, sandbox: &str) -> Actions {
    let mut actions = Actions::default();
    start_ephemeral(view, sandbox, &mut actions);
    match init(view, sandbox, &mut actions) {
        Init::Waiting => return actions,
        Init::Failed => {
            actions.finished = view.busy.is_empty();
            return actions;
        }
        Init::Done => {}
    }
    let mut kept = 0;
    for container in &pod::spec(view.pod).containers {
        kept += usize::from(app(view, container, &mut actions));
    }
    let starting = actions.start.iter().any(|name| is_app(view.pod, name));
    if kept == 0 && !starting {
        actions.start.clear();
        actions.finished = true;
    }
    actions
}

fn is_app(pod: &Pod, name: &str) -> bool {
    pod::spec(pod).containers.iter().any(|container| container.name == name)
}

fn start_ephemeral(view: &View<'_>, sandbox: &str, actions: &mut Actions) {
    for container in pod::ephemeral_containers(view.pod) {
        if view.seen.latest_in(sandbox, &container.name).is_none() && !view.busy.contains(&container.name) {
            actions.start.push(container.name);
        }
    }
}

enum Init {
    Waiting,
    Failed,
    Done,
}

/// Walks the init containers in order, up to the first that app containers must wait for.
fn init(view: &View<'_>, sandbox: &str, actions: &mut Actions) -> Init {
    let initialized =
        pod::spec(view.pod).containers.iter().any(|container| view.seen.latest_in(sandbox, &container.name).is_some());
    for container in pod::init_containers(view.pod) {
        let step = if pod::is_sidecar(container) {
            sidecar(view, sandbox, container, actions)
        } else if initialized {
            Init::Done
        } else {
            one_init(view, sandbox, container, actions)
        };
        match step {
            Init::Done => {}
            Init::Waiting if initialized => {}
            other => return other,
        }
    }
    Init::Done
}

fn one_init(view: &View<'_>, sandbox: &str, container: &Container, actions: &mut Actions) -> Init {
    if view.busy.contains(&container.name) {
        return Init::Waiting;
    }
    let Some(latest) = view.seen.latest_in(sandbox, &container.name) else {
        actions.start.push(container.name.clone());
        return Init::Waiting;
    };
    match &latest.state {
        ContainerState::Running { .. } => Init::Waiting,
        ContainerState::Exited(exit) if exit.code == 0 => Init::Done,
        ContainerState::Exited(exit) if !pod::may_restart(view.pod, Role::Init, container, exit.code) => Init::Failed,
        _ => {
            actions.start.push(container.name.clone());
            Init::Waiting
        }
    }
}

fn sidecar(view: &View<'_>, sandbox: &str, container: &Container, actions: &mut Actions) -> Init {
    if view.busy.contains(&container.name) {
        return Init::Waiting;
    }
    let Some(latest) = view.seen.latest_in(sandbox, &container.name).filter(|latest| observed::is_running(latest))
    else {
        actions.start.push(container.name.clone());
        return Init::Waiting;
    };
    if let Some(reason) = condemned(view, container, latest) {
        actions.kill.push(reason);
        return Init::Waiting;
    }
    if has_started(view, container, latest) { Init::Done } else { Init::Waiting }
}

/// Whether the container passed its startup probe, or has none.
pub(crate) fn has_started(view: &View<'_>, container: &Container, latest: &ContainerStatus) -> bool {
    container.startup_probe.is_none() || view.health.get(&latest.id).and_then(|health| health.started) == Some(true)
}

/// Decides about one app container; says whether it stays.
fn app(view: &View<'_>, container: &Container, actions: &mut Actions) -> bool {
    if view.busy.contains(&container.name) {
        return true;
    }
    match view.seen.latest(&container.name) {
        Some(latest) if observed::is_running(latest) => match condemned(view, container, latest) {
            Some(kill) => {
                actions.kill.push(kill);
                true
            }
            None => true,
        },
        _ if wants_to_run(view, container) => {
            actions.start.push(container.name.clone());
            false
        }
        _ => false,
    }
}

/// Whether a container that does not run should.
fn wants_to_run(view: &View<'_>, container: &Container) -> bool {
    let Some(latest) = view.seen.latest(&container.name) else { return true };
    let ContainerState::Exited(exit) = &latest.state else { return true };
    pod::may_restart(view.pod, Role::App, container, exit.code)
        || (view.condemned.contains(&latest.id) && pod::container_restart_policy(view.pod, container) != "Never")
}

/// Why a running container must be stopped: its definition or a size changed that it gets at its start, or a probe failed.
fn condemned(view: &View<'_>, container: &Container, latest: &ContainerStatus) -> Option<Kill> {
    let health = view.health.get(&latest.id).copied().unwrap_or_default();
    let (message, grace) = if latest.labels.get(HASH_LABEL).is_some_and(|hash| *hash != container_hash(container)) {
        let message = format!("Container {} definition changed, will be restarted", container.name);
        (message, pod::grace(view.pod))
    } else if health.live == Some(false) {
        let message = format!("Container {} failed liveness probe, will be restarted", container.name);
        (message, pod::probe_grace(view.pod, container.liveness_probe.as_ref()))
    } else if health.started == Some(false) {
        let message = format!("Container {} failed startup probe, will be restarted", container.name);
        (message, pod::probe_grace(view.pod, container.startup_probe.as_ref()))
    } else if plan::given(latest).is_some_and(|given| plan::must_restart(container, &given)) {
        (format!("Container {} resize requires restart", container.name), pod::grace(view.pod))
    } else {
        return None;
    };
    Some(kill(latest, message, grace))
}

fn kill(container: &ContainerStatus, message: String, grace: Duration) -> Kill {
    Kill { id: container.id.clone(), name: container.name.clone(), message, grace }
}

/// Containers of an ending pod to stop now: everything but sidecars first, then sidecars from the last to the first.
pub(crate) fn stop_next<'a>(pod: &Pod, seen: &'a Seen) -> Vec<&'a ContainerStatus> {
    let is_sidecar = |name: &str| pod::init_containers(pod).iter().any(|c| c.name == name && pod::is_sidecar(c));
    let main: Vec<_> = seen.running().filter(|container| !is_sidecar(&container.name)).collect();
    if !main.is_empty() {
        return main;
    }
    pod::init_containers(pod)
        .iter()
        .rev()
        .find_map(|container| seen.running().find(|running| running.name == container.name))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests;
