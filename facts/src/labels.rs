//! Labels and what selects them (upstream: k8s.io/apimachinery/pkg/labels, and `metav1.LabelSelectorAsSelector`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The labels of an object.
pub fn of(meta: &ObjectMeta) -> &Labels {
    static NONE: Labels = Labels::new();
    meta.labels.as_ref().unwrap_or(&NONE)
}

/// Whether labels match a label selector. No selector matches nothing, an empty one everything.
pub fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    selector.is_some_and(|selector| selects(selector, labels))
}

/// Whether a selector selects these labels; an empty one selects all.
pub fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let mut equal = selector.match_labels.iter().flatten();
    let mut rules = selector.match_expressions.iter().flatten();
    equal.all(|(key, value)| labels.get(key) == Some(value))
        && rules.all(|rule| {
            let value = labels.get(&rule.key).map(String::as_str);
            holds(value, &rule.operator, rule.values.as_deref().unwrap_or_default())
        })
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
