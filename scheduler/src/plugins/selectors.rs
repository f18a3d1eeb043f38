//! Matching labels against the selectors of a spec.

use std::collections::BTreeMap;

use api::selector::{chooses_node, holds};
use k8s_openapi::api::core::v1::NodeSelectorTerm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::framework::NodeInfo;

/// Whether labels match a label selector. No selector matches nothing, an empty one everything.
pub(super) fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|rule| {
            let values = rule.values.as_deref().unwrap_or_default();
            holds(labels.get(&rule.key).map(String::as_str), &rule.operator, values)
        })
}

/// Whether a node matches a term. An empty term matches nothing.
pub(super) fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    chooses_node(term, &node.name, node.labels())
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
