//! Rules for selectors of nodes, and how error texts show them (upstream: `ValidateNodeSelector`).

use serde_json::Value;

use super::labels::{self, NOT_AN_OPERATOR};
use super::naming;
use super::shown::{Shown, Table};
use super::tree::{Errors, Node};
use crate::kinds::rules::shown::Shape::{Any, List, Text};

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
    labels::label_name(&at.field("key"), errors);
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

const REQUIREMENT: Table = &[("Key", "key", Text), ("Operator", "operator", Text), ("Values", "values", Any)];
pub(crate) const SHOWN_TERM: Table =
    &[("MatchExpressions", "matchExpressions", List(REQUIREMENT)), ("MatchFields", "matchFields", List(REQUIREMENT))];

/// A term of a node selector.
pub(crate) fn shown_term(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), SHOWN_TERM)
}

/// The terms of a node selector.
pub(crate) fn shown_terms(at: &Node<'_, '_>) -> Shown {
    if at.is_unset() {
        Shown::Leaf(Value::Null)
    } else {
        Shown::List(at.items().map(|term| shown_term(&term)).collect())
    }
}
