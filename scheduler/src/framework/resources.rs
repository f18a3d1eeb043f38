//! Amounts of resources, as the scheduler adds and compares them (upstream: `fwk.Resource`).

use std::collections::BTreeMap;

use facts::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a container without requests is taken to use when nodes are compared: 0.1 core and 200 MB.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a list of quantities; those that cannot be read count as 0 (the API server lets none through).
    pub fn from_list(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let Ok(amount) = quantity.0.parse::<Amount>() else { continue };
            match name.as_str() {
                "cpu" => amounts.milli_cpu = amount.milli_value(),
                "memory" => amounts.memory = amount.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = amount.value(),
                "pods" => {}
                _ => {
                    amounts.others.insert(name.clone(), amount.value());
                }
            }
        }
        amounts
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes away `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }

    /// Raises each amount to at least that of `other`.
    pub fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = with(*own, *amount);
        }
    }
}

/// What a pod asks for: `exact` for fitting, `assumed` for comparing nodes, where containers that ask for nothing count
/// as small ones.
pub fn parse_requests(spec: &PodSpec) -> (Resources, Resources) {
    let exact = pod_requests(spec, requests);
    let assumed = pod_requests(spec, |container| {
        let mut amounts = requests(container);
        let given = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        if !given.is_some_and(|given| given.contains_key("cpu")) {
            amounts.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !given.is_some_and(|given| given.contains_key("memory")) {
            amounts.memory = DEFAULT_MEMORY;
        }
        amounts
    });
    (exact, assumed)
}

fn requests(container: &Container) -> Resources {
    Resources::from_list(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// The sum of the containers, or the most that any init container needs beside the sidecars before it (KEP-753), and the
/// overhead of the pod. Pod-level requests (KEP-2837) replace what the containers add up to.
fn pod_requests(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut while_running = sidecars.clone();
            while_running.add(&own);
            peak.raise_to(&while_running);
        }
    }
    total.add(&sidecars);
    total.raise_to(&peak);
    if let Some(list) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let pod_level = Resources::from_list(Some(list));
        for name in list.keys() {
            match name.as_str() {
                "cpu" => total.milli_cpu = pod_level.milli_cpu,
                "memory" => total.memory = pod_level.memory,
                other => {
                    total.others.insert(other.to_owned(), pod_level.others.get(other).copied().unwrap_or(0));
                }
            }
        }
    }
    total.add(&Resources::from_list(spec.overhead.as_ref()));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, milli_cpu: i64, memory: i64) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let (exact, _) = parse_requests(&spec);
        assert_eq!((exact.milli_cpu, exact.memory), (milli_cpu, memory));
    }

    fn container(cpu: &str, memory: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn containers_add_up_and_init_containers_raise() {
        check(json!({"containers": [container("100m", "1Ki"), container("200m", "1Ki")]}), 300, 2048);
        check(json!({"containers": [container("100m", "1Ki")], "initContainers": [container("1", "1")]}), 1000, 1024);
    }

    #[test]
    fn sidecars_count_beside_everything_after_them() {
        let mut sidecar = container("100m", "0");
        sidecar["restartPolicy"] = json!("Always");
        check(
            json!({"containers": [container("1", "0")], "initContainers": [sidecar.clone(), container("2", "0")]}),
            2100,
            0,
        );
        check(json!({"containers": [container("3", "0")], "initContainers": [sidecar, container("2", "0")]}), 3100, 0);
    }

    #[test]
    fn containers_without_requests_are_assumed_small() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).unwrap();
        let (exact, assumed) = parse_requests(&spec);
        assert_eq!(exact, Resources::default());
        assert_eq!((assumed.milli_cpu, assumed.memory), (100, 200 * 1024 * 1024));
    }
}
