//! Which nodes a pod, a volume or a profile chooses (upstream: k8s.io/component-helpers/scheduling/corev1/nodeaffinity).

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::labels::{self, Labels, holds};

/// Whether a pod may be on a node: by its node selector and what its node affinity requires.
pub fn allows(spec: &PodSpec, node: &Node) -> bool {
    let (name, labels) = (node.metadata.name.as_deref().unwrap_or_default(), labels::of(&node.metadata));
    spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && required(spec).is_none_or(|selector| chooses(selector, name, labels))
}

/// The nodes that a pod's affinity requires.
pub fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    spec.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
}

/// Whether one of the terms of a selector chooses the node of this name with these labels.
pub fn chooses(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    selector.node_selector_terms.iter().any(|term| fits(term, name, labels))
}

/// Whether a term chooses the node. An empty term chooses none.
pub fn fits(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let by_label = term.match_expressions.as_deref().unwrap_or_default();
    let by_field = term.match_fields.as_deref().unwrap_or_default();
    let holds = |rule: &NodeSelectorRequirement, value: Option<&str>| {
        holds(value, &rule.operator, rule.values.as_deref().unwrap_or_default())
    };
    (!by_label.is_empty() || !by_field.is_empty())
        && by_label.iter().all(|rule| holds(rule, labels.get(&rule.key).map(String::as_str)))
        && by_field.iter().all(|rule| rule.key == "metadata.name" && holds(rule, Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, want: bool) {
        let node = json!({"metadata": {"name": "n", "labels": {"zone": "a", "cores": "8"}}});
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(allows(&spec, &serde_json::from_value(node).unwrap()), want, "{spec:?}");
    }

    #[test]
    fn selectors_choose_by_labels() {
        check(json!({"containers": []}), true);
        check(json!({"containers": [], "nodeSelector": {"zone": "a"}}), true);
        check(json!({"containers": [], "nodeSelector": {"zone": "b"}}), false);
    }

    fn check_terms(terms: Value, want: bool) {
        let required = json!({"nodeSelectorTerms": terms});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
        check(json!({"containers": [], "affinity": affinity}), want);
    }

    #[test]
    fn terms_are_alternatives_of_which_an_empty_one_chooses_nothing() {
        let rule = |operator: &str, value: &str| json!({"key": "cores", "operator": operator, "values": [value]});
        let name = |name: &str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
        check_terms(json!([{}]), false);
        check_terms(json!([{"matchExpressions": []}]), false);
        check_terms(json!([{"matchExpressions": [rule("Gt", "4"), rule("Lt", "16")]}]), true);
        check_terms(json!([{"matchExpressions": [rule("Gt", "8")]}]), false);
        check_terms(json!([{"matchExpressions": [rule("Gt", "8")]}, {"matchFields": [name("n")]}]), true);
        check_terms(json!([{"matchFields": [name("m")]}]), false);
    }
}
