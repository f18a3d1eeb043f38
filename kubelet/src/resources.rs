//! Requests and limits: quality of service, cgroups, and the numbers the downward API shows.
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::Resources;

use crate::pod;

/// A pod's quality of service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QosClass {
    /// Limits everywhere, and requests equal to them.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None.
    BestEffort,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

/// The CFS period of every container, in microseconds.
const CPU_PERIOD: u64 = 100_000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
const MIN_QUOTA: i64 = 1000;

/// A quantity in thousandths, rounded up; `None` when it is not a quantity or too large.
pub(crate) fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (multiplier, divisor): (i128, i128) = scale(suffix)?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() + fraction.len() > 24 {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let denominator = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(divisor)?;
    let numerator = digits.checked_mul(multiplier)?.checked_mul(1000)?;
    let rounded = numerator / denominator + i128::from(numerator % denominator != 0);
    Some(sign * rounded)
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    let power = |base: i128, exponent: u32| base.checked_pow(exponent);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (power(1000, 2)?, 1),
        "G" => (power(1000, 3)?, 1),
        "T" => (power(1000, 4)?, 1),
        "P" => (power(1000, 5)?, 1),
        "E" => (power(1000, 6)?, 1),
        "Ki" => (1024, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, size) } else { (size, 1) }
        }
    })
}

/// A quantity in whole units, rounded up.
pub(crate) fn value(quantity: &Quantity) -> Option<i128> {
    milli(quantity).map(|milli| milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) != 0))
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
    let spec = pod::spec(pod);
    let pod_level = spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
    let lists: Vec<(List, List)> = match pod_level {
        Some(own) => vec![(own.requests.clone().unwrap_or_default(), own.limits.clone().unwrap_or_default())],
        None => {
            let all = spec.init_containers.iter().flatten().chain(&spec.containers);
            all.map(|container| (requests(container).clone(), limits(container).clone())).collect()
        }
    };
    let computes = ["cpu", "memory"];
    let any = |list: &List| computes.iter().any(|resource| nonzero(list, resource).is_some());
    if !lists.iter().any(|(requests, limits)| any(requests) || any(limits)) {
        return QosClass::BestEffort;
    }
    let guaranteed = lists.iter().all(|(requests, limits)| {
        computes.iter().all(|resource| {
            let limit = nonzero(limits, resource);
            limit.is_some() && (nonzero(requests, resource).is_none() || nonzero(requests, resource) == limit)
        })
    });
    if guaranteed { QosClass::Guaranteed } else { QosClass::Burstable }
}

/// The pod's cgroup below each controller's root.
pub(crate) fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod::uid(pod);
    match qos_class(pod) {
        QosClass::Guaranteed => format!("kubepods/pod{uid}"),
        QosClass::Burstable => format!("kubepods/burstable/pod{uid}"),
        QosClass::BestEffort => format!("kubepods/besteffort/pod{uid}"),
    }
}

/// What the pod needs of a resource in thousandths, as scheduling counts it: its own request (KEP-2837), or the app
/// containers and sidecars together, or the largest step of initialisation; plus overhead.
pub(crate) fn pod_request(pod: &Pod, resource: &str) -> i128 {
    let own = pod::spec(pod).resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource));
    match own.and_then(milli) {
        Some(own) => own + overhead(pod, resource),
        None => pod_sum(pod, resource, |container| requests(container).get(resource).and_then(milli)).0,
    }
}

fn overhead(pod: &Pod, resource: &str) -> i128 {
    pod::spec(pod).overhead.as_ref().and_then(|list| list.get(resource)).and_then(milli).unwrap_or(0)
}

/// The sum, and whether every app container names the resource.
fn pod_sum(pod: &Pod, resource: &str, of: impl Fn(&Container) -> Option<i128>) -> (i128, bool) {
    let spec = pod::spec(pod);
    let (mut sidecars, mut peak) = (0, 0);
    for container in pod::init_containers(pod) {
        let need = of(container).unwrap_or(0);
        if pod::is_sidecar(container) {
            sidecars += need;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + need);
        }
    }
    let apps: i128 = spec.containers.iter().map(|container| of(container).unwrap_or(0)).sum();
    let complete = spec.containers.iter().all(|container| of(container).is_some_and(|need| need > 0));
    ((apps + sidecars).max(peak) + overhead(pod, resource), complete)
}

