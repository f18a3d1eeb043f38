//! What may change in a pod after its creation.

use serde_json::Value;

use super::dump;
use super::tree::{Errors, Node};

const MAY_CHANGE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                          `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                          (allow it to be set to 1 if it was previously negative)";
const SAME_NUMBER: &str = "pod updates may not add or remove containers";

/// Rules for an update of a `Pod`.
pub(crate) fn pod_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let mut stop = false;
    for list in ["containers", "initContainers"] {
        let (now, then) = (spec.field(list), before.field(list));
        if now.list().len() != then.list().len() {
            errors.forbidden(&now, SAME_NUMBER);
            stop = true;
        }
    }
    if stop {
        return;
    }
    active_deadline(&spec, &before, errors);
    scheduling_gates(&spec, &before, errors);
    tolerations(&spec, &before, errors);
    let (Some(now), Some(then)) = (spec.value(), before.value()) else { return };
    let compared = with_what_may_change(now, then);
    if &compared != then {
        let text = dump::difference(&dump::pod_spec(then), &dump::pod_spec(&compared));
        errors.forbidden(&spec, &format!("pod updates may not change fields other than {MAY_CHANGE}\n{text}"));
    }
}

fn active_deadline(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (now, then) = (new.field("activeDeadlineSeconds"), old.field("activeDeadlineSeconds"));
    match (now.integer(), then.integer()) {
        (Some(now_seconds), Some(seconds)) if now_seconds > seconds => {
            errors.invalid(&now, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(&now, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn scheduling_gates(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let gates = new.field("schedulingGates");
    for gate in gates.list().iter().filter(|gate| !old.field("schedulingGates").list().contains(gate)) {
        let name = gate.get("name").and_then(Value::as_str).unwrap_or("");
        errors.forbidden(&gates, &format!("only deletion is allowed, but found new scheduling gate '{name}'"));
    }
}

/// Tolerations may be added; of one that is there only its seconds may change.
fn tolerations(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let now = new.field("tolerations");
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(fields) = toleration.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        toleration
    };
    let kept: Vec<Value> = now.list().iter().map(without_seconds).collect();
    for toleration in old.field("tolerations").list() {
        if !kept.contains(&without_seconds(toleration)) {
            errors.forbidden(&now, "existing toleration can not be modified except its tolerationSeconds");
            return;
        }
    }
}

/// The new spec with the old values of all that may change: what then still differs may not.
fn with_what_may_change(new: &Value, old: &Value) -> Value {
    let mut spec = new.clone();
    for list in ["containers", "initContainers"] {
        let images =
            old.get(list).and_then(Value::as_array).into_iter().flatten().map(|container| container.get("image"));
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, image) in containers.zip(images) {
            restore(container, "image", image);
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates", "ephemeralContainers"] {
        restore(&mut spec, key, old.get(key));
    }
    let negative = old["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0);
    if negative && spec["terminationGracePeriodSeconds"] == 1 {
        restore(&mut spec, "terminationGracePeriodSeconds", old.get("terminationGracePeriodSeconds"));
    }
    let gated = old["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    if gated {
        gated_directives(&mut spec, old);
    }
    spec
}

fn restore(fields: &mut Value, key: &str, value: Option<&Value>) {
    let Some(fields) = fields.as_object_mut() else { return };
    match value {
        Some(value) => drop(fields.insert(key.to_owned(), value.clone())),
        None => drop(fields.remove(key)),
    }
}

/// While a pod is gated, where it may run can be narrowed.
fn gated_directives(spec: &mut Value, old: &Value) {
    let empty = serde_json::Map::new();
    let selector = |spec: &Value| spec["nodeSelector"].as_object().cloned().unwrap_or_default();
    let (now, then) = (selector(spec), selector(old));
    if then.iter().all(|(key, value)| now.get(key) == Some(value)) || then == empty {
        restore(spec, "nodeSelector", old.get("nodeSelector"));
    }
    let required = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    if old.pointer(required).is_none() {
        restore(spec, "affinity", old.get("affinity"));
    }
}

/// Rules for the subresources that change a pod's spec.
pub(crate) fn subresource_change(name: &str, new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) -> bool {
    match name {
        "ephemeralcontainers" => ephemeral_containers(new, old, errors),
        "resize" => resize(new, old, errors),
        // Who binds sets nothing but the node.
        "binding" => {}
        _ => return false,
    }
    true
}

/// Ephemeral containers can be added, and stay as they are.
fn ephemeral_containers(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    super::pod_spec::pod(new, errors);
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (now, then) = (spec.field("ephemeralContainers"), before.field("ephemeralContainers"));
    for had in then.items() {
        let name = had.field("name");
        match now.items().find(|container| container.field("name").text() == name.text()) {
            None => {
                errors.forbidden(&now, &format!("existing ephemeral containers {:?} may not be removed\n", name.text()))
            }
            Some(container) if container.value() != had.value() => {
                errors
                    .forbidden(&now, &format!("existing ephemeral containers {:?} may not be changed\n", name.text()));
            }
            Some(_) => {}
        }
    }
}

/// A running pod's containers may get more or less of CPU and memory, and nothing else may change.
fn resize(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    super::pod_spec::pod(new, errors);
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (Some(now), Some(then)) = (spec.value(), before.value()) else { return };
    let mut compared = now.clone();
    for list in ["containers", "initContainers"] {
        let had = then.get(list).and_then(Value::as_array).into_iter().flatten();
        let containers = compared.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, had) in containers.zip(had) {
            restore_compute(container, had);
        }
    }
    if &compared != then {
        let text = dump::difference(&dump::pod_spec(then), &dump::pod_spec(&compared));
        errors.forbidden(&spec, &format!("only cpu and memory resources are mutable\n{text}"));
    }
}

fn restore_compute(container: &mut Value, had: &Value) {
    for kind in ["limits", "requests"] {
        for name in ["cpu", "memory"] {
            let old = had.pointer(&format!("/resources/{kind}/{name}"));
            if old.is_some() == container.pointer(&format!("/resources/{kind}/{name}")).is_some()
                && let Some(quantities) = container.pointer_mut(&format!("/resources/{kind}"))
            {
                restore(quantities, name, old);
            }
        }
    }
}
