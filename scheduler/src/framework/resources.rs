//! Amounts of resources, as the scheduler adds and compares them (upstream: `fwk.Resource`).

use std::collections::BTreeMap;

use facts::amounts::{Amounts, List};
use facts::pods::demand::Demand;
use facts::quantity::{Format, Quantity as Amount};
use k8s_openapi::api::core::v1::Pod;
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
        list.map(|list| Self::of(&List::Typed(list).amounts())).unwrap_or_default()
    }

    /// Rounds amounts as they are compared.
    pub fn of(list: &Amounts<'_>) -> Self {
        let mut amounts = Self::default();
        for (name, amount) in list {
            match *name {
                "cpu" => amounts.milli_cpu = amount.milli_value(),
                "memory" => amounts.memory = amount.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = amount.value(),
                "pods" => {}
                _ => {
                    amounts.others.insert((*name).to_owned(), amount.value());
                }
            }
        }
        amounts
    }

    /// All amounts, by the names of resources.
    pub fn amounts(&self) -> impl Iterator<Item = (&str, i64)> {
        let named = [("cpu", self.milli_cpu), ("memory", self.memory), ("ephemeral-storage", self.ephemeral_storage)];
        named.into_iter().chain(self.others.iter().map(|(name, amount)| (name.as_str(), *amount)))
    }

    /// The amount of one resource.
    pub fn amount(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.others.get(name).copied().unwrap_or(0),
        }
    }

    /// Sets the amount of one resource.
    pub fn set(&mut self, name: &str, amount: i64) {
        match name {
            "cpu" => self.milli_cpu = amount,
            "memory" => self.memory = amount,
            "ephemeral-storage" => self.ephemeral_storage = amount,
            _ => drop(self.others.insert(name.to_owned(), amount)),
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes away `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
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

/// What is kept for a pod on its node: `exact` for fitting, `assumed` for comparing nodes, where containers that ask for
/// nothing count as small ones.
pub(super) fn parse_requests(pod: &Pod) -> (Resources, Resources) {
    let demand = Demand::of(pod);
    let exact = demand.reserved();
    let mut small = Amounts::from([
        ("cpu", Amount::from_milli(DEFAULT_MILLI_CPU, Format::DecimalSi)),
        ("memory", Amount::new(DEFAULT_MEMORY, Format::BinarySi)),
    ]);
    // What a pod requests as a whole says how large its containers are.
    small.retain(|name, _| !demand.has_own_requests() || !exact.contains_key(name));
    (Resources::of(&exact), Resources::of(&demand.reserved_assuming(&small)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(pod: Value, exact: (i64, i64), assumed: (i64, i64)) {
        let got = parse_requests(&serde_json::from_value(pod.clone()).unwrap());
        assert_eq!((got.0.milli_cpu, got.0.memory), exact, "exact of {pod}");
        assert_eq!((got.1.milli_cpu, got.1.memory), assumed, "assumed of {pod}");
    }

    #[test]
    fn containers_without_requests_are_assumed_small() {
        const MIB: i64 = 1 << 20;
        let requests = |list: Value| json!({"name": "c", "resources": {"requests": list}});
        check(json!({"spec": {"containers": [{"name": "c"}]}}), (0, 0), (100, 200 * MIB));
        check(json!({"spec": {"containers": [requests(json!({"cpu": "0"}))]}}), (0, 0), (0, 200 * MIB));
        let whole = json!({"resources": {"requests": {"cpu": "1"}}, "containers": [{"name": "a"}, {"name": "b"}]});
        check(json!({"spec": whole}), (1000, 0), (1000, 400 * MIB));
        let one_says = json!({
            "resources": {"requests": {"cpu": "1"}}, "containers": [{"name": "a"}, requests(json!({"memory": "1Mi"}))],
        });
        check(json!({"spec": one_says}), (1000, MIB), (1000, MIB));
    }

    #[test]
    fn a_resize_keeps_the_most_until_it_is_done() {
        let pod = |status: Value| {
            json!({
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1"}}}]},
                "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true,
                    "restartCount": 0, "allocatedResources": status, "resources": {"requests": status}}]},
            })
        };
        check(pod(json!({"cpu": "3", "memory": "1"})), (3000, 1), (3000, 1));
        check(pod(json!({"cpu": "1", "memory": "1"})), (1000, 1), (1000, 1));
    }
}
