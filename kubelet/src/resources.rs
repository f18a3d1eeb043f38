//! Requests and limits: quality of service, cgroups, and the numbers the downward API shows.
use std::collections::BTreeMap;

use facts::pods::QosClass;
use facts::pods::demand::Demand;
use facts::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::Resources;

use crate::pod;

/// The CFS period of every container, in microseconds.
const CPU_PERIOD: u64 = 100_000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
const MIN_QUOTA: i64 = 1000;

/// A quantity in thousandths, rounded up, at most what an `i64` holds; `None` when it is not a quantity.
pub(crate) fn milli(quantity: &Quantity) -> Option<i128> {
    Some(quantity.0.parse::<Amount>().ok()?.milli_value().into())
}

/// A quantity in whole units, rounded up, at most what an `i64` holds.
pub(crate) fn value(quantity: &Quantity) -> Option<i128> {
    Some(quantity.0.parse::<Amount>().ok()?.value().into())
}

type List = BTreeMap<String, Quantity>;

/// The requests of one container.
pub(crate) fn requests(container: &Container) -> &List {
    static EMPTY: List = List::new();
    container.resources.as_ref().and_then(|resources| resources.requests.as_ref()).unwrap_or(&EMPTY)
}

/// The limits of one container.
pub(crate) fn limits(container: &Container) -> &List {
    static EMPTY: List = List::new();
    container.resources.as_ref().and_then(|resources| resources.limits.as_ref()).unwrap_or(&EMPTY)
}

fn nonzero(list: &List, resource: &str) -> Option<i128> {
    list.get(resource).and_then(milli).filter(|milli| *milli > 0)
}

/// The pod's class, from its pod-level resources or those of its containers.
pub(crate) fn qos_class(pod: &Pod) -> QosClass {
    Demand::of(pod).qos_class()
}

/// The pod's cgroup below each controller's root, in that of this node's pods (`root`, empty for the controllers' own).
pub(crate) fn cgroup_parent(root: &str, pod: &Pod) -> String {
    let uid = pod::uid(pod);
    let class = match qos_class(pod) {
        QosClass::Guaranteed => "",
        QosClass::Burstable => "burstable/",
        QosClass::BestEffort => "besteffort/",
    };
    let root = if root.is_empty() { String::new() } else { format!("{root}/") };
    format!("{root}kubepods/{class}pod{uid}")
}

/// CPU shares for thousandths of a core.
pub(crate) fn shares(milli_cpu: i128) -> u64 {
    let shares = u64::try_from(milli_cpu.max(0) * 1024 / 1000).unwrap_or(MAX_SHARES);
    shares.clamp(MIN_SHARES, MAX_SHARES)
}

fn quota(milli_cpu: i128) -> i64 {
    i64::try_from(milli_cpu * i128::from(CPU_PERIOD) / 1000).unwrap_or(i64::MAX).max(MIN_QUOTA)
}

/// The limits of the pod's cgroup. The pod is limited where it says so itself or every container is.
pub(crate) fn pod_resources(pod: &Pod, pids_limit: i64) -> Resources {
    let demand = Demand::of(pod);
    let (requests, limits) = (demand.requests(), demand.limits());
    let milli_cpu = requests.get("cpu").map_or(0, |cpu| cpu.milli_value().into());
    let mut resources = Resources { cpu_shares: shares(milli_cpu), pids_limit, ..Resources::default() };
    let limit = |resource: &str| limits.get(resource).filter(|_| demand.is_limited(resource));
    if let Some(cpu) = limit("cpu") {
        resources.cpu_quota = quota(cpu.milli_value().into());
        resources.cpu_period = CPU_PERIOD;
    }
    if let Some(memory) = limit("memory") {
        resources.memory_limit = memory.value();
    }
    resources
}

/// How many processes all pods together may have, so that the node itself can always start some: all but those that
/// are reserved, or a tenth if nobody reserved any.
pub(crate) fn node_pids_limit(most: u64, reserved: &BTreeMap<String, String>) -> i64 {
    let given = reserved.get("pid").and_then(|text| value(&Quantity(text.clone())));
    let kept = given.and_then(|given| u64::try_from(given).ok()).unwrap_or_else(|| (most / 10).max(1024));
    i64::try_from(most.saturating_sub(kept).max(most / 2)).unwrap_or(i64::MAX)
}

/// The limits of one container's cgroup.
pub(crate) fn container_resources(pod: &Pod, container: &Container, node_memory: u64) -> Resources {
    let cpu_limit = nonzero(limits(container), "cpu");
    let cpu_request = requests(container).get("cpu").and_then(milli).or(cpu_limit).unwrap_or(0);
    let mut resources = Resources {
        cpu_shares: shares(cpu_request),
        oom_score_adj: oom_score_adj(pod, container, node_memory),
        ..Resources::default()
    };
    if let Some(cpu) = cpu_limit {
        resources.cpu_quota = quota(cpu);
        resources.cpu_period = CPU_PERIOD;
    }
    if let Some(memory) = limits(container).get("memory").and_then(value).filter(|bytes| *bytes > 0) {
        resources.memory_limit = i64::try_from(memory).unwrap_or(i64::MAX);
    }
    resources
}

