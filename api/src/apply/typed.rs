//! Built-in objects as their typed form would print them, so that "absent" and "empty" compare as they do in the
//! reference: there, an empty object already has its plain structs, and these are never "added".

use serde_json::{Map, Value};

use crate::schema::{Presence, SchemaRef, Type};

/// The value with absent fields as the schema prints them. Values of CRDs stay as they are.
pub(super) fn typed(value: &Value, schema: SchemaRef<'_>) -> Value {
    type_value(value, Some(schema))
}

fn type_value(value: &Value, schema: Option<SchemaRef<'_>>) -> Value {
    match (schema, value) {
        (Some(schema), Value::Object(fields)) => Value::Object(type_fields(fields, schema)),
        (Some(schema), Value::Array(list)) => list.iter().map(|item| type_value(item, schema.items())).collect::<Vec<_>>().into(),
        _ => value.clone(),
    }
}

fn type_fields(fields: &Map<String, Value>, schema: SchemaRef<'_>) -> Map<String, Value> {
    let mut typed = Map::new();
    for (name, value) in fields {
        let field = schema.field(name);
        let presence = field.map_or(Presence::AsGiven, |field| field.node().presence);
        let declared = schema.node().properties.contains_key(name);
        let keep = match presence {
            _ if !declared => true,
            Presence::AsGiven => true,
            Presence::OmitEmpty => !is_empty(value),
            Presence::KeepEmpty => !value.is_null(),
            Presence::Always | Presence::Null => !(value.is_null() || is_empty(value) && !value.is_object()),
        };
        if keep {
            typed.insert(name.clone(), type_value(value, field));
        }
    }
    for (name, field) in schema.fields() {
        if typed.contains_key(name) {
            continue;
        }
        match field.node().presence {
            Presence::Always => typed.insert(name.to_owned(), empty(field)),
            Presence::Null => typed.insert(name.to_owned(), Value::Null),
            Presence::OmitEmpty | Presence::KeepEmpty | Presence::AsGiven => None,
        };
    }
    typed
}

/// The empty value of a type.
fn empty(schema: SchemaRef<'_>) -> Value {
    match schema.node().type_ {
        Type::Object => Value::Object(type_fields(&Map::new(), schema)),
        Type::Array => Value::Array(Vec::new()),
        Type::String => Value::String(String::new()),
        Type::Boolean => Value::Bool(false),
        Type::Integer | Type::Number | Type::IntOrString => Value::from(0),
        Type::Any => Value::Null,
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

/// The value without fields of null, which are the same as absent unless a CRD says that they are not.
pub(super) fn without_nulls(value: Value, schema: Option<SchemaRef<'_>>) -> Value {
    match (schema, value) {
        (Some(schema), Value::Object(fields)) => {
            let kept = fields.into_iter().filter_map(|(name, value)| {
                let field = schema.field(&name);
                let drops = field.is_some_and(|field| field.node().presence != Presence::AsGiven || !field.node().nullable);
                (!(value.is_null() && drops)).then(|| (name, without_nulls(value, field)))
            });
            Value::Object(kept.collect())
        }
        (Some(schema), Value::Array(list)) => {
            list.into_iter().map(|item| without_nulls(item, schema.items())).collect::<Vec<_>>().into()
        }
        (_, value) => value,
    }
}
