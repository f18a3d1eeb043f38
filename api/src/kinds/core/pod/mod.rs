//! Pods: what the server decides at creation, on status writes and on deletion (upstream: `pkg/registry/core/pod`).

mod cells;
mod gated;
mod status;
mod subresources;
mod update;
mod warn;

use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub, field};
use crate::kinds::pods::volumes::Owner;
use crate::kinds::pods::{annotations, defaults, gates, resources, spec};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, each, object, object_at, text};
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::Row;

pub(crate) const KIND: Kind = Kind {
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        Sub::of("attach", ("", "v1", "PodAttachOptions"), Sub::CONNECT),
        Sub::of("binding", ("", "v1", "Binding"), Sub::CREATE),
        Sub::own("ephemeralcontainers", Sub::CHANGE),
        Sub::of("eviction", ("policy", "v1", "Eviction"), Sub::CREATE),
        Sub::of("exec", ("", "v1", "PodExecOptions"), Sub::CONNECT),
        Sub::own("log", &["get"]),
        Sub::of("portforward", ("", "v1", "PodPortForwardOptions"), Sub::CONNECT),
        Sub::proxy("PodProxyOptions"),
        Sub::own("resize", Sub::CHANGE),
        Sub::STATUS,
    ],
    has_generation: true,
    fields: &[
        field("spec.nodeName"),
        field("spec.restartPolicy"),
        field("spec.schedulerName"),
        field("spec.serviceAccountName"),
        field("spec.hostNetwork").or("false"),
        field("status.phase"),
        field("status.podIP"),
        field("status.nominatedNodeName"),
    ],
    cells: &[Row(cells::cells)],
    default,
    fill_status: Some(fill_status),
    gated: gates::POD,
    prepare_create,
    prepare_status,
    validate,
    validate_new,
    validate_change: update::change,
    validate_status: status::validate,
    validate_subresource: subresources::change,
    warn: warn::pod,
    warn_prepared: warn::app_armor,
    warn_status: warn::status,
    rechecks: (1, 1),
    delete_returns_object: true,
    grace_period,
    ..Kind::namespaced("pods", "Pod")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    defaults::pod_spec(spec);
    default_pointer(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        each(spec, list, defaults::requests_from_limits);
    }
    resources::default_pod_level(spec);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| each(container, "ports", defaults::host_port));
        }
    }
    fill::object(object.root_mut(), "status");
}

/// The single address of a status is the first of the list; what Go always shows is there.
fn fill_status(status: &mut Fields) {
    let first = status.get("podIPs").and_then(|list| list.pointer("/0/ip")).cloned();
    if let Some(first) = first {
        status.insert("podIP".to_owned(), first);
    } else if !text(status, "podIP").is_empty() {
        let list = json!([{"ip": text(status, "podIP")}]);
        status.insert("podIPs".to_owned(), list);
    }
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        each(status, list, |container| {
            for state in ["state", "lastState"] {
                if let Some(ended) = object_at(object(container, state), "terminated") {
                    default_pointer(ended, "exitCode", 0);
                    default_pointer(ended, "startedAt", Value::Null);
                    default_pointer(ended, "finishedAt", Value::Null);
                }
                if let Some(running) = object_at(object(container, state), "running") {
                    default_pointer(running, "startedAt", Value::Null);
                }
            }
            default_pointer(container, "ready", false);
            default_pointer(container, "restartCount", 0);
            default_pointer(container, "image", "");
            default_pointer(container, "imageID", "");
        });
    }
    each(status, "conditions", |condition| {
        default_pointer(condition, "lastProbeTime", Value::Null);
        default_pointer(condition, "lastTransitionTime", Value::Null);
    });
}

