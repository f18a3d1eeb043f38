//! Labels and what selects them.

use std::collections::BTreeMap;

use crate::nodes::selector::holds;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether labels match a label selector. No selector matches nothing, an empty one everything.
pub fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|rule| {
            let values = rule.values.as_deref().unwrap_or_default();
            holds(labels.get(&rule.key).map(String::as_str), &rule.operator, values)
        })
}

/// Whether a selector asks for nothing, and so matches everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    let labels = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty);
    labels && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
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
