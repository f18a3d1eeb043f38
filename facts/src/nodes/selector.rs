//! Which nodes the terms of a pod's affinity choose.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

/// Whether a term chooses the node of this name with these labels. An empty term chooses none.
pub fn chooses_node(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let by_label = term.match_expressions.as_deref().unwrap_or_default();
    let by_field = term.match_fields.as_deref().unwrap_or_default();
    let holds = |rule: &NodeSelectorRequirement, value: Option<&str>| {
        holds(value, &rule.operator, rule.values.as_deref().unwrap_or_default())
    };
    (!by_label.is_empty() || !by_field.is_empty())
        && by_label.iter().all(|rule| holds(rule, labels.get(&rule.key).map(String::as_str)))
        && by_field.iter().all(|rule| rule.key == "metadata.name" && holds(rule, Some(name)))
}

/// Whether a requirement holds for a value; `Gt` and `Lt` compare whole numbers.
pub fn holds(value: Option<&str>, operator: &str, values: &[String]) -> bool {
    let listed = |value: &str| values.iter().any(|one| one == value);
    let numbers = || value?.parse::<i64>().ok().zip(values.first()?.parse::<i64>().ok());
    match operator {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}