/// CPU shares for thousandths of a core.
pub(crate) fn shares(milli_cpu: i128) -> u64 {
    let shares = u64::try_from(milli_cpu.max(0) * 1024 / 1000).unwrap_or(MAX_SHARES);
    shares.clamp(MIN_SHARES, MAX_SHARES)
}

fn quota(milli_cpu: i128) -> i64 {
    i64::try_from(milli_cpu * i128::from(CPU_PERIOD) / 1000).unwrap_or(i64::MAX).max(MIN_QUOTA)
}

fn bytes(milli: i128) -> i64 {
    i64::try_from(milli / 1000).unwrap_or(i64::MAX)
}

/// The limits of the pod's cgroup. The pod is limited only where every container is.
pub(crate) fn pod_resources(pod: &Pod, pids_limit: i64) -> Resources {
    let own = |resource: &str| {
        let list = pod::spec(pod).resources.as_ref().and_then(|resources| resources.limits.as_ref());
        list.and_then(|list| nonzero(list, resource))
    };
    let limit = |resource: &'static str| {
        own(resource).or_else(|| {
            let (sum, complete) = pod_sum(pod, resource, |container| nonzero(limits(container), resource));
            complete.then_some(sum)
        })
    };
    let mut resources = Resources { cpu_shares: shares(pod_request(pod, "cpu")), pids_limit, ..Resources::default() };
    if let Some(cpu) = limit("cpu") {
        resources.cpu_quota = quota(cpu);
        resources.cpu_period = CPU_PERIOD;
    }
    if let Some(memory) = limit("memory") {
        resources.memory_limit = bytes(memory);
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
    if let Some(memory) = nonzero(limits(container), "memory") {
        resources.memory_limit = bytes(memory);
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
            let request = requests(container).get("memory").and_then(value).unwrap_or(0);
            let share = 1000 * request / i128::from(node_memory.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_scale_by_their_suffix() {
        let check = |text: &str, expected| assert_eq!(milli(&Quantity(text.into())), expected, "{text}");
        check("100m", Some(100));
        check("1.5", Some(1500));
        check("1Gi", Some(1_073_741_824_000));
        check("2e3", Some(2_000_000));
        check("1E", Some(1_000_000_000_000_000_000_000));
        check("1n", Some(1));
        check("x", None);
        check("", None);
    }

    fn pod(resources: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": resources}]}
        }))
        .unwrap()
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        use serde_json::json;
        assert_eq!(qos_class(&pod(json!({}))), QosClass::BestEffort);
        assert_eq!(qos_class(&pod(json!({"requests": {"cpu": "1"}}))), QosClass::Burstable);
        let both = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(qos_class(&pod(both)), QosClass::Guaranteed);
        let lower = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}});
        assert_eq!(qos_class(&pod(lower)), QosClass::Burstable);
    }

    #[test]
    fn a_pods_own_requests_count_before_its_containers() {
        let mut pod = pod(serde_json::json!({"requests": {"cpu": "100m", "memory": "64Mi"}}));
        let spec = pod.spec.as_mut().unwrap();
        spec.resources = serde_json::from_value(serde_json::json!({"requests": {"cpu": "2"}})).unwrap();
        spec.overhead = serde_json::from_value(serde_json::json!({"cpu": "50m"})).unwrap();
        assert_eq!((pod_request(&pod, "cpu"), pod_request(&pod, "memory")), (2050, (64 << 20) * 1000));
        assert_eq!(pod_resources(&pod, 0).cpu_shares, 2099);
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
    fn limits_become_cgroup_values() {
        let pod = pod(serde_json::json!({"limits": {"cpu": "250m", "memory": "64Mi"}}));
        let resources = container_resources(&pod, &pod::spec(&pod).containers[0], 1 << 30);
        assert_eq!((resources.cpu_shares, resources.cpu_quota), (256, 25_000));
        assert_eq!((resources.memory_limit, resources.oom_score_adj), (64 << 20, -997));
    }
}
