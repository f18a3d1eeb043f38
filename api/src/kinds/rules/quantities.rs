//! Quantities in objects (upstream: `resource.Quantity`).

use serde_json::Value;

use super::tree::Node;
use crate::quantity::Quantity;

/// The quantity of a node of a tree.
pub(crate) fn parse(at: &Node<'_, '_>) -> Option<Quantity> {
    match at.value()? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}
