//! The pod's phase, from its container statuses (upstream: getPhase of pkg/kubelet).
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodStatus};

use super::Facts;
use super::containers::{SCHEME, is_condemned};
use crate::pod;

#[derive(Default)]
struct Count {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
    /// Of those that stopped: how many are started again, by their own policy and rules or the pod's.
    restarting: usize,
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub(super) fn of(facts: &Facts<'_>, status: &PodStatus) -> &'static str {
    let (pending_init, failed_init) = init(facts, status);
    if failed_init {
        return "Failed";
    }
    let count = app(facts, status.container_statuses.as_deref().unwrap_or_default());
    if facts.ended {
        return if count.stopped > 0 && count.stopped == count.succeeded && count.waiting == 0 {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    if pending_init || count.waiting > 0 {
        return "Pending";
    }
    if count.running > 0 {
        return "Running";
    }
    match count {
        Count { stopped: 0, .. } => "Pending",
        Count { restarting: 1.., .. } => "Running",
        Count { stopped, succeeded, .. } if stopped == succeeded => "Succeeded",
        _ => "Failed",
    }
}

/// Whether init containers are still to run, and whether one failed for good.
fn init(facts: &Facts<'_>, status: &PodStatus) -> (bool, bool) {
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let initialized = has_initialized(status);
    let mut pending = false;
    for (container, status) in pod::init_containers(facts.pod).iter().zip(statuses) {
        if pod::is_sidecar(container) {
            pending |= status.started != Some(true) && !initialized;
            continue;
        }
        match status.state.as_ref().and_then(|state| state.terminated.as_ref()) {
            Some(ended) if ended.exit_code == 0 => {}
            Some(ended) => {
                if !pod::may_restart(facts.pod, pod::Role::Init, container, ended.exit_code) {
                    return (true, true);
                }
                pending = true;
            }
            None => pending = true,
        }
    }
    (pending, false)
}

/// Whether an app container has been started in this life of the pod.
fn has_initialized(status: &PodStatus) -> bool {
    status.container_statuses.iter().flatten().any(|status| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) || last_ended(status)
    })
}

fn last_ended(status: &ContainerStatus) -> bool {
    last_end(status).is_some()
}

fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.last_state.as_ref().and_then(|last| last.terminated.as_ref())
}

/// The runtime's id of a container that ended.
fn id(end: &ContainerStateTerminated) -> Option<&str> {
    end.container_id.as_deref()?.strip_prefix(SCHEME)
}

fn app(facts: &Facts<'_>, statuses: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    let restarts = |status: &ContainerStatus, end: &ContainerStateTerminated| {
        pod::container(facts.pod, &status.name).is_some_and(|(role, container)| {
            pod::may_restart(facts.pod, role, &container, end.exit_code)
                || id(end).is_some_and(|id| is_condemned(facts, &container, id))
        })
    };
    for status in statuses {
        let state = status.state.as_ref();
        if state.is_some_and(|state| state.running.is_some()) {
            count.running += 1;
        } else if let Some(end) = state.and_then(|state| state.terminated.as_ref()) {
            count.stopped += 1;
            count.succeeded += usize::from(end.exit_code == 0);
            count.restarting += usize::from(restarts(status, end));
        } else if let Some(end) = last_end(status) {
            count.stopped += 1;
            count.restarting += usize::from(restarts(status, end));
        } else {
            count.waiting += 1;
        }
    }
    count
}
