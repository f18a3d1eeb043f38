//! Rules for labels, annotations and selectors of labels (upstream: `apimachinery/pkg/apis/meta/v1/validation`).

use serde_json::Value;

use super::naming;
use super::tree::{Errors, Fields, Node};

/// The rule for operators of selectors.
pub(crate) const NOT_AN_OPERATOR: &str = "not a valid selector operator";

/// Labels, or any map that is written like labels.
pub(crate) fn labels(at: &Node<'_, '_>, errors: &mut Errors) {
    for (key, entry) in at.entries() {
        for why in naming::qualified_name(key) {
            errors.invalid_value(at, key, &why);
        }
        for why in naming::label_value(entry.text()) {
            errors.invalid_value(at, entry.text(), &why);
        }
    }
}

/// Annotations, whose names may have capital letters in their domain.
pub(crate) fn annotations(at: &Node<'_, '_>, errors: &mut Errors) {
    /// Upstream's limit for all annotations together.
    const MOST: usize = 256 * 1024;
    let mut size = 0;
    for (key, value) in at.entries() {
        for why in naming::qualified_name(&key.to_lowercase()) {
            errors.invalid_value(at, key, &why);
        }
        size += key.len() + value.text().len();
    }
    if size > MOST {
        errors.too_long(at, MOST);
    }
}

/// The name of a label.
pub(crate) fn label_name(at: &Node<'_, '_>, errors: &mut Errors) {
    for why in naming::qualified_name(at.text()) {
        errors.invalid_value(at, at.text(), &why);
    }
}

/// A `LabelSelector`.
pub(crate) fn selector(at: &Node<'_, '_>, errors: &mut Errors) {
    labels(&at.field("matchLabels"), errors);
    for requirement in at.field("matchExpressions").items() {
        let (operator, values) = (requirement.field("operator"), requirement.field("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid_value(&operator, other, NOT_AN_OPERATOR),
        }
        label_name(&requirement.field("key"), errors);
        for value in values.items() {
            errors.invalid_all(&value, naming::label_value(value.text()));
        }
    }
}

/// Whether a selector has no requirement: it selects everything.
pub(crate) fn is_empty_selector(at: &Node<'_, '_>) -> bool {
    at.field("matchLabels").is_empty() && at.field("matchExpressions").is_empty()
}

/// Whether a selector is there and selects everything.
pub(crate) fn is_everything(at: &Node<'_, '_>) -> bool {
    at.is_set() && is_empty_selector(at)
}

/// Whether a `LabelSelector` selects an object with these labels; an absent selector selects nothing.
pub(crate) fn selects(at: &Node<'_, '_>, labels: Option<&Fields>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    at.is_set()
        && at.field("matchLabels").entries().all(|(key, value)| label(key) == Some(value.text()))
        && at.field("matchExpressions").items().all(|requirement| {
            let value = label(requirement.field("key").text());
            let listed = value.is_some_and(|value| requirement.field("values").texts().any(|one| one == value));
            match requirement.field("operator").text() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Who says in a label that it looks after an object.
pub(crate) fn manager<'v>(object: &Node<'_, 'v>, label: &str) -> &'v str {
    let labels = object.map().and_then(|fields| fields.get("metadata")?.get("labels"));
    labels.and_then(|labels| labels.get(label)).and_then(Value::as_str).unwrap_or("")
}
