//! What may change in a pod after its creation.

use serde_json::Value;

use super::gated;
use crate::kinds::pods::{self, affinity, annotations};
use crate::kinds::rules::shown;
use crate::kinds::rules::tree::{self, Errors, Node, is_same};

const MAY_CHANGE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                          `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                          (allow it to be set to 1 if it was previously negative)";
const SAME_NUMBER: &str = "pod updates may not add or remove containers";

/// Rules for an update of a `Pod`.
pub(crate) fn change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    annotations(new, old, errors);
    for list in ["containers", "initContainers"] {
        let (now, then) = (spec.field(list), before.field(list));
        if now.list().len() != then.list().len() {
            errors.forbidden(&now, SAME_NUMBER);
            return;
        }
        now.items().for_each(|container| image(&container.field("image"), errors));
    }
    if !active_deadline(&spec, &before, errors) {
        return;
    }
    tolerations(&spec, &before, errors);
    scheduling_gates(&spec, &before, errors);
    let (Some(now), Some(then)) = (spec.value(), before.value()) else { return };
    if !before.field("schedulingGates").is_empty() {
        gated::directives(&spec, &before, errors);
    }
    let compared = with_what_may_change(now, then);
    if !is_same(Some(&compared), Some(then)) {
        let text = shown::difference(&pods::shown::pod_spec(then), &pods::shown::pod_spec(&compared));
        errors.forbidden(&spec, &format!("pod updates may not change fields other than {MAY_CHANGE}\n{text}"));
    }
}

/// Upstream's rules for a change hold those for images once more.
fn image(at: &Node<'_, '_>, errors: &mut Errors) {
    errors.require_text(at);
    if at.text().trim() != at.text() {
        errors.invalid(at, "must not have leading or trailing whitespace");
    }
}

/// Upstream's rules for a change of the annotations hold those for annotations once more.
fn annotations(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, before) = (new.field("metadata"), old.field("metadata"));
    let (now, then) = (metadata.field("annotations"), before.field("annotations"));
    annotations::change(&now, &then, errors);
    annotations::rules(&now, &new.field("spec"), errors);
}

/// A deadline only gets shorter. Answers whether to go on.
fn active_deadline(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) -> bool {
    let (now, then) = (new.field("activeDeadlineSeconds"), old.field("activeDeadlineSeconds"));
    match (now.integer(), then.integer()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(&now, "must be between 0 and 2147483647, inclusive");
            return false;
        }
        (Some(seconds), Some(had)) if seconds > had => {
            errors.invalid(&now, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => errors.invalid(&now, "must not update from a positive integer to nil value"),
        _ => {}
    }
    true
}

fn scheduling_gates(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let had = old.field("schedulingGates");
    for gate in new.field("schedulingGates").items() {
        let name = gate.field("name");
        if !had.items().any(|one| one.field("name").text() == name.text()) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
            errors.forbidden(&name, &why);
        }
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
    affinity::tolerations(&now, errors);
}

/// The new spec with the old values of all that may change: what then still differs may not.
fn with_what_may_change(new: &Value, old: &Value) -> Value {
    let mut spec = new.clone();
    for list in ["containers", "initContainers"] {
        let images =
            old.get(list).and_then(Value::as_array).into_iter().flatten().map(|container| container.get("image"));
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, image) in containers.zip(images) {
            tree::restore(container, "image", image);
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        tree::restore(&mut spec, key, old.get(key));
    }
    let negative = old["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0);
    if negative && spec["terminationGracePeriodSeconds"] == 1 {
        tree::restore(&mut spec, "terminationGracePeriodSeconds", old.get("terminationGracePeriodSeconds"));
    }
    if old["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        gated::restore_directives(&mut spec, old);
    }
    spec
}
