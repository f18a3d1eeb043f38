//! The pod's phase, from its container statuses.
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::Facts;
use crate::pod;

#[derive(Default)]
struct Count {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub(super) fn of(facts: &Facts<'_>, status: &PodStatus) -> &'static str {
    let (pending_init, failed_init) = init(facts, status);
    if failed_init {
        return "Failed";
    }
    let count = app(status.container_statuses.as_deref().unwrap_or_default());
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
    match pod::restart_policy(facts.pod) {
        _ if count.stopped == 0 => "Pending",
        "Always" => "Running",
        _ if count.stopped == count.succeeded => "Succeeded",
        "Never" => "Failed",
        _ => "Running",
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
    status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
}

fn app(statuses: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    for status in statuses {
        let state = status.state.as_ref();
        if state.is_some_and(|state| state.running.is_some()) {
            count.running += 1;
        } else if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
            count.stopped += 1;
            count.succeeded += usize::from(ended.exit_code == 0);
        } else if last_ended(status) {
            count.stopped += 1;
        } else {
            count.waiting += 1;
        }
    }
    count
}
