//! What happens to the values of a custom object: unknown fields go, defaults come, nulls that mean nothing go.

use serde_json::{Map, Value};

use crate::schema::{Presence, SchemaRef, Type};

/// Drops fields that the schema does not know.
pub(crate) fn prune(value: &mut Value, schema: SchemaRef<'_>) {
    let node = schema.node();
    if node.presence != Presence::AsGiven {
        return;
    }
    match value {
        Value::Object(map) => {
            let open = node.preserve_unknown || node.additional.is_some() || node.type_ == Type::Any;
            if !open {
                map.retain(|name, _| node.properties.contains_key(name));
            }
            for (name, inner) in map.iter_mut() {
                if let Some(field) = schema.field(name) {
                    prune(inner, field);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|inner| prune(inner, items));
            }
        }
        _ => {}
    }
}

/// Fills in defaults where nothing, or a null that may not be there, stands.
pub(super) fn default(value: &mut Value, schema: SchemaRef<'_>) {
    match value {
        Value::Object(map) => default_fields(map, schema),
        Value::Array(list) => {
            let Some(items) = schema.items() else { return };
            for inner in list {
                replace_null(inner, items);
                default(inner, items);
            }
        }
        _ => {}
    }
}

/// As [`default`], for the fields of an object.
pub(super) fn default_fields(map: &mut Map<String, Value>, schema: SchemaRef<'_>) {
    if schema.node().presence != Presence::AsGiven {
        return;
    }
    for (name, field) in schema.fields() {
        let Some(default) = &field.node().default else { continue };
        if map.get(name).is_none_or(|value| value.is_null() && !field.node().nullable) {
            map.insert(name.to_owned(), default.clone());
        }
    }
    for (name, inner) in map.iter_mut() {
        if let Some(field) = schema.field(name) {
            replace_null(inner, field);
            default(inner, field);
        }
    }
}

fn replace_null(value: &mut Value, schema: SchemaRef<'_>) {
    let node = schema.node();
    if let (true, false, Some(default)) = (value.is_null(), node.nullable, &node.default) {
        *value = default.clone();
    }
}

/// Drops declared fields that are null and may not be.
pub(super) fn drop_nulls(value: &mut Value, schema: SchemaRef<'_>) {
    match value {
        Value::Object(map) => drop_null_fields(map, schema),
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|inner| drop_nulls(inner, items));
            }
        }
        _ => {}
    }
}

/// As [`drop_nulls`], for the fields of an object.
pub(super) fn drop_null_fields(map: &mut Map<String, Value>, schema: SchemaRef<'_>) {
    let properties = &schema.node().properties;
    map.retain(|name, inner| !inner.is_null() || properties.get(name).is_none_or(|id| schema.at(*id).node().nullable));
    for (name, inner) in map.iter_mut() {
        if let Some(field) = schema.field(name) {
            drop_nulls(inner, field);
        }
    }
}

/// Writes whole numbers without a fraction (`4.0` is `4`), as they come back from the store of the reference.
pub(super) fn whole_numbers(value: &mut Value) {
    /// Beyond this doubles no longer hold every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT) {
                #[expect(clippy::cast_possible_truncation, reason = "whole and within what an i64 holds")]
                let whole = float as i64;
                *number = whole.into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}
