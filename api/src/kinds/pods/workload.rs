//! What kinds share that keep pods of a template: selectors, updates, counts in the status (upstream: the common
//! parts of
//! `pkg/apis/apps/validation`).

use serde_json::{Value, json};

use super::spec;
use super::warn::{self, PODS_AND_HOSTS};
use crate::kinds::rules::fill::default_pointer;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{labels, naming, numbers};
use crate::object::Object;
use crate::table::cell::number;

/// What a status says before any controller has written it.
pub(crate) fn fill_status(status: &mut Fields) {
    default_pointer(status, "replicas", 0);
}

pub(crate) const DOES_NOT_MATCH: &str = "`selector` does not match template `labels`";

/// How a kind of workload words what is wrong with its selector and template.
pub(crate) struct Wording {
    /// What the kind is called where its selector selects everything.
    empty: &'static str,
    /// What is said of a selector that is none. The template of such a one is not looked at.
    invalid: &'static str,
    /// Whose pods have no deadline.
    deadline: &'static str,
}

/// Deployments, and the ReplicaSets that they make.
pub(crate) const REPLICAS: Wording =
    Wording { empty: "deployment", invalid: "invalid label selector", deadline: "ReplicaSet" };
pub(crate) const STATEFUL_SET: Wording = Wording { empty: "statefulset", invalid: "", deadline: "StatefulSet" };

/// A selector that must be there, be valid, select something particular, and select the template's pods.
pub(crate) fn selector_and_template(spec: &Node<'_, '_>, wording: &Wording, errors: &mut Errors) {
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    let mut is_valid = true;
    if selector.is_unset() {
        errors.required(&selector, "");
    } else {
        let before = errors.0.len();
        labels::selector(&selector, errors);
        is_valid = errors.0.len() == before;
        if labels::is_empty_selector(&selector) {
            errors.invalid_value(&selector, json!({}), &format!("empty selector is invalid for {}", wording.empty));
        }
    }
    let of_set = wording.empty == STATEFUL_SET.empty;
    if !is_valid {
        errors.invalid(&selector, wording.invalid);
    } else {
        let metadata = template.field("metadata");
        if !labels::is_empty_selector(&selector) || selector.is_unset() {
            matches_template(&selector, &metadata.field("labels"), errors);
        }
        if of_set {
            spec::template_with_claims(&template, &spec.field("volumeClaimTemplates"), errors);
        } else {
            spec::template(&template, errors);
        }
    }
    if is_valid || of_set {
        always_restarts(&template.field("spec"), wording.deadline, errors);
    }
}

/// Pods that are to be there run until they are deleted.
pub(crate) fn always_restarts(pods: &Node<'_, '_>, whose: &str, errors: &mut Errors) {
    let restart = pods.field("restartPolicy");
    if restart.text() != "Always" {
        errors.push(crate::FieldError::not_supported(&restart.path(), restart.text(), &["Always"]));
    }
    let deadline = pods.field("activeDeadlineSeconds");
    if deadline.is_set() {
        errors.forbidden(&deadline, &format!("activeDeadlineSeconds in {whose} is not Supported"));
    }
}

pub(crate) fn matches_template(selector: &Node<'_, '_>, labels: &Node<'_, '_>, errors: &mut Errors) {
    if !labels::selects(selector, labels.map()) {
        errors.invalid(labels, DOES_NOT_MATCH);
    }
}

pub(crate) fn non_negative(spec: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    for key in keys {
        errors.non_negative(&spec.field(key));
    }
}

pub(crate) fn surge_shown(rolling: &Node<'_, '_>) -> Shown {
    if rolling.is_unset() {
        return Shown::Leaf(Value::Null);
    }
    Shown::fields([
        ("MaxUnavailable", rolling.field("maxUnavailable").shown()),
        ("MaxSurge", rolling.field("maxSurge").shown()),
    ])
}

pub(crate) fn rolling_update(rolling: &Node<'_, '_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
    numbers::count_or_percent(&unavailable, errors);
    numbers::count_or_percent(&surge, errors);
    if numbers::amount(&unavailable) == 0
        && numbers::amount(&surge) == 0
        && is_amount(&surge)
        && is_amount(&unavailable)
    {
        errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
    }
    numbers::not_more_than_all(&unavailable, errors);
}

/// Whether a count or percentage is well-formed.
pub(crate) fn is_amount(at: &Node<'_, '_>) -> bool {
    at.value().is_none_or(|value| value.is_number() || value.as_str().is_some_and(naming::is_percent))
}

/// What may not change in a `Deployment` or `ReplicaSet`.
pub(crate) fn selector_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec").field("selector"), &old.field("spec").field("selector"));
}

const WHOLE: &str = "cannot be greater than status.replicas";

pub(crate) fn counts(status: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    for key in keys {
        errors.non_negative(&status.field(key));
    }
}

pub(crate) fn parts(status: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    let whole = status.field("replicas").number();
    for key in keys {
        let part = status.field(key);
        if part.number() > whole {
            errors.invalid(&part, WHOLE);
        }
    }
}

pub(crate) fn available_are_ready(status: &Node<'_, '_>, errors: &mut Errors) {
    let available = status.field("availableReplicas");
    if available.number() > status.field("readyReplicas").number() {
        errors.invalid(&available, "cannot be greater than readyReplicas");
    }
}

/// The status of a `ReplicaSet` or `ReplicationController`.
pub(crate) fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    counts(
        &status,
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "terminatingReplicas",
            "observedGeneration",
        ],
        errors,
    );
    parts(&status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
    available_are_ready(&status, errors);
}

/// A kind with a pod template at `spec.template`.
pub(crate) fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_none() {
        warn::pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
    }
    if warn::is_news(new, old) {
        warn::all(&new.field("spec").field("template"), true, texts);
    }
}

pub(crate) fn ready_of_desired(object: &Object) -> Value {
    format!("{}/{}", number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"])).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_warnings;

    #[test]
    fn only_what_is_new_is_told_of_templates() {
        let text = "spec.template.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+";
        let workload_of = |generation: i64| {
            json!({"metadata": {"name": "w", "generation": generation},
                "spec": {"template": {"spec": {"volumes": [{"name": "v", "gitRepo": {}}]}}}})
        };
        check_warnings(warn, &workload_of(1), None, &[text]);
        check_warnings(warn, &workload_of(2), Some(&workload_of(1)), &[text]);
        check_warnings(warn, &workload_of(1), Some(&workload_of(1)), &[]);
    }
}
