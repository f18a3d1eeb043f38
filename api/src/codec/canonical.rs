//! The form in which objects are stored and sent: what Go's encoder would print after a round trip. Empty values of
//! optional fields vanish, fields that are always printed appear, quantities and times are in canonical form.

use serde_json::{Map, Value};

use super::read::SchemaOr;
use super::time;
use crate::quantity::Quantity;
use crate::schema::{Presence, Scalar, SchemaRef, Type};

/// Brings the fields of a struct into canonical form, in place.
pub(super) fn fields(map: &mut Map<String, Value>, schema: SchemaRef<'_>) {
    let preserve = schema.node().preserve_unknown;
    map.retain(|name, value| match schema.node().properties.get(name) {
        Some(id) => keep(value, schema.at(*id)),
        None => preserve || !value.is_null(),
    });
    for name in schema.node().printed.iter().map(AsRef::as_ref) {
        if !map.contains_key(name)
            && let Some(field) = schema.field(name)
        {
            let null = field.node().presence == Presence::Null;
            map.insert(name.to_owned(), if null { Value::Null } else { zero(field) });
        }
    }
}

/// Brings a field into canonical form; answers whether it is printed as given.
fn keep(value: &mut Value, schema: SchemaRef<'_>) -> bool {
    let presence = schema.node().presence;
    if presence == Presence::AsGiven {
        return true;
    }
    if value.is_null() {
        return false;
    }
    inner(value, schema);
    match presence {
        Presence::OmitEmpty => !is_empty(value),
        Presence::Null => !value.as_array().is_some_and(Vec::is_empty),
        Presence::KeepEmpty | Presence::Always | Presence::AsGiven => true,
    }
}

fn inner(value: &mut Value, schema: SchemaRef<'_>) {
    let facts = schema.node();
    match (facts.scalar, &mut *value) {
        (Scalar::Quantity, Value::String(text)) => {
            if let Ok(quantity) = text.parse::<Quantity>() {
                replace(text, quantity.to_string());
            }
        }
        (Scalar::Quantity, Value::Number(number)) => {
            if let Ok(quantity) = number.to_string().parse::<Quantity>() {
                *value = quantity.to_string().into();
            }
        }
        (Scalar::Time, Value::String(text)) if text.len() != "2006-01-02T15:04:05Z".len() => {
            normalise(text, time::seconds)
        }
        (Scalar::MicroTime, Value::String(text)) if !text.ends_with('Z') => normalise(text, time::micros),
        // Schemas in the places where something else may stand, too, are printed as all others are.
        (_, Value::Object(map)) if facts.type_ == Type::Any && SchemaOr::of(schema).is_some() => {
            fields(map, super::schema_props());
        }
        (_, Value::Array(list)) if facts.type_ == Type::Any && SchemaOr::of(schema) == Some(SchemaOr::Array) => {
            list.iter_mut().for_each(|value| inner(value, super::schema_props()));
        }
        (_, Value::Object(map)) if facts.type_ == Type::Object => match facts.additional {
            Some(values) => {
                map.values_mut().for_each(|value| inner(value, schema.at(values)));
                super::round_amounts(map, schema.at(values));
            }
            None => fields(map, schema),
        },
        (_, Value::Array(list)) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|value| inner(value, items));
            }
        }
        _ => {}
    }
}

fn normalise(text: &mut String, form: fn(&str) -> Result<String, String>) {
    if let Ok(normal) = form(text) {
        replace(text, normal);
    }
}

fn replace(text: &mut String, new: String) {
    if *text != new {
        *text = new;
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The empty value of a field that is always printed.
fn zero(schema: SchemaRef<'_>) -> Value {
    let facts = schema.node();
    match facts.type_ {
        _ if facts.scalar == Scalar::Quantity => "0".into(),
        Type::String => "".into(),
        Type::Boolean => false.into(),
        Type::Integer | Type::Number | Type::IntOrString => 0.into(),
        Type::Array => Value::Array(Vec::new()),
        Type::Object => {
            let mut map = Map::new();
            fields(&mut map, schema);
            Value::Object(map)
        }
        Type::Any => Value::Null,
    }
}
