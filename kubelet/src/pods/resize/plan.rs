//! What brings the limits of a running pod to what is allocated to it. Pure (upstream: computePodResizeAction of
//! pkg/kubelet/kuberuntime).
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::{ContainerStatus, Resources};

use crate::containers::labels::RESOURCES;
use crate::pod::{self, Role};
use crate::pods::observed::{self, Seen};
use crate::resources;

/// Limits to change, in order: what the pod may have must cover what its containers may, at every moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The pod's limits before its containers': the greater of the old and the new.
    pub(crate) before: Option<Resources>,
    /// Containers whose limits change while they run; those that shrink first.
    pub(crate) containers: Vec<Change>,
    /// The pod's limits at the end.
    pub(crate) after: Option<Resources>,
    /// Containers that must start again first: their policies for a resource say so.
    pub(crate) restarts: Vec<String>,
    /// The bytes that the pod and the containers that shrink may have, by container; the pod under the empty name.
    pub(crate) shrinks: BTreeMap<String, i64>,
}

/// One container whose limits change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// The runtime's id.
    pub(crate) id: String,
    /// Its name in the pod.
    pub(crate) name: String,
    /// Its cgroup's new limits.
    pub(crate) resources: Resources,
    /// Its new sizes, for its record.
    pub(crate) sizes: ResourceRequirements,
}

impl Plan {
    /// Whether all that can be done now is done: containers have to start again first.
    pub(crate) fn is_waiting(&self) -> bool {
        self.before.is_none() && self.after.is_none() && self.containers.is_empty()
    }

    /// Whether the pod has all that is allocated to it.
    pub(crate) fn is_done(&self) -> bool {
        self.is_waiting() && self.restarts.is_empty()
    }
}

/// Compares what is allocated, which `pod` holds, with what its sandbox and containers have.
pub(crate) fn plan(pod: &Pod, seen: &Seen, node_memory: u64, pids_limit: i64) -> Plan {
    let mut plan = Plan::default();
    let Some(sandbox) = seen.live_sandbox() else { return plan };
    for (role, container) in pod::containers(pod) {
        if !matches!(role, Role::App | Role::Sidecar) {
            continue;
        }
        let Some(latest) = seen.latest_in(&sandbox.id, &container.name).filter(|latest| observed::is_running(latest))
        else {
            continue;
        };
        let Some(old) = given(latest) else { continue };
        let new = container.resources.clone().unwrap_or_default();
        if !differ(&old, &new) {
            continue;
        }
        if must_restart(&container, &old) {
            plan.restarts.push(container.name.clone());
            continue;
        }
        let limits = resources::container_resources(pod, &container, node_memory);
        let shrinks = memory(&new) < memory(&old);
        let change = Change { id: latest.id.clone(), name: container.name.clone(), resources: limits, sizes: new };
        if shrinks {
            plan.shrinks.insert(change.name.clone(), change.resources.memory_limit);
            plan.containers.insert(0, change);
        } else {
            plan.containers.push(change);
        }
    }
    pod_limits(&mut plan, &sandbox.config.resources, &resources::pod_resources(pod, pids_limit));
    plan
}

fn pod_limits(plan: &mut Plan, old: &Resources, new: &Resources) {
    // Limits are never taken away, and one that was not there yet comes when the containers have theirs.
    let target = |new: i64, old: i64| if new == 0 { old } else { new };
    let most = |new: i64, old: i64| if old == 0 { 0 } else { old.max(new) };
    let same = |left: &Resources, right: &Resources| {
        (left.cpu_shares, left.cpu_quota, left.memory_limit) == (right.cpu_shares, right.cpu_quota, right.memory_limit)
    };
    let after = Resources {
        cpu_shares: new.cpu_shares,
        cpu_quota: target(new.cpu_quota, old.cpu_quota),
        cpu_period: new.cpu_period,
        memory_limit: target(new.memory_limit, old.memory_limit),
        ..Resources::default()
    };
    let before = Resources {
        cpu_quota: most(after.cpu_quota, old.cpu_quota),
        memory_limit: most(after.memory_limit, old.memory_limit),
        ..after.clone()
    };
    let ends_there = same(&before, &after);
    if !ends_there && plan.restarts.is_empty() {
        if after.memory_limit != before.memory_limit {
            plan.shrinks.insert(String::new(), after.memory_limit);
        }
        plan.after = Some(after);
    }
    plan.before = Some(before).filter(|before| !same(before, old));
}

/// What a container was given, from its record.
pub(crate) fn given(record: &ContainerStatus) -> Option<ResourceRequirements> {
    let given: Option<ResourceRequirements> = serde_json::from_str(record.annotations.get(RESOURCES)?).ok()?;
    Some(given.unwrap_or_default())
}

/// Whether the container must start again to get its sizes: a resource changed whose policy is `RestartContainer`.
pub(crate) fn must_restart(container: &Container, given: &ResourceRequirements) -> bool {
    let new = container.resources.clone().unwrap_or_default();
    let restarts = |resource: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
    };
    ["cpu", "memory"].into_iter().any(|resource| restarts(resource) && differs(given, &new, resource))
}

fn differ(old: &ResourceRequirements, new: &ResourceRequirements) -> bool {
    ["cpu", "memory"].into_iter().any(|resource| differs(old, new, resource))
}

fn differs(old: &ResourceRequirements, new: &ResourceRequirements, resource: &str) -> bool {
    let of = |list: &Option<BTreeMap<String, Quantity>>| {
        list.as_ref().and_then(|list| list.get(resource)).and_then(resources::milli)
    };
    of(&old.requests) != of(&new.requests) || of(&old.limits) != of(&new.limits)
}

/// The limit of memory in bytes; more than any where there is none.
fn memory(sizes: &ResourceRequirements) -> i128 {
    let limit = sizes.limits.as_ref().and_then(|limits| limits.get("memory")).and_then(resources::value);
    limit.unwrap_or(i128::MAX)
}