/// Guaranteed and critical pods are killed last, best-effort ones first, others by how much they asked for.
fn oom_score_adj(pod: &Pod, container: &Container, node_memory: u64) -> i32 {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    if pod::spec(pod).priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY) {
        return -997;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let mut request = memory(container);
            if pod::init_containers(pod).iter().any(|init| init.name == container.name && pod::is_sidecar(init)) {
                // Not before the containers that it serves (KEP-753).
                request = request.max(pod::spec(pod).containers.iter().map(memory).min().unwrap_or(0));
            }
            let share = 1000 * (request + spare_memory(pod)) / i128::from(node_memory.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// The memory that a container requests, in bytes.
fn memory(container: &Container) -> i128 {
    requests(container).get("memory").and_then(value).unwrap_or(0)
}

/// What a pod requests beyond its containers, in equal parts for each of them, in bytes (KEP-2837).
fn spare_memory(pod: &Pod) -> i128 {
    let spec = pod::spec(pod);
    let own = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("memory"));
    let Some(own) = own.and_then(value) else { return 0 };
    let together = Demand::of(pod).requests_of_containers().get("memory").map_or(0, |memory| memory.value());
    let count = spec.containers.len() + pod::init_containers(pod).len();
    (own - i128::from(together)).max(0) / i128::try_from(count.max(1)).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn pod(resources: Value) -> Pod {
        from_value(json!({
            "metadata": {"name": "a", "uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": resources}]}
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_sized_by_what_it_says_for_itself() {
        let mut pod = pod(json!({"requests": {"cpu": "100m", "memory": "64Mi"}}));
        let spec = pod.spec.as_mut().unwrap();
        spec.resources = from_value(json!({"requests": {"cpu": "2"}, "limits": {"memory": "128Mi"}})).unwrap();
        spec.overhead = from_value(json!({"cpu": "50m", "memory": "8Mi"})).unwrap();
        let resources = pod_resources(&pod, 0);
        assert_eq!((resources.cpu_shares, resources.cpu_quota, resources.memory_limit), (2099, 0, 136 << 20));
    }

    #[test]
    fn a_pod_is_not_limited_when_a_container_that_starts_it_is_not() {
        let mut pod = pod(json!({"limits": {"cpu": "1", "memory": "64Mi"}}));
        assert_eq!(pod_resources(&pod, 0).memory_limit, 64 << 20);
        pod.spec.as_mut().unwrap().init_containers = from_value(json!([{"name": "i"}])).unwrap();
        assert_eq!(pod_resources(&pod, 0).memory_limit, 0);
    }

    #[test]
    fn the_node_keeps_processes_for_itself() {
        let check = |most, reserved: &[(&str, &str)], expected| {
            let reserved = reserved.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            assert_eq!(node_pids_limit(most, &reserved), expected, "{most} {reserved:?}");
        };
        check(100_000, &[], 90_000);
        check(4_000, &[], 2_976);
        check(1_000, &[], 500);
        check(100_000, &[("pid", "2000000m"), ("cpu", "1")], 98_000);
    }

    #[test]
    fn the_memory_that_is_requested_keeps_a_container_alive() {
        const NODE: u64 = 1 << 30;
        let asks = |name: &str, memory: &str| json!({"name": name, "resources": {"requests": {"memory": memory}}});
        let mut pod = pod(json!({}));
        let spec = pod.spec.as_mut().unwrap();
        spec.containers = from_value(json!([asks("a", "512Mi"), asks("b", "256Mi")])).unwrap();
        spec.init_containers = from_value(json!([{"name": "s", "restartPolicy": "Always"}, {"name": "i"}])).unwrap();
        let score = |pod: &Pod, name: &str| {
            let (_, container) = pod::container(pod, name).unwrap();
            oom_score_adj(pod, &container, NODE)
        };
        assert_eq!(["a", "b", "s", "i"].map(|name| score(&pod, name)), [500, 750, 750, 999]);
        pod.spec.as_mut().unwrap().resources = from_value(json!({"requests": {"memory": "896Mi"}})).unwrap();
        assert_eq!(["a", "b", "s", "i"].map(|name| score(&pod, name)), [469, 719, 719, 969]);
    }

    #[test]
    fn limits_become_cgroup_values() {
        let sizes = json!({"cpu": "250m", "memory": "64Mi"});
        let pod = pod(json!({"limits": sizes, "requests": sizes}));
        let resources = container_resources(&pod, &pod::spec(&pod).containers[0], 1 << 30);
        assert_eq!((resources.cpu_shares, resources.cpu_quota), (256, 25_000));
        assert_eq!((resources.memory_limit, resources.oom_score_adj), (64 << 20, -997));
    }
}