/// A new pod is pending; its quality of service class never changes afterwards.
fn prepare_create(ctx: &WriteContext<'_>, new: &mut Object) {
    let labels = new.labels().cloned().unwrap_or_default();
    let annotations = new.get(&["metadata", "annotations"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let spec = object(new.root_mut(), "spec");
    merge_match_label_keys(spec, &labels);
    at_least_one_second(spec);
    fields_for_annotations(spec, &annotations);
    let mut status = json!({"phase": "Pending", "qosClass": resources::qos_class(spec)});
    if spec.get("schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": naming::time(ctx.now), "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    new.set(&["status"], status);
}

/// A negative grace period is one second.
fn at_least_one_second(spec: &mut Fields) {
    const SECONDS: &str = "terminationGracePeriodSeconds";
    if spec.get(SECONDS).and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        spec.insert(SECONDS.to_owned(), 1.into());
    }
}

/// What AppArmor does to a container was once an annotation; nodes look at the field only.
fn fields_for_annotations(spec: &mut Fields, annotations: &Fields) {
    if spec.get("os").and_then(|os| os["name"].as_str()) == Some("windows") {
        return;
    }
    let of_pod = spec.get("securityContext").and_then(|context| context.get("appArmorProfile")).cloned();
    for list in ["initContainers", "containers"] {
        each(spec, list, |container| {
            let key = format!("{}{}", annotations::APP_ARMOR, text(container, "name"));
            let annotation = annotations.get(&key).and_then(Value::as_str);
            let profile = annotation.and_then(annotations::app_armor_profile);
            let own = container.get("securityContext").and_then(|context| context.get("appArmorProfile"));
            if let Some(profile) = profile.filter(|profile| own.is_none() && of_pod.as_ref() != Some(profile)) {
                object(container, "securityContext").insert("appArmorProfile".to_owned(), profile);
            }
        });
    }
}

/// A status write cannot take away the quality of service class.
fn prepare_status(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let path = ["status", "qosClass"];
    if new.text(&path).is_empty()
        && let Some(class) = old.get(&path).cloned()
    {
        new.set(&path, class);
    }
    keep_observed_generations(new, old);
    if let Some(owners) = old.get(&["metadata", "ownerReferences"]).cloned() {
        new.set_metadata("ownerReferences", owners);
    } else {
        new.metadata_mut().remove("ownerReferences");
    }
}

/// What generation a status and its conditions have seen is not forgotten by who does not know of it. Conditions of one
/// type are told apart by their order.
fn keep_observed_generations(new: &mut Object, old: &Object) {
    const SEEN: &str = "observedGeneration";
    let seen = |fields: &Value| fields.get(SEEN).cloned().filter(|seen| seen.as_i64() != Some(0));
    let Some(before) = old.get(&["status"]) else { return };
    let Some(status) = new.get_mut(&["status"]).and_then(Value::as_object_mut) else { return };
    if let Some(before) = seen(before) {
        default_zero(status, SEEN, before);
    }
    let mut had: Vec<&Value> = before.get("conditions").and_then(Value::as_array).into_iter().flatten().collect();
    each(status, "conditions", |condition| {
        let Some(at) = had.iter().position(|old| old.get("type") == condition.get("type")) else { return };
        if let Some(before) = seen(had.remove(at)) {
            default_zero(condition, SEEN, before);
        }
    });
}

/// The seconds a pod gets to end: those asked for, else its own. One that runs nowhere, or is over, ends at once.
fn grace_period(pod: &Object, asked: Option<i64>) -> Option<i64> {
    if pod.text(&["spec", "nodeName"]).is_empty() || matches!(pod.text(&["status", "phase"]), "Failed" | "Succeeded") {
        return Some(0);
    }
    let seconds = asked.or_else(|| pod.integer(&["spec", "terminationGracePeriodSeconds"])).unwrap_or(0);
    Some(if seconds < 0 { 1 } else { seconds })
}

/// `matchLabelKeys` and `mismatchLabelKeys` become part of the selectors, with the values of the pod's own labels.
fn merge_match_label_keys(spec: &mut Fields, labels: &Fields) {
    if let Some(affinity) = object_at(spec, "affinity") {
        for kind in ["podAffinity", "podAntiAffinity"] {
            let Some(terms) = object_at(affinity, kind) else { continue };
            each(terms, "requiredDuringSchedulingIgnoredDuringExecution", |term| merge_term(term, labels));
            each(terms, "preferredDuringSchedulingIgnoredDuringExecution", |weighted| {
                if let Some(term) = object_at(weighted, "podAffinityTerm") {
                    merge_term(term, labels);
                }
            });
        }
    }
    each(spec, "topologySpreadConstraints", |constraint| merge_term(constraint, labels));
}

fn merge_term(term: &mut Fields, labels: &Fields) {
    if !term.get("labelSelector").is_some_and(Value::is_object) {
        return;
    }
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        for key in keys.iter().filter_map(Value::as_str) {
            let Some(value) = labels.get(key) else { continue };
            let requirement = json!({"key": key, "operator": operator, "values": [value]});
            let expressions = object(term, "labelSelector").entry("matchExpressions").or_insert_with(|| json!([]));
            match expressions {
                Value::Array(list) => list.push(requirement),
                other => *other = json!([requirement]),
            }
        }
    }
}

/// A new or changed `Pod`.
pub(crate) fn validate(pod: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, at) = (pod.field("metadata"), pod.field("spec"));
    annotations::rules(&metadata.field("annotations"), &at, errors);
    spec::spec(&at, Owner { pod: metadata.field("name").text(), is_pod: true }, None, errors);
    if at.field("serviceAccountName").text().is_empty() {
        for volume in at.field("volumes").items() {
            for source in volume.field("projected").field("sources").items() {
                let token = source.field("serviceAccountToken");
                if token.is_set() {
                    errors.forbidden(&token, "must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
}

/// Rules that hold for new pods only.
fn validate_new(pod: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (pod.field("metadata"), pod.field("spec"));
    let ephemeral = spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "cannot be set on create");
    }
    let gates = spec.field("schedulingGates");
    if !spec.field("nodeName").text().is_empty() && !gates.is_empty() {
        errors.forbidden(&spec.field("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotations::match_fields(&metadata.field("annotations"), &spec, errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, phase: &str) -> Object {
        let tree = json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
        Object::from_value(tree).expect("an object")
    }

    #[test]
    fn an_annotation_becomes_the_field() {
        let annotations = json!({
            "container.apparmor.security.beta.kubernetes.io/a": "runtime/default",
            "container.apparmor.security.beta.kubernetes.io/b": "localhost/p",
            "container.apparmor.security.beta.kubernetes.io/c": "localhost/",
        });
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
            "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        let fields = spec.as_object_mut().expect("an object");
        fields_for_annotations(fields, annotations.as_object().expect("an object"));
        let want = json!([{"name": "a"}, {"name": "b", "securityContext": {
            "appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}}, {"name": "c"}]);
        assert_eq!(spec["containers"], want);
    }

    #[test]
    fn only_a_pod_that_may_run_ends_gracefully() {
        assert_eq!(grace_period(&pod("n", "Running"), None), Some(30));
        assert_eq!(grace_period(&pod("n", "Running"), Some(5)), Some(5));
        assert_eq!(grace_period(&pod("n", "Running"), Some(-7)), Some(1));
        assert_eq!(grace_period(&pod("n", "Running"), Some(0)), Some(0));
        assert_eq!(grace_period(&pod("", "Pending"), None), Some(0));
        assert_eq!(grace_period(&pod("n", "Succeeded"), None), Some(0));
    }

    #[test]
    fn defaulting_a_pod_twice_changes_nothing() {
        let pod_json = json!({"spec": {"hostNetwork": true, "serviceAccount": "a", "containers": [{"name": "c",
            "ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}}}], "volumes": [{"name": "v"}]}});
        let mut once = Object::from_value(pod_json).expect("an object");
        default(&mut once);
        let mut twice = once.clone();
        default(&mut twice);
        assert_eq!(once, twice);
        assert_eq!(once.text(&["spec", "serviceAccountName"]), "a");
        let first = &once.root()["spec"]["containers"][0];
        assert_eq!(first["ports"][0]["hostPort"], 1);
        assert_eq!(first["resources"]["requests"]["cpu"], "1");
    }
}
