//! Matching labels against the selectors of a spec.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::framework::NodeInfo;

/// Whether labels match a label selector. No selector matches nothing, an empty one everything.
pub(super) fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|rule| {
            let values = rule.values.as_deref().unwrap_or_default();
            compare(labels.get(&rule.key).map(String::as_str), &rule.operator, values)
        })
}

/// Whether a node matches a term. An empty term matches nothing.
pub(super) fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let holds = |rule: &NodeSelectorRequirement, value: Option<&str>| {
        compare(value, &rule.operator, rule.values.as_deref().unwrap_or_default())
    };
    (!labels.is_empty() || !fields.is_empty())
        && labels.iter().all(|rule| holds(rule, node.labels().get(&rule.key).map(String::as_str)))
        && fields.iter().all(|rule| rule.key == "metadata.name" && holds(rule, Some(&node.name)))
}

fn compare(value: Option<&str>, operator: &str, values: &[String]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(selector: Value, want: bool) {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("n".to_owned(), "7".to_owned())]);
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        assert_eq!(matches(Some(&selector), &labels), want, "{selector:?}");
    }

    #[test]
    fn selectors_match_as_the_api_says() {
        check(json!({}), true);
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "db"}}), false);
        check(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}), true);
        check(json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["db"]}]}), true);
        check(json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), false);
        assert!(!matches(None, &BTreeMap::new()));
    }
}
