//! Rules for conditions (upstream: `ValidateConditions`).

use std::collections::HashSet;

use super::labels;
use super::tree::{Errors, Node};

const MOST_OF_REASON: usize = 1024;
const MOST_OF_MESSAGE: usize = 32 * 1024;
const WRONG_REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of \
                            alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                            'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex \
                            used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// The conditions of a status: each type once, with a reason that programs can read.
pub(crate) fn conditions(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut types = HashSet::new();
    for condition in at.items() {
        let kind = condition.field("type");
        if !types.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        labels::label_name(&kind, errors);
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
