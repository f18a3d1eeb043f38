//! Pods: what they ask for, when they stop to cost, and what scopes they are in.

use std::collections::{BTreeMap, BTreeSet};

use facts::amounts::{Amounts as List, read};
use facts::pods::demand::Demand;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Amounts, End, Measure, Scopes, one, selects};
use crate::Object;
use crate::kinds::pods::resources;

const COUNT: &str = "count/pods";
const PODS: &str = "pods";
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";
const LIMITS: &str = "limits.";
/// Every container must say these if a quota limits them. No others: upstream calls this its mistake.
const MUST_BE_SAID: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

pub(super) fn counts(name: &str) -> bool {
    if matches!(name, COUNT | PODS) || COMPUTE.contains(&name) || name.starts_with(HUGE_PAGES) {
        return true;
    }
    if let Some(requested) = name.strip_prefix(REQUESTS) {
        return COMPUTE.contains(&requested) || requested.starts_with(HUGE_PAGES) || !resources::is_native(name);
    }
    name.strip_prefix(LIMITS).is_some_and(|limited| COMPUTE.contains(&limited))
}

pub(super) fn measure(pod: &Object) -> Measure {
    let demand = demand(pod);
    Measure {
        stored: Amounts::from([(COUNT.to_owned(), one())]),
        living: by_quota_name(&demand.reserved(), &demand.reserved_limits()),
        end: end(pod),
        scopes: Scopes::Pod(Facts::of(pod)),
    }
}

fn demand(pod: &Object) -> Demand<'_> {
    let spec = pod.get(&["spec"]).and_then(Value::as_object);
    spec.map(|spec| Demand::of_tree(spec, pod.get(&["status"]))).unwrap_or_default()
}

fn end(pod: &Object) -> End {
    if matches!(pod.text(&["status", "phase"]), "Succeeded" | "Failed") {
        return End::Past;
    }
    let deletion: Option<Timestamp> = pod.text(&["metadata", "deletionTimestamp"]).parse().ok();
    let grace = pod.integer(&["metadata", "deletionGracePeriodSeconds"]);
    let (Some(deletion), Some(grace)) = (deletion, grace) else { return End::Never };
    End::After(deletion.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX))
}

