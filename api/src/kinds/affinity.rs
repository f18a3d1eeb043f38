//! Rules for affinity, tolerations and topology spread.

use std::collections::HashSet;

use super::tree::{Errors, Node};
use super::{meta, rules};

/// What taints do to pods.
pub(crate) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The `affinity` of a pod.
pub(crate) fn affinity(at: &Node<'_, '_>, errors: &mut Errors) {
    let node = at.field("nodeAffinity");
    let required = node.field("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        meta::node_selector(&required, errors);
    }
    for preferred in node.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred, errors);
        meta::node_selector_term(&preferred.field("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = at.field(kind);
        for term in pods.field("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(&term, errors);
        }
        for preferred in pods.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&preferred, errors);
            pod_term(&preferred.field("podAffinityTerm"), errors);
        }
    }
}

fn weight(at: &Node<'_, '_>, errors: &mut Errors) {
    let weight = at.field("weight");
    if !(1..=100).contains(&weight.number()) {
        errors.invalid_value(&weight, weight.number(), "must be in the range 1-100");
    }
}

fn pod_term(at: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["labelSelector", "namespaceSelector"] {
        meta::selector(&at.field(key), errors);
    }
    let namespaces = at.field("namespaces");
    for namespace in namespaces.items() {
        errors.invalid_all(&namespace, rules::label(namespace.text()));
    }
    let topology = at.field("topologyKey");
    if topology.text().is_empty() {
        errors.required(&topology, "can not be empty");
    } else {
        meta::label_name(&topology, errors);
    }
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        match_label_keys(at, list, errors);
    }
}

fn match_label_keys(at: &Node<'_, '_>, list: &str, errors: &mut Errors) {
    let keys = at.field(list);
    if !keys.is_empty() && at.field("labelSelector").is_unset() {
        errors.forbidden(&keys, "must not be specified when labelSelector is not set");
    }
    for key in keys.items() {
        meta::label_name(&key, errors);
    }
}

/// The `tolerations` of a pod.
pub(crate) fn tolerations(at: &Node<'_, '_>, errors: &mut Errors) {
    for toleration in at.items() {
        let (key, operator, value) = (toleration.field("key"), toleration.field("operator"), toleration.field("value"));
        let effect = toleration.field("effect");
        if !key.text().is_empty() {
            meta::label_name(&key, errors);
        } else if operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid_value(&operator, operator.text(), why);
        }
        if toleration.field("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            errors.invalid_value(&effect, effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "" | "Equal" => {
                for why in rules::label_value(value.text()) {
                    errors.invalid_value(&operator, value.text(), &why);
                }
            }
            "Exists" if !value.text().is_empty() => {
                errors.invalid_value(&operator, value.text(), "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => errors.one_of(&operator, &["Equal", "Exists"]),
        }
        if !effect.text().is_empty() {
            errors.one_of(&effect, &EFFECTS);
        }
    }
}

/// The `topologySpreadConstraints` of a pod.
pub(crate) fn topology_spread(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for constraint in at.items() {
        let (skew, key, action) =
            (constraint.field("maxSkew"), constraint.field("topologyKey"), constraint.field("whenUnsatisfiable"));
        if skew.number() <= 0 {
            errors.invalid_value(&skew, skew.number(), "must be greater than zero");
        }
        if key.text().is_empty() {
            errors.required(&key, "can not be empty");
        } else {
            meta::label_name(&key, errors);
        }
        errors.one_of(&action, &["DoNotSchedule", "ScheduleAnyway"]);
        if !seen.insert((key.text(), action.text())) {
            let both = constraint.field("{topologyKey, whenUnsatisfiable}");
            errors.duplicate_value(&both, format!("{{{}, {}}}", key.text(), action.text()));
        }
        let domains = constraint.field("minDomains");
        if domains.is_set() {
            if domains.number() <= 0 {
                errors.invalid(&domains, "must be greater than zero");
            }
            if action.text() != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
                errors.invalid(&domains, &why);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.none_or_one_of(&constraint.field(policy), &["Honor", "Ignore"]);
        }
        match_label_keys(&constraint, "matchLabelKeys", errors);
        meta::selector(&constraint.field("labelSelector"), errors);
    }
}
