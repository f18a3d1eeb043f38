//! What happens to the values of a custom object: unknown fields go, defaults come, nulls that mean nothing go.

use serde_json::{Map, Value};

use crate::schema::{Presence, SchemaRef, Type};

/// Drops fields that the schema does not know; answers whether there were any.
pub(crate) fn prune(value: &mut Value, schema: SchemaRef<'_>) -> bool {
    cut(value, schema, false)
}

/// `open` says that the list around the value preserves unknown fields, which holds for its elements, too.
fn cut(value: &mut Value, schema: SchemaRef<'_>, open: bool) -> bool {
    let node = schema.node();
    if node.presence != Presence::AsGiven {
        return false;
    }
    let open = open || node.preserve_unknown;
    let mut changed = false;
    match value {
        Value::Object(map) => {
            if !open && node.additional.is_none() && node.type_ != Type::Any {
                let before = map.len();
                map.retain(|name, _| node.properties.contains_key(name));
                changed = map.len() != before;
            }
            for (name, inner) in map.iter_mut() {
                if let Some(field) = schema.field(name) {
                    changed |= cut(inner, field, false);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|inner| changed |= cut(inner, items, open));
            }
        }
        _ => {}
    }
    changed
}

/// Fills in defaults where nothing, or a null that may not be there, stands; answers whether anything changed.
pub(super) fn default(value: &mut Value, schema: SchemaRef<'_>) -> bool {
    match value {
        Value::Object(map) => default_fields(map, schema),
        Value::Array(list) => {
            let Some(items) = schema.items() else { return false };
            let mut changed = false;
            for inner in list {
                changed |= replace_null(inner, items);
                changed |= default(inner, items);
            }
            changed
        }
        _ => false,
    }
}

/// As [`default`], for the fields of an object.
pub(super) fn default_fields(map: &mut Map<String, Value>, schema: SchemaRef<'_>) -> bool {
    if schema.node().presence != Presence::AsGiven {
        return false;
    }
    let mut changed = false;
    for (name, field) in schema.fields() {
        let Some(default) = &field.node().default else { continue };
        if map.get(name).is_none_or(|value| value.is_null() && !field.node().nullable) {
            map.insert(name.to_owned(), default.clone());
            changed = true;
        }
    }
    for (name, inner) in map.iter_mut() {
        if let Some(field) = schema.field(name) {
            changed |= replace_null(inner, field);
            changed |= default(inner, field);
        }
    }
    changed
}

fn replace_null(value: &mut Value, schema: SchemaRef<'_>) -> bool {
    let node = schema.node();
    match &node.default {
        Some(default) if value.is_null() && !node.nullable => {
            *value = default.clone();
            true
        }
        _ => false,
    }
}

/// Drops declared fields that are null and may not be; answers whether there were any.
pub(super) fn drop_nulls(value: &mut Value, schema: SchemaRef<'_>) -> bool {
    match value {
        Value::Object(map) => drop_null_fields(map, schema),
        Value::Array(list) => {
            let Some(items) = schema.items() else { return false };
            list.iter_mut().fold(false, |changed, inner| changed | drop_nulls(inner, items))
        }
        _ => false,
    }
}

/// As [`drop_nulls`], for the fields of an object.
pub(super) fn drop_null_fields(map: &mut Map<String, Value>, schema: SchemaRef<'_>) -> bool {
    let properties = &schema.node().properties;
    let before = map.len();
    map.retain(|name, inner| !inner.is_null() || properties.get(name).is_none_or(|id| schema.at(*id).node().nullable));
    let mut changed = map.len() != before;
    for (name, inner) in map.iter_mut() {
        if let Some(field) = schema.field(name) {
            changed |= drop_nulls(inner, field);
        }
    }
    changed
}

/// What an apply has merged, as far as a custom object has a form of its own: without unknown fields, and with whole
/// numbers as they are kept. The metadata is somebody else's business.
pub(crate) fn settle(object: &mut Value, schema: SchemaRef<'_>) {
    let Value::Object(fields) = object else { return };
    let metadata = fields.remove("metadata");
    prune(object, schema);
    if let (Some(metadata), Value::Object(fields)) = (metadata, &mut *object) {
        fields.insert("metadata".to_owned(), metadata);
    }
    for (name, value) in object.as_object_mut().into_iter().flatten() {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            whole_numbers(value);
        }
    }
}

/// Writes whole numbers without a fraction (`4.0` is `4`), as they come back from the store of the reference; answers
/// whether there were any.
pub(super) fn whole_numbers(value: &mut Value) -> bool {
    /// Beyond this doubles no longer hold every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT);
            let Some(float) = float else { return false };
            #[expect(clippy::cast_possible_truncation, reason = "whole and within what an i64 holds")]
            let whole = float as i64;
            *number = whole.into();
            true
        }
        Value::Array(list) => list.iter_mut().fold(false, |changed, inner| changed | whole_numbers(inner)),
        Value::Object(map) => map.values_mut().fold(false, |changed, inner| changed | whole_numbers(inner)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::custom::read_schema;

    #[test]
    fn a_list_that_preserves_unknown_fields_preserves_those_of_its_elements() {
        let written = json!({"type": "object", "properties": {
            "open": {"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {
                "type": "object", "properties": {"in": {"type": "object", "properties": {"a": {"type": "string"}}}}}},
            "shut": {"type": "array", "items": {"type": "object"}},
        }});
        let (schemas, root) = read_schema(&written);
        let mut value = json!({"open": [{"x": 1, "in": {"a": "b", "c": 1}}], "shut": [{"x": 1}], "else": 1});
        assert!(prune(&mut value, schemas.at(root)));
        assert_eq!(value, json!({"open": [{"x": 1, "in": {"a": "b"}}], "shut": [{}]}));
        assert!(!prune(&mut value, schemas.at(root)), "what is pruned stays as it is");
    }

    #[test]
    fn each_step_tells_whether_it_changed_anything() {
        let written = json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"}, "b": {"type": "string"}, "c": {"type": "number"}}});
        let (schemas, root) = read_schema(&written);
        let mut value = json!({"b": null, "c": 4.0});
        let schema = schemas.at(root);
        assert!(default(&mut value, schema) && drop_nulls(&mut value, schema) && whole_numbers(&mut value));
        assert_eq!(value, json!({"a": "x", "c": 4}));
        assert!(!default(&mut value, schema) && !drop_nulls(&mut value, schema) && !whole_numbers(&mut value));
    }
}
