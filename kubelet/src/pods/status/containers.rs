//! Container statuses (upstream: convertToAPIContainerStatuses of pkg/kubelet).
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    PodStatus, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use runtime::ContainerState as RuntimeState;

use super::{Facts, Waiting};
use crate::pod::{self, Role};
use crate::pods::observed;
use crate::pods::resize::plan::given;

/// Bytes of termination messages that a pod's status holds: each container has an equal part of them, as upstream.
const MESSAGES: usize = 12 * 1024;

/// Scheme of a `containerID`.
pub(crate) const SCHEME: &str = "coracle://";

/// Fills in the statuses of all containers, each list in the order of the spec.
pub(super) fn fill(facts: &Facts<'_>, status: &mut PodStatus) {
    let mut init = Vec::new();
    let mut app = Vec::new();
    let mut ephemeral = Vec::new();
    for (role, container) in pod::containers(facts.pod) {
        let one = one(facts, role, &container);
        match role {
            Role::Init | Role::Sidecar => init.push(one),
            Role::App => app.push(one),
            Role::Ephemeral => ephemeral.push(one),
        }
    }
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status.container_statuses = Some(app);
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
}

fn one(facts: &Facts<'_>, role: Role, container: &Container) -> ContainerStatus {
    // A record made by the start in flight would show a container whose postStart hook still runs.
    let starting = facts.starting.contains(&container.name);
    let mut records = facts
        .seen
        .containers
        .iter()
        .filter(|record| record.name == container.name && (!starting || observed::exit(record).is_some()));
    let latest = records.next();
    let Some(latest) = latest else { return without_record(facts, role, container) };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: latest.image.clone(),
        image_id: latest.image_ref.clone(),
        container_id: Some(format!("{SCHEME}{}", latest.id)),
        restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
        state: Some(state(facts, latest)),
        last_state: Some(records.next().map(|record| state(facts, record)).unwrap_or_default()),
        volume_mounts: mounts(container),
        ..ContainerStatus::default()
    };
    if role != Role::Ephemeral {
        sizes(container, latest, &mut status);
    }
    explain_wait(facts, container, latest, &mut status);
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    let health = facts.health.get(&latest.id).copied().unwrap_or_default();
    let started = running && (container.startup_probe.is_none() || health.started == Some(true));
    status.started = Some(started);
    status.ready = match role {
        Role::Init => status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|end| end.exit_code == 0),
        Role::Ephemeral => false,
        _ => started && (container.readiness_probe.is_none() || health.ready == Some(true)),
    };
    status
}

/// A container that the runtime does not know: not started yet, or its record is lost.
fn without_record(facts: &Facts<'_>, role: Role, container: &Container) -> ContainerStatus {
    let old = old_status(facts, &container.name);
    let had_run = old.filter(|old| old.container_id.is_some());
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting_state(facts, role, &container.name)),
        last_state: Some(ContainerState::default()),
        started: Some(false),
        volume_mounts: mounts(container),
        ..ContainerStatus::default()
    };
    let Some(old) = had_run else { return status };
    status.image_id.clone_from(&old.image_id);
    status.container_id.clone_from(&old.container_id);
    status.restart_count = old.restart_count;
    if let Some(ended) = old.state.as_ref().and_then(|state| state.terminated.clone()) {
        status.state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
        status.last_state.clone_from(&old.last_state);
        status.ready = old.ready && role == Role::Init;
    } else if old.state.as_ref().is_some_and(|state| state.running.is_some()) {
        let lost = lost(facts, old);
        if facts.ended || pod::is_deleting(facts.pod) {
            status.state = Some(lost);
        } else {
            status.last_state = Some(lost);
        }
    } else {
        status.last_state.clone_from(&old.last_state);
    }
    status
}

