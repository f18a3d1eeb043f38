//! Rules for Nodes.

use std::collections::HashSet;

use super::affinity::EFFECTS;
use super::dump::{self, Shown};
use super::tree::{Errors, Node};
use super::{meta, resources, rules};

/// A `Node`.
pub(crate) fn node(node: &Node<'_, '_>, errors: &mut Errors) {
    let spec = node.field("spec");
    taints(&spec.field("taints"), errors);
    quantities(node, errors);
    let cidrs = spec.field("podCIDRs");
    let mut seen = HashSet::new();
    for cidr in cidrs.items() {
        errors.invalid_all(&cidr, rules::cidr(cidr.text()));
        if !seen.insert(cidr.text()) {
            errors.duplicate(&cidr);
        }
    }
    let families: Vec<bool> =
        cidrs.texts().filter_map(rules::parse_cidr).map(|(address, _)| address.is_ipv4()).collect();
    let dual = families.contains(&true) && families.contains(&false);
    if cidrs.list().len() > 1 && (!dual || cidrs.list().len() > 2) {
        errors.invalid(&cidrs, "may specify no more than one CIDR for each IP family");
    }
}

fn quantities(node: &Node<'_, '_>, errors: &mut Errors) {
    let status = node.field("status");
    for list in ["capacity", "allocatable"] {
        let list = status.field(list);
        // Upstream writes the names as fields.
        for (name, _) in list.entries() {
            resources::value(name, &list.field(name), errors);
        }
    }
}

/// Upstream says `metadata.taints` though they are in the spec.
fn taints(taints: &Node<'_, '_>, errors: &mut Errors) {
    let path = crate::Path::new("metadata").child("taints");
    let taints = Node::at(&path, taints.value());
    let mut seen = HashSet::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.field("key"), taint.field("value"), taint.field("effect"));
        meta::label_name(&key, errors);
        let wrong = rules::label_value(value.text());
        if !wrong.is_empty() {
            errors.invalid(&value, &wrong.join(";"));
        }
        if errors.require_text(&effect) {
            errors.one_of(&effect, &EFFECTS);
        }
        if !seen.insert((key.text(), effect.text())) {
            errors.duplicate_shown(&taint, &dump::taint(&taint), "taints must be unique by key and effect pair");
        }
    }
}

/// What may not change in a `Node`, and what its status is held to.
pub(crate) fn change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    quantities(new, errors);
    let status = new.field("status");
    let mut seen = HashSet::new();
    for address in status.field("addresses").items() {
        let (kind, text) = (address.field("type").text(), address.field("address").text());
        if !seen.insert((kind, text)) {
            let shown = Shown::fields([("Type", kind.into()), ("Address", text.into())]);
            errors.duplicate_shown(&address, &shown, "");
        }
    }
    let (spec, before) = (new.field("spec"), old.field("spec"));
    once(&spec.field("podCIDRs"), &before.field("podCIDRs"), errors);
    let (provider, had) = (spec.field("providerID"), before.field("providerID"));
    if !had.text().is_empty() && provider.text() != had.text() {
        errors.forbidden(&provider, "node updates may not change providerID except from \"\" to valid");
    }
    config(&spec.field("configSource"), errors);
    taints(&spec.field("taints"), errors);
    if spec.field("externalID").text() != before.field("externalID").text() {
        errors.forbidden(&spec.field("externalID"), "may not be updated");
    }
}

/// The ranges of a node are given once. Upstream reports each that differs.
fn once(now: &Node<'_, '_>, had: &Node<'_, '_>, errors: &mut Errors) {
    if had.is_empty() {
        return;
    }
    let same_length = now.list().len() == had.list().len();
    let differing = now.list().iter().zip(had.list()).filter(|(now, had)| now != had).count();
    for _ in 0..(if same_length { differing } else { 1 }) {
        errors.forbidden(now, "node updates may not change podCIDR except from \"\" to valid");
    }
}

/// Where kubelets of former times found their configuration.
fn config(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    let map = at.field("configMap");
    if map.is_unset() {
        errors.invalid(at, "exactly one reference subfield must be non-nil");
        return;
    }
    for key in ["uid", "resourceVersion"] {
        if !map.field(key).text().is_empty() {
            errors.forbidden(&map.field(key), &format!("{key} must not be set in spec"));
        }
    }
    let rule: [(&str, fn(&str) -> Vec<String>); 3] =
        [("namespace", rules::label), ("name", rules::subdomain), ("kubeletConfigKey", rules::config_map_key)];
    for (key, rule) in rule {
        let field = map.field(key);
        if field.text().is_empty() {
            errors.required(&field, &format!("{key} must be set"));
        } else {
            errors.invalid_all(&field, rule(field.text()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(new: &Value, old: &Value, want: &[&str]) {
        let mut errors = Errors::default();
        let (new, old) = (new.as_object().expect("an object"), old.as_object().expect("an object"));
        change(&Node::root(new), &Node::root(old), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn what_names_a_node_is_given_once() {
        check(
            &json!({"spec": {"podCIDRs": ["10.0.1.0/24"], "providerID": "b", "taints": [
                {"key": "k", "effect": "NoSchedule"}, {"key": "k", "value": "v", "effect": "NoSchedule"}]}}),
            &json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}}),
            &[
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                "metadata.taints[1]: Duplicate value: {\"Key\":\"k\",\"Value\":\"v\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: \
               taints must be unique by key and effect pair",
            ],
        );
    }
}
