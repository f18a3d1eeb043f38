//! What work costs when it is done (cel-go: `interpreter.CostTracker`). The unit is about the time of one simple
//! operation.

use crate::cost::{
    REGEX_FACTOR, SizeRange, TEXT_FACTOR, authorizer_cost, is_nominal, is_simple, scaled, selector_cost,
};
use crate::function::Overload;
use crate::value::{Map, Value};

pub(super) const NAME: u64 = 1;
pub(super) const LIST: u64 = 10;
pub(super) const MAP: u64 = 30;
pub(super) const OBJECT: u64 = 40;

/// What a call costs, as far as its arguments tell. `None` when only the result does.
pub(super) fn before(function: &str, overloads: &[Overload], values: &[Value<'_>]) -> Option<u64> {
    let size = |at: usize| values.get(at).map_or(1, Value::size);
    let text = |at: usize, factor: f64| scaled(size(at), factor);
    let is_text = matches!(values.first(), Some(Value::String(_) | Value::Bytes(_)));
    if let Some(cost) = authorizer_cost(function) {
        return Some(cost);
    }
    Some(match function {
        "fieldSelector" | "labelSelector" => selector_cost(SizeRange::fixed(size(1))).max,
        "_==_" if values.first().is_some_and(is_compared_at_once) => 1,
        "_==_" | "_!=_" => scaled(size(0).min(size(1)), TEXT_FACTOR),
        "_<_" | "_<=_" | "_>_" | "_>=_" if is_text => scaled(size(0).min(size(1)), TEXT_FACTOR),
        "_+_" if is_text => scaled(size(0).saturating_add(size(1)), TEXT_FACTOR),
        "@in" if matches!(values.get(1), Some(Value::List(_))) => size(1),
        "startsWith" | "endsWith" => text(1, TEXT_FACTOR),
        "string" | "bytes" if is_text => text(0, TEXT_FACTOR),
        "matches" | "find" | "findAll" => {
            let length = scaled(size(0).saturating_add(1), TEXT_FACTOR);
            length.saturating_mul(text(1, REGEX_FACTOR))
        }
        "contains" => text(0, TEXT_FACTOR).saturating_mul(text(1, TEXT_FACTOR)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => values.first().map_or(1, traversal),
        "url" | "isURL" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "charAt" | "strings.quote"
        | "reverse" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" | "format" => {
            text(0, TEXT_FACTOR)
        }
        "validate" => {
            let length = scaled(size(1).saturating_add(1), TEXT_FACTOR);
            length.saturating_mul(text(0, REGEX_FACTOR))
        }
        "ip" if overloads.iter().any(|overload| &*overload.id == "cidr_ip") => 1,
        "ip" => text(0, TEXT_FACTOR),
        "replace" | "split" | "ip.isCanonical" => text(0, 2.0 * TEXT_FACTOR),
        "containsIP" | "containsCIDR" => containment(function, values),
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2),
        "distinct" | "sort" | "@sortByAssociatedKeys" => size(0).saturating_mul(size(0)).max(1),
        "flatten" | "slice" | "first" | "last" => size(0).max(1),
        "lists.range" => range_cost(values.first()),
        "join" => return None,
        name if is_nominal(name) => 1,
        _ => 1,
    })
}

/// What a call costs by what it made.
pub(super) fn after(function: &str, result: &Value<'_>) -> u64 {
    match function {
        "join" => scaled(result.size(), 2.0 * TEXT_FACTOR),
        _ => 0,
    }
}

/// Formats and addresses are short, however they are compared.
fn is_compared_at_once(value: &Value<'_>) -> bool {
    match value {
        Value::Opaque(value) => {
            matches!(value.type_name(), "kubernetes.NamedFormat" | "kubernetes.URL") || is_simple(value.type_name())
        }
        _ => false,
    }
}

fn range_cost(count: Option<&Value<'_>>) -> u64 {
    match count {
        Some(Value::Int(count)) => u64::try_from(*count).unwrap_or(0).saturating_add(1),
        _ => 1,
    }
}

fn containment(function: &str, values: &[Value<'_>]) -> u64 {
    let size = values.first().map_or(1, Value::size);
    let mut cost = scaled(size.saturating_mul(2), TEXT_FACTOR);
    if function == "containsCIDR" {
        cost += scaled(size, TEXT_FACTOR) + 1;
    }
    match values.get(1) {
        Some(text @ Value::String(_)) => cost + scaled(text.size(), TEXT_FACTOR),
        _ => cost,
    }
}

/// The cost of looking at all parts of a value.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * TEXT_FACTOR) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TEXT_FACTOR) as u64,
        Value::List(list) => list.iter().map(|item| item.as_ref().map_or(1, traversal)).fold(0, u64::saturating_add),
        Value::Map(map) => entries(map),
        _ => 1,
    }
}

fn entries(map: &Map<'_>) -> u64 {
    let one = |key: &Value<'_>| {
        let value = map.get(key).map_or(1, |value| value.as_ref().map_or(1, traversal));
        traversal(key).saturating_add(value)
    };
    map.keys().iter().map(one).fold(0, u64::saturating_add)
}
