//! Resources of pods: requests that follow from other requests, and the quality of service class.

use facts::pods::demand::{Demand, is_pod_level};
use serde_json::Value;

use crate::kinds::rules::fill::{object, object_at};
use crate::kinds::rules::tree::{Errors, Fields, NOT_NEGATIVE, Node};
use crate::kinds::rules::{naming, quantities};
use crate::quantity::Quantity;

/// Fills in `spec.resources.requests`, where a pod sets resources for all its containers together: from what its
/// containers request in sum, then from its own limits.
pub(crate) fn default_pod_level(spec: &mut Fields) {
    let given = spec.get("resources").and_then(Value::as_object);
    if given.is_none_or(|r| {
        ["limits", "requests"].iter().all(|k| r.get(*k).and_then(Value::as_object).is_none_or(Fields::is_empty))
    }) {
        return;
    }
    let sums: Vec<_> = Demand::of_tree(spec, None)
        .requests_of_containers()
        .into_iter()
        .filter(|(name, _)| is_pod_level(name))
        .map(|(name, sum)| (name.to_owned(), sum.to_string()))
        .collect();
    let Some(resources) = object_at(spec, "resources") else { return };
    let limits = resources.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
    let requests = object(resources, "requests");
    for (name, sum) in sums {
        requests.entry(name).or_insert_with(|| sum.into());
    }
    for (name, limit) in limits.into_iter().filter(|(name, _)| is_pod_level(name)) {
        requests.entry(name).or_insert(limit);
    }
    if requests.is_empty() {
        resources.remove("requests");
    }
}

/// The quality of service class that a pod's spec gives it.
pub(crate) fn qos_class(spec: &Fields) -> &'static str {
    Demand::of_tree(spec, None).qos_class().name()
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
