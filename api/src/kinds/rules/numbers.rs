//! Rules for ports, counts and percentages (upstream: `ValidatePositiveIntOrPercent`, `ValidatePortNumOrName`).

use serde_json::Value;

use super::naming;
use super::tree::{Errors, Node};

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
