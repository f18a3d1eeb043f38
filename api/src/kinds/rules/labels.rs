//! Rules for labels, label selectors and the small values that many kinds share.

use std::collections::HashSet;

use serde_json::Value;

use super::naming;
use super::tree::{Errors, Fields, Node};

/// The rule for operators of selectors.
const NOT_AN_OPERATOR: &str = "not a valid selector operator";

const MOST_OF_REASON: usize = 1024;
const MOST_OF_MESSAGE: usize = 32 * 1024;
const WRONG_REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of \
                            alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                            'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex \
                            used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

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

/// The conditions of a status: each type once, with a reason that programs can read.
pub(crate) fn conditions(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut types = HashSet::new();
    for condition in at.items() {
        let kind = condition.field("type");
        if !types.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        label_name(&kind, errors);
        errors.one_of(&condition.field("status"), &["False", "True", "Unknown"]);
        let generation = condition.field("observedGeneration");
        if generation.number() < 0 {
            errors.invalid(&generation, "must be greater than or equal to zero");
        }
        if condition.field("lastTransitionTime").text().is_empty() {
            errors.required(&condition.field("lastTransitionTime"), "must be set");
        }
        condition_reason(&condition.field("reason"), errors);
        if condition.field("message").text().len() > MOST_OF_MESSAGE {
            errors.too_long(&condition.field("message"), MOST_OF_MESSAGE);
        }
    }
}

fn condition_reason(at: &Node<'_, '_>, errors: &mut Errors) {
    let text = at.text();
    if text.is_empty() {
        errors.required(at, "must be set");
        return;
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':');
    let right =
        text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(inner) && !text.ends_with([',', ':']);
    if !right {
        errors.invalid(at, WRONG_REASON);
    }
    if text.len() > MOST_OF_REASON {
        errors.too_long(at, MOST_OF_REASON);
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

/// A `NodeSelector`.
pub(crate) fn node_selector(at: &Node<'_, '_>, errors: &mut Errors) {
    let terms = at.field("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(&term, true, errors);
    }
}

/// One term of a `NodeSelector`; `strict` where its values must be ones that labels can have.
pub(crate) fn node_selector_term(at: &Node<'_, '_>, strict: bool, errors: &mut Errors) {
    for requirement in at.field("matchExpressions").items() {
        node_requirement(&requirement, errors);
        for value in requirement.field("values").items().filter(|_| strict) {
            errors.invalid_all(&value, naming::label_value(value.text()));
        }
    }
    for requirement in at.field("matchFields").items() {
        node_field_requirement(&requirement, errors);
    }
}

fn node_requirement(at: &Node<'_, '_>, errors: &mut Errors) {
    let (operator, values) = (at.field("operator"), at.field("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.list().len() != 1 => {
            errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid_value(&operator, other, NOT_AN_OPERATOR),
    }
    label_name(&at.field("key"), errors);
}

fn node_field_requirement(at: &Node<'_, '_>, errors: &mut Errors) {
    let (operator, values, key) = (at.field("operator"), at.field("values"), at.field("key"));
    match operator.text() {
        "In" | "NotIn" if values.list().len() != 1 => {
            errors
                .required(&values, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
        }
        "In" | "NotIn" => {}
        other => errors.invalid_value(&operator, other, NOT_AN_OPERATOR),
    }
    if key.text() == "metadata.name" {
        for value in values.items() {
            errors.invalid_all(&value, naming::subdomain(value.text()));
        }
    } else {
        errors.invalid_value(&key, key.text(), "not a valid field selector key");
    }
}

/// A port number.
pub(crate) fn port_number(at: &Node<'_, '_>, errors: &mut Errors) {
    if !(1..=65535).contains(&at.number()) {
        errors.invalid_value(at, at.number(), "must be between 1 and 65535, inclusive");
    }
}

/// A port as number or name.
pub(crate) fn port_number_or_name(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.value().is_some_and(Value::is_string) {
        errors.invalid_all(at, naming::port_name(at.text()));
    } else {
        port_number(at, errors);
    }
}

/// A count or a percentage of a whole; neither may be negative.
pub(crate) fn count_or_percent(at: &Node<'_, '_>, errors: &mut Errors) {
    match at.value() {
        Some(Value::String(text)) => errors.invalid_all(at, naming::percent(text)),
        Some(_) => errors.non_negative(at),
        None => {}
    }
}

/// A percentage may not exceed 100 where it says how much is missing.
pub(crate) fn not_more_than_all(at: &Node<'_, '_>, errors: &mut Errors) {
    if naming::percent_of(at.text()).is_some_and(|percent| percent > 100) {
        errors.invalid(at, "must not be greater than 100%");
    }
}

/// A count or percentage as a number, for comparing with zero.
pub(crate) fn amount(at: &Node<'_, '_>) -> i64 {
    at.integer().or_else(|| naming::percent_of(at.text())).unwrap_or(0)
}