fn lost(facts: &Facts<'_>, old: &ContainerStatus) -> ContainerState {
    let running = old.state.as_ref().and_then(|state| state.running.as_ref());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: old.container_id.clone(),
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            started_at: running.and_then(|running| running.started_at.clone()),
            finished_at: Some(Time(facts.now)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn old_status<'a>(facts: &'a Facts<'_>, name: &str) -> Option<&'a ContainerStatus> {
    let old = pod::status(facts.pod);
    let lists = [&old.container_statuses, &old.init_container_statuses, &old.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

fn waiting_state(facts: &Facts<'_>, role: Role, name: &str) -> ContainerState {
    let default = if role == Role::App && !pod::init_containers(facts.pod).is_empty() {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let default = if matches!(role, Role::Init | Role::Sidecar) { "PodInitializing" } else { default };
    let waiting = facts.waiting.get(name);
    ContainerState { waiting: Some(as_state(waiting, default)), ..ContainerState::default() }
}

fn as_state(waiting: Option<&Waiting>, default: &str) -> ContainerStateWaiting {
    ContainerStateWaiting {
        reason: Some(waiting.map_or(default, |waiting| waiting.reason.as_str()).to_owned()),
        message: waiting.map(|waiting| waiting.message.clone()).filter(|message| !message.is_empty()),
    }
}

/// A container that ended and is not started again yet shows why, and its end moves to `lastState`. One that was stopped
/// to be started again never shows as ended: the API lets no container come back that ended well under `OnFailure`.
fn explain_wait(
    facts: &Facts<'_>,
    container: &Container,
    latest: &runtime::ContainerStatus,
    status: &mut ContainerStatus,
) {
    let waiting = facts.waiting.get(&container.name);
    let is_expected = waiting.is_some() || is_condemned(facts, container, &latest.id);
    if !is_expected || observed::is_running(latest) || facts.ended || facts.verdict.is_some() {
        return;
    }
    let waiting = as_state(waiting, "ContainerCreating");
    let waiting = ContainerState { waiting: Some(waiting), ..ContainerState::default() };
    let ended = status.state.replace(waiting);
    if ended.as_ref().is_some_and(|state| state.terminated.is_some()) {
        status.last_state = ended;
    }
}

/// Whether the container was stopped to be started again.
pub(super) fn is_condemned(facts: &Facts<'_>, container: &Container, id: &str) -> bool {
    facts.condemned.contains(id) && pod::container_restart_policy(facts.pod, container) != "Never"
}

fn state(facts: &Facts<'_>, record: &runtime::ContainerStatus) -> ContainerState {
    let mut state = ContainerState::default();
    match &record.state {
        RuntimeState::Created => {
            state.waiting = Some(as_state(facts.waiting.get(&record.name), "ContainerCreating"));
        }
        RuntimeState::Running { started_at, .. } => {
            state.running = Some(ContainerStateRunning { started_at: Some(Time(observed::timestamp(*started_at))) });
        }
        RuntimeState::Exited(exit) => {
            let message = facts.messages.get(&record.id).unwrap_or(&exit.message);
            let message = head(message, MESSAGES / pod::containers(facts.pod).len().max(1));
            let started = exit.started_at.unwrap_or(record.created_at);
            state.terminated = Some(ContainerStateTerminated {
                container_id: Some(format!("{SCHEME}{}", record.id)),
                exit_code: exit.code,
                signal: None,
                reason: Some(exit.reason.clone()),
                message: (!message.is_empty()).then(|| message.to_owned()),
                started_at: Some(Time(observed::timestamp(started))),
                finished_at: Some(Time(observed::timestamp(exit.finished_at))),
            });
        }
    }
    state
}

/// The beginning of a text, of at most so many bytes.
fn head(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Shows the requests that are promised to the container, and the requests and limits that it has.
fn sizes(container: &Container, latest: &runtime::ContainerStatus, status: &mut ContainerStatus) {
    let promised = container.resources.clone().unwrap_or_default();
    let given = given(latest).filter(|_| observed::is_running(latest)).unwrap_or_else(|| promised.clone());
    status.allocated_resources = promised.requests;
    status.resources = Some(ResourceRequirements { claims: None, ..given });
}

/// The same for the pod as a whole (KEP-5419), where it has sizes of its own.
pub(super) fn fill_pod_sizes(facts: &Facts<'_>, status: &mut PodStatus) {
    let Some(promised) = &pod::spec(facts.pod).resources else { return };
    status.allocated_resources.clone_from(&promised.requests);
    let old = &pod::status(facts.pod).resources;
    let given = if facts.resize.in_progress.is_some() && old.is_some() { old.as_ref() } else { Some(promised) };
    status.resources = given.map(|given| ResourceRequirements { claims: None, ..given.clone() });
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let status = mounts.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: (mount.read_only == Some(true)).then(|| match mount.recursive_read_only.as_deref() {
            // `IfPossible` resolves to what this runtime does, which supports it everywhere it runs.
            Some("Enabled" | "IfPossible") => "Enabled".to_owned(),
            _ => "Disabled".to_owned(),
        }),
        volume_status: None,
    });
    Some(status.collect())
}
