//! Makes a pod's status from what the runtime and the probes say. Pure; [`patch`] holds what goes to the API (upstream:
//! generateAPIPodStatus of pkg/kubelet).
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod;
use crate::pods::actions::Health;
use crate::pods::observed::Seen;
use crate::pods::resize::Pending;

mod conditions;
mod containers;
pub(crate) mod patch;
mod phase;

/// Why a container is not running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Such as `CrashLoopBackOff`.
    pub(crate) reason: String,
    /// Details for people.
    pub(crate) message: String,
}

/// A verdict of the kubelet on the pod as a whole, stronger than what its containers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Such as `DeadlineExceeded` or `OutOfcpu`.
    pub(crate) reason: String,
    /// Details for people.
    pub(crate) message: String,
    /// How long the pod has to end, where it is taken off the node.
    pub(crate) grace: Option<Duration>,
}

impl Verdict {
    /// The reason of a pod that has to leave the node, or may not come.
    pub(crate) const EVICTED: &str = "Evicted";

    /// A pod is over, as it is.
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), grace: None }
    }

    /// A pod is taken off the node, and has `grace` to end.
    pub(crate) fn evicted(message: String, grace: Duration) -> Self {
        Self { reason: Self::EVICTED.to_owned(), message, grace: Some(grace) }
    }

    /// Whether the kubelet takes the pod off the node.
    pub(crate) fn is_eviction(&self) -> bool {
        self.grace.is_some()
    }
}

/// How far a resize of the pod has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resize<'a> {
    /// The node does not promise what the spec asks for.
    pub(crate) pending: Option<&'a Pending>,
    /// What it promises is not done yet; with the generation that asked for it.
    pub(crate) in_progress: Option<Option<i64>>,
    /// Why that failed last.
    pub(crate) error: Option<&'a str>,
}

/// Everything a status is made from.
pub(crate) struct Facts<'a> {
    /// The pod, with the status that the API has now.
    pub(crate) pod: &'a Pod,
    /// What runs.
    pub(crate) seen: &'a Seen,
    /// What probes say, by container id.
    pub(crate) health: &'a BTreeMap<String, Health>,
    /// Containers whose start is not complete; what the runtime says of them is not shown yet.
    pub(crate) starting: &'a BTreeSet<String>,
    /// Why containers wait, by name.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    /// Termination messages by container id.
    pub(crate) messages: &'a BTreeMap<String, String>,
    /// Makes the pod `Failed`.
    pub(crate) verdict: Option<&'a Verdict>,
    /// Nothing of the pod runs or will run again.
    pub(crate) ended: bool,
    /// Containers that were stopped to be started again, by id.
    pub(crate) condemned: &'a BTreeSet<String>,
    /// Whether it gets the sizes that it asks for.
    pub(crate) resize: Resize<'a>,
    /// This node's addresses, the main one first.
    pub(crate) node_ips: &'a [IpAddr],
    /// The clock.
    pub(crate) now: Timestamp,
}

/// Makes the status.
pub(crate) fn build(facts: &Facts<'_>) -> PodStatus {
    let old = pod::status(facts.pod);
    let mut status = PodStatus {
        start_time: old.start_time.clone().or(Some(Time(facts.now))),
        observed_generation: facts.pod.metadata.generation,
        qos_class: Some(crate::resources::qos_class(facts.pod).to_string()),
        nominated_node_name: None,
        ..PodStatus::default()
    };
    containers::fill(facts, &mut status);
    containers::fill_pod_sizes(facts, &mut status);
    status.phase = Some(phase::of(facts, &status).to_owned());
    if let Some(verdict) = facts.verdict {
        status.phase = Some("Failed".to_owned());
        status.reason = Some(verdict.reason.clone());
        status.message = Some(verdict.message.clone());
        let never_ran = facts.seen.containers.is_empty() && old.container_statuses.is_none();
        if never_ran {
            status.container_statuses = None;
            status.init_container_statuses = None;
        }
    } else if pod::is_terminal(facts.pod) {
        // A pod never leaves a terminal phase, nor loses the words that explain it.
        status.phase.clone_from(&old.phase);
        status.reason.clone_from(&old.reason);
        status.message.clone_from(&old.message);
    }
    addresses(facts, &mut status);
    status.conditions = Some(conditions::of(facts, &status));
    status
}

/// The status of a pod that its node interrupts: as it was, but nobody is to be sent to it.
pub(crate) fn leaving(pod: &Pod, now: Timestamp) -> PodStatus {
    let mut status = pod::status(pod).clone();
    let ready = status.conditions.iter_mut().flatten().filter(|condition| {
        matches!(condition.type_.as_str(), "Ready" | "ContainersReady") && condition.status == "True"
    });
    for condition in ready {
        condition.status = "False".to_owned();
        condition.reason = Some("NodeShutdown".to_owned());
        condition.message = Some("the node is shutting down".to_owned());
        condition.last_transition_time = Some(Time(now));
    }
    status.container_statuses.iter_mut().flatten().for_each(|container| container.ready = false);
    status
}

fn addresses(facts: &Facts<'_>, status: &mut PodStatus) {
    let host: Vec<String> = facts.node_ips.iter().map(ToString::to_string).collect();
    status.host_ip = host.first().cloned();
    status.host_ips = Some(host.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let pod_ips = match facts.seen.sandboxes.first() {
        _ if pod::is_host_network(facts.pod) => host,
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.iter().map(ToString::to_string).collect(),
        _ => old_ips(facts.pod),
    };
    status.pod_ip = pod_ips.first().cloned();
    status.pod_ips = (!pod_ips.is_empty()).then(|| pod_ips.into_iter().map(|ip| PodIP { ip }).collect());
}

fn old_ips(pod: &Pod) -> Vec<String> {
    pod::status(pod).pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
}

#[cfg(test)]
mod tests;
