//! Rules for affinity, tolerations and topology spread.

use std::collections::HashSet;

use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming, node_selector};

/// What taints do to pods.
pub(crate) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

const POSITIVE: &str = "must be greater than zero";

/// The `affinity` of a pod.
pub(crate) fn affinity(at: &Node<'_, '_>, errors: &mut Errors) {
    let node = at.field("nodeAffinity");
    let required = node.field("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector::node_selector(&required, errors);
    }
    for preferred in node.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred, errors);
        // Such a term can do its work with a value that no label can have.
        node_selector::node_selector_term(&preferred.field("preference"), false, errors);
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
        labels::selector(&at.field(key), errors);
    }
    // Upstream's path is neither the list's nor the element's.
    let shown = at.field("namespace");
    for name in at.field("namespaces").texts() {
        for why in naming::label(name) {
            errors.invalid_value(&shown, name, &why);
        }
    }
    match_label_keys(at, errors);
    let topology = at.field("topologyKey");
    if topology.text().is_empty() {
        errors.required(&topology, "can not be empty");
    }
    for why in naming::qualified_name(topology.text()) {
        errors.invalid_value(&topology, topology.text(), &why);
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys`, which add to the selector, and so must not be in it already.
fn match_label_keys(at: &Node<'_, '_>, errors: &mut Errors) {
    let (keys, others, selector) =
        (at.field("matchLabelKeys"), at.field("mismatchLabelKeys"), at.field("labelSelector"));
    for list in [&keys, &others] {
        if !list.is_empty() && selector.is_unset() {
            errors.forbidden(list, "must not be specified when labelSelector is not set");
        } else {
            list.items().for_each(|key| labels::label_name(&key, errors));
        }
    }
    let labels = selector.field("matchLabels");
    let mut selected: HashSet<&str> = labels.entries().map(|(key, _)| key).collect();
    for expression in selector.field("matchExpressions").items() {
        let key = expression.field("key").text();
        // The expression that the server made of the key comes last.
        let index = keys.texts().position(|one| one == key);
        if !selected.insert(key)
            && let Some(index) = index
        {
            errors.invalid_value(&at.index(index), key, "exists in both matchLabelKeys and labelSelector");
        }
    }
    let others: HashSet<&str> = others.texts().collect();
    for key in keys.items().filter(|key| others.contains(key.text())) {
        errors.invalid(&key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

/// The `tolerations` of a pod.
pub(crate) fn tolerations(at: &Node<'_, '_>, errors: &mut Errors) {
    for toleration in at.items() {
        let (key, operator, value) = (toleration.field("key"), toleration.field("operator"), toleration.field("value"));
        let effect = toleration.field("effect");
        if !key.text().is_empty() {
            labels::label_name(&key, errors);
        } else if operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid_value(&operator, operator.text(), why);
        }
        if toleration.field("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            errors.invalid_value(&effect, effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "" | "Equal" => {
                let wrong = naming::label_value(value.text());
                if !wrong.is_empty() {
                    errors.invalid_value(&operator, value.text(), &wrong.join(";"));
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
    for (index, constraint) in at.items().enumerate() {
        let (skew, key, action) =
            (constraint.field("maxSkew"), constraint.field("topologyKey"), constraint.field("whenUnsatisfiable"));
        if skew.number() <= 0 {
            errors.invalid_value(&skew, skew.number(), POSITIVE);
        }
        if key.text().is_empty() {
            errors.required(&key, "can not be empty");
        }
        errors.one_of(&action, &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |other: &Node<'_, '_>| {
            other.field("topologyKey").text() == key.text() && other.field("whenUnsatisfiable").text() == action.text()
        };
        if at.items().skip(index + 1).any(|other| same(&other)) {
            let both = constraint.field("{topologyKey, whenUnsatisfiable}");
            errors.duplicate_value(&both, format!("{{{}, {}}}", key.text(), action.text()));
        }
        let domains = constraint.field("minDomains");
        if domains.is_set() {
            if domains.number() <= 0 {
                errors.invalid(&domains, POSITIVE);
            }
            if action.text() != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
                errors.invalid(&domains, &why);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.none_or_one_of(&constraint.field(policy), &["Honor", "Ignore"]);
        }
        match_label_keys(&constraint, errors);
        labels::selector(&constraint.field("labelSelector"), errors);
    }
}
