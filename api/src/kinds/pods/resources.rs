//! Resources of pods: requests that follow from other requests, and the quality of service class.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kinds::rules::fill::{object, object_at};
use crate::kinds::rules::tree::{Errors, Fields, NOT_NEGATIVE, Node};
use crate::kinds::rules::{naming, quantities};
use crate::quantity::Quantity;

/// Whether a pod may set this resource for all its containers together.
pub(crate) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Fills in `spec.resources.requests`, where a pod sets resources for all its containers together: from what its
/// containers request in sum, then from its own limits.
pub(crate) fn default_pod_level(spec: &mut Fields) {
    let given = spec.get("resources").and_then(Value::as_object);
    if given.is_none_or(|r| {
        ["limits", "requests"].iter().all(|k| r.get(*k).and_then(Value::as_object).is_none_or(Fields::is_empty))
    }) {
        return;
    }
    let sums = container_requests(spec);
    let Some(resources) = object_at(spec, "resources") else { return };
    let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    let requests = object(resources, "requests");
    for (name, sum) in sums.into_iter().filter(|(name, _)| is_pod_level(name)) {
        requests.entry(name).or_insert_with(|| sum.to_string().into());
    }
    for (name, limit) in limits.into_iter().filter(|(name, _)| is_pod_level(name)) {
        requests.entry(name).or_insert(limit);
    }
    if requests.is_empty() {
        resources.remove("requests");
    }
}

/// What the containers of a pod request together: the sum of those that run together, or the largest moment of the
/// start-up, whichever is more.
pub(crate) fn container_requests(spec: &Fields) -> BTreeMap<String, Quantity> {
    let mut together = BTreeMap::new();
    for container in list(spec, "containers") {
        add(&mut together, &requests(container));
    }
    let mut sidecars = BTreeMap::new();
    let mut start_up = BTreeMap::new();
    for container in list(spec, "initContainers") {
        let mut moment = requests(container);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut together, &moment);
            add(&mut sidecars, &moment);
            moment = sidecars.clone();
        } else {
            add(&mut moment, &sidecars);
        }
        raise(&mut start_up, moment);
    }
    raise(&mut together, start_up);
    together
}

fn list<'a>(spec: &'a Fields, key: &str) -> impl Iterator<Item = &'a Value> {
    spec.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn requests(container: &Value) -> BTreeMap<String, Quantity> {
    let map = container.pointer("/resources/requests").and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.parse().ok()?))).collect()
}

fn add(into: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, quantity) in more {
        let sum = into.get(name).map_or(*quantity, |old| *old + *quantity);
        into.insert(name.clone(), sum);
    }
}

fn raise(into: &mut BTreeMap<String, Quantity>, other: BTreeMap<String, Quantity>) {
    for (name, quantity) in other {
        let entry = into.entry(name).or_insert(quantity);
        if *entry < quantity {
            *entry = quantity;
        }
    }
}

/// The quality of service class of a pod: `Guaranteed` when every container (or the pod itself) limits CPU and memory
/// to just what it requests, `BestEffort` when nothing is requested or limited.
pub(crate) fn qos_class(spec: &Fields) -> &'static str {
    let mut seen = Seen::default();
    let own = spec.get("resources").filter(|r| has_quantities(r));
    match own {
        Some(resources) => seen.observe(resources),
        None => {
            for key in ["containers", "initContainers"] {
                list(spec, key).for_each(|container| seen.observe(container.get("resources").unwrap_or(&Value::Null)));
            }
        }
    }
    seen.class()
}

fn has_quantities(resources: &Value) -> bool {
    ["limits", "requests"]
        .iter()
        .any(|kind| resources.get(kind).and_then(Value::as_object).is_some_and(|m| !m.is_empty()))
}

/// Totals of compute resources over all containers.
#[derive(Default)]
struct Seen {
    requests: BTreeMap<&'static str, Quantity>,
    limits: BTreeMap<&'static str, Quantity>,
    not_guaranteed: bool,
}

impl Seen {
    fn observe(&mut self, resources: &Value) {
        tally(&mut self.requests, resources.get("requests"));
        let limited = tally(&mut self.limits, resources.get("limits"));
        self.not_guaranteed |= limited < 2;
    }

    fn class(&self) -> &'static str {
        if self.requests.is_empty() && self.limits.is_empty() {
            return "BestEffort";
        }
        let equal = self.requests.iter().all(|(name, request)| self.limits.get(name) == Some(request));
        if !self.not_guaranteed && equal && self.requests.len() == self.limits.len() {
            "Guaranteed"
        } else {
            "Burstable"
        }
    }
}

/// Adds the CPU and memory of `map`; answers how many of the two are more than zero.
fn tally(into: &mut BTreeMap<&'static str, Quantity>, map: Option<&Value>) -> usize {
    let mut found = 0;
    for name in ["cpu", "memory"] {
        let quantity = map.and_then(|m| m.get(name)).and_then(Value::as_str).and_then(|q| q.parse::<Quantity>().ok());
        let Some(quantity) = quantity.filter(|q| *q > Quantity::zero()) else { continue };
        found += 1;
        let sum = into.get(name).map_or(quantity, |old| *old + quantity);
        into.insert(name, sum);
    }
    found
}

/// A quantity of a resource: never negative, and whole for things that are counted.
pub(crate) fn value(name: &str, quantity: &Node<'_, '_>, errors: &mut Errors) {
    let Some(parsed) = quantities::parse(quantity) else { return };
    if parsed < Quantity::zero() {
        errors.invalid(quantity, NOT_NEGATIVE);
    }
    if is_integer(name) && !is_whole(&parsed) {
        errors.invalid(quantity, "must be an integer");
    }
}

fn is_whole(quantity: &Quantity) -> bool {
    quantity.milli_value() % 1000 == 0
}

/// Resources that Kubernetes itself defines: those without a domain, or with one of its own.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Resources that a device plugin defines.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && naming::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Resources that are counted in whole numbers.
pub(crate) fn is_integer(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Resources that a container may ask for.
pub(crate) fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// Every resource without a domain.
pub(crate) fn is_standard(name: &str) -> bool {
    is_standard_for_containers(name)
        || COUNTED.contains(&name)
        || name.starts_with("requests.hugepages-")
        || matches!(
            name,
            "requests.cpu"
                | "requests.memory"
                | "requests.ephemeral-storage"
                | "limits.cpu"
                | "limits.memory"
                | "limits.ephemeral-storage"
                | "storage"
                | "requests.storage"
        )
}
