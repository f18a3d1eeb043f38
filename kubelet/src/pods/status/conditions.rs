//! Pod conditions (upstream: pkg/kubelet/status/generate.go).
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Facts;
use crate::pod;

/// The conditions that only the kubelet writes.
pub(crate) const OWNED: [&str; 8] = [
    "PodScheduled",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    DISRUPTION,
    RESIZE_PENDING,
    RESIZE_IN_PROGRESS,
];
/// The node does not promise what the spec asks for.
const RESIZE_PENDING: &str = "PodResizePending";
/// What the node promised is not done yet.
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
/// Others write it, too; the kubelet does for the pods that it evicts.
const DISRUPTION: &str = "DisruptionTarget";

struct Truth {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Truth {
    fn yes() -> Self {
        Self { holds: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { holds: false, reason: Some(reason), message }
    }
}

/// The kubelet's conditions, then those of others as they are.
pub(super) fn of(facts: &Facts<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let containers_ready = containers_ready(facts, status);
    let ready = ready(facts, &containers_ready);
    let mut conditions = vec![
        condition(facts, "PodReadyToStartContainers", ready_to_start(facts)),
        condition(facts, "Initialized", initialized(facts, status)),
        condition(facts, "Ready", ready),
        condition(facts, "ContainersReady", containers_ready),
        condition(facts, "PodScheduled", Truth::yes()),
    ];
    let eviction = facts.verdict.filter(|verdict| verdict.is_eviction());
    if let Some(verdict) = eviction {
        let truth = Truth { holds: true, reason: Some("TerminationByKubelet"), message: Some(verdict.message.clone()) };
        conditions.push(condition(facts, DISRUPTION, truth));
    }
    conditions.extend(resize(facts));
    let is_ours = |kind: &str| OWNED.contains(&kind) && (kind != DISRUPTION || eviction.is_some());
    let others = pod::status(facts.pod).conditions.iter().flatten();
    conditions.extend(others.filter(|other| !is_ours(&other.type_)).cloned());
    conditions
}

/// Of a resize that waits or goes on.
fn resize(facts: &Facts<'_>) -> impl Iterator<Item = PodCondition> {
    let told = |reason, message: &str| Truth { holds: true, reason, message: Some(message.to_owned()) };
    let pending = facts
        .resize
        .pending
        .map(|pending| condition(facts, RESIZE_PENDING, told(Some(pending.reason.name()), &pending.message)));
    let in_progress = facts.resize.in_progress.map(|generation| {
        let truth = facts.resize.error.map_or_else(Truth::yes, |error| told(Some("Error"), error));
        PodCondition { observed_generation: generation, ..condition(facts, RESIZE_IN_PROGRESS, truth) }
    });
    pending.into_iter().chain(in_progress)
}

fn condition(facts: &Facts<'_>, kind: &str, truth: Truth) -> PodCondition {
    let status = if truth.holds { "True" } else { "False" };
    let old = facts::pods::condition(facts.pod, kind);
    let unchanged = old.filter(|old| old.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: truth.reason.map(str::to_owned),
        message: truth.message,
        last_probe_time: None,
        last_transition_time: unchanged.and_then(|old| old.last_transition_time.clone()).or(Some(Time(facts.now))),
        observed_generation: facts.pod.metadata.generation,
    }
}

fn ready_to_start(facts: &Facts<'_>) -> Truth {
    let ready =
        facts.seen.live_sandbox().is_some_and(|sandbox| pod::is_host_network(facts.pod) || !sandbox.ips.is_empty());
    Truth { holds: ready, reason: None, message: None }
}

fn initialized(facts: &Facts<'_>, status: &PodStatus) -> Truth {
    if status.phase.as_deref() == Some("Succeeded") {
        return Truth { holds: true, reason: Some("PodCompleted"), message: None };
    }
    let any_app_started = status.container_statuses.iter().flatten().any(|status| status.container_id.is_some());
    let incomplete: Vec<&str> = pod::init_containers(facts.pod)
        .iter()
        .zip(status.init_container_statuses.iter().flatten())
        .filter(
            |(container, status)| {
                if pod::is_sidecar(container) { status.started != Some(true) } else { !status.ready }
            },
        )
        .map(|(_, status)| status.name.as_str())
        .collect();
    if incomplete.is_empty() || any_app_started {
        return Truth::yes();
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Truth::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(facts: &Facts<'_>, status: &PodStatus) -> Truth {
    match status.phase.as_deref() {
        Some("Succeeded") => return Truth::no("PodCompleted", None),
        Some("Failed") => return Truth::no("PodFailed", None),
        _ => {}
    }
    let sidecars = pod::init_containers(facts.pod)
        .iter()
        .zip(status.init_container_statuses.iter().flatten())
        .filter(|(container, _)| pod::is_sidecar(container))
        .map(|(_, status)| status);
    let apps = status.container_statuses.iter().flatten();
    let unready = |status: &&ContainerStatus| !status.ready;
    let unready: Vec<&str> = sidecars.chain(apps).filter(unready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return Truth::yes();
    }
    Truth::no("ContainersNotReady", Some(format!("containers with unready status: [{}]", unready.join(" "))))
}

fn ready(facts: &Facts<'_>, containers: &Truth) -> Truth {
    if !containers.holds {
        return Truth { holds: false, reason: containers.reason, message: containers.message.clone() };
    }
    let conditions = pod::status(facts.pod).conditions.as_deref().unwrap_or_default();
    let complaints: Vec<String> = pod::spec(facts.pod)
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *kind) {
                None => Some(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if complaints.is_empty() {
        return Truth::yes();
    }
    Truth::no("ReadinessGatesNotReady", Some(complaints.join(", ")))
}