/// Requests and limits by the names that quotas use, and the pod itself.
fn by_quota_name(requests: &List<'_>, limits: &List<'_>) -> Amounts {
    let mut usage = Amounts::from([(PODS.to_owned(), one())]);
    for (name, amount) in requests {
        if COMPUTE.contains(name) || name.starts_with(HUGE_PAGES) {
            usage.insert((*name).to_owned(), *amount);
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        } else if resources::is_extended(name) {
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(name)) {
        usage.insert(format!("{LIMITS}{name}"), *amount);
    }
    usage
}

/// The containers of one list of a pod.
fn containers<'a>(pod: &'a Object, list: &str) -> impl Iterator<Item = &'a Value> {
    pod.get(&["spec", list]).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(tree: &'a Value, field: &str) -> &'a str {
    tree.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn unsaid(pod: &Object, hard: &Amounts) -> Option<String> {
    let required: Vec<&str> = MUST_BE_SAID.into_iter().filter(|name| hard.contains_key(*name)).collect();
    if required.is_empty() || demand(pod).is_sized() {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in containers(pod, "containers").chain(containers(pod, "initContainers")) {
        let of = |list: &str| read(container.get("resources").and_then(|resources| resources.get(list)));
        let said = by_quota_name(&of("requests"), &of("limits"));
        for name in required.iter().filter(|name| !said.contains_key(**name)) {
            missing.entry(name).or_default().insert(text(container, "name"));
        }
    }
    let join = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(",");
    let texts: Vec<String> = missing.into_iter().map(|(name, of)| format!("{name} for: {}", join(of))).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// What decides on the scopes that a pod is in.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    is_best_effort: bool,
    has_deadline: bool,
    priority_class: String,
    crosses_namespaces: bool,
}

impl Facts {
    fn of(pod: &Object) -> Self {
        let spec = pod.get(&["spec"]).and_then(Value::as_object);
        let class = match pod.text(&["status", "qosClass"]) {
            "" => spec.map_or("BestEffort", resources::qos_class),
            known => known,
        };
        Self {
            is_best_effort: class == "BestEffort",
            has_deadline: pod.integer(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0),
            priority_class: pod.text(&["spec", "priorityClassName"]).to_owned(),
            crosses_namespaces: crosses_namespaces(pod),
        }
    }

    pub(super) fn are_covered(&self, scope: &str, operator: &str, values: &[&str]) -> bool {
        match scope {
            "BestEffort" => self.is_best_effort,
            "NotBestEffort" => !self.is_best_effort,
            "Terminating" => self.has_deadline,
            "NotTerminating" => !self.has_deadline,
            "CrossNamespacePodAffinity" => self.crosses_namespaces,
            "PriorityClass" => {
                let class = Some(self.priority_class.as_str()).filter(|class| !class.is_empty());
                selects(operator, values, class.as_slice())
            }
            _ => false,
        }
    }
}

/// Whether the pod wants to be near to or far from pods of other namespaces.
fn crosses_namespaces(pod: &Object) -> bool {
    let affinity = |kind: &str, when: &str| {
        pod.get(&["spec", "affinity", kind, when]).and_then(Value::as_array).into_iter().flatten()
    };
    let crosses = |term: &Value| {
        let has_names = term.get("namespaces").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
        has_names || term.get("namespaceSelector").is_some_and(Value::is_object)
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let mut preferred = affinity(kind, "preferredDuringSchedulingIgnoredDuringExecution");
        affinity(kind, "requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || preferred.any(|preference| preference.get("podAffinityTerm").is_some_and(crosses))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::quantity::Quantity;
    use crate::quota::amounts;

    fn object(tree: Value) -> Object {
        Object::from_value(tree).unwrap()
    }

    fn check(pod: Value, expected: &[(&str, &str)]) {
        let measured = measure(&object(pod)).living;
        for (name, amount) in expected {
            let known = measured.get(*name).map(Quantity::to_string);
            assert_eq!(known.as_deref(), (!amount.is_empty()).then_some(*amount), "{name} of {measured:?}");
        }
    }

    #[test]
    fn a_pod_costs_its_containers_or_its_largest_init_container() {
        let pod = json!({"spec": {
            "containers": [
                {"resources": {"requests": {"cpu": "100m"}}},
                {"resources": {"requests": {"cpu": "200m", "example.com/gpu": "2"}, "limits": {"memory": "1Gi", "example.com/gpu": "2"}}},
            ],
            "initContainers": [{"resources": {"requests": {"cpu": "1"}}}], "overhead": {"cpu": "50m", "memory": "1Mi"},
        }});
        let gpu = ("requests.example.com/gpu", "2");
        check(pod, &[("requests.cpu", "1050m"), ("cpu", "1050m"), ("limits.memory", "1025Mi"), ("memory", "1Mi"), gpu]);
    }

    #[test]
    fn sidecars_run_beside_what_starts_after_them() {
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod = json!({"spec": {"containers": [{"resources": asks("1")}], "initContainers": [
            {"resources": asks("2"), "restartPolicy": "Always"}, {"resources": asks("3")},
        ]}});
        check(pod, &[("cpu", "5"), ("limits.cpu", "")]);
    }

    #[test]
    fn a_resize_costs_the_most_until_it_is_done_and_nothing_when_it_is_refused() {
        let pod = |reason: &str| {
            json!({
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]},
                "status": {"conditions": [{"type": "PodResizePending", "reason": reason}], "containerStatuses": [
                    {"name": "c", "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "2"}}},
                ]},
            })
        };
        check(pod("Deferred"), &[("cpu", "3")]);
        check(pod("Infeasible"), &[("cpu", "2")]);
    }

    #[test]
    fn what_a_pod_says_for_itself_holds_instead_of_the_sum() {
        let pod = json!({"spec": {
            "resources": {"requests": {"cpu": "1"}},
            "containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}],
        }});
        check(pod.clone(), &[("cpu", "1"), ("memory", "1Mi")]);
        assert_eq!(unsaid(&object(pod), &amounts(Some(&json!({"memory": "1Gi"})))), None);
    }

    #[test]
    fn what_is_limited_must_be_said_by_every_container() {
        let pod = object(json!({"spec": {"containers": [
            {"name": "b"}, {"name": "a", "resources": {"limits": {"memory": "1Mi"}}},
        ]}}));
        let hard = amounts(Some(&json!({"pods": "1", "limits.memory": "1", "cpu": "1", "requests.storage": "1"})));
        assert_eq!(unsaid(&pod, &hard).as_deref(), Some("cpu for: a,b; limits.memory for: b"));
    }

    #[test]
    fn pods_that_ended_or_should_have_gone_cost_only_their_storage() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let usage = |metadata: Value, phase: &str| {
            let pod = json!({"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}});
            measure(&object(pod)).usage(now).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(usage(json!({}), "Running"), ["count/pods", "pods"]);
        assert_eq!(usage(json!({}), "Failed"), ["count/pods"]);
        let deleted =
            |grace: i64| json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace});
        assert_eq!(usage(deleted(30), "Running"), ["count/pods"]);
        assert_eq!(usage(deleted(90), "Running"), ["count/pods", "pods"]);
    }
}
