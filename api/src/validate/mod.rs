//! Structural validation: a value against the value rules of its schema, for custom resources. Built-in kinds need
//! none: the codec has checked their types, and their strategies check the rest, in words of their own.
//!
//! Texts and their order are those of the reference server, which are in turn those of its JSON schema library.

mod formats;
mod keywords;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use crate::schema::Pattern;
pub(crate) use formats::is_known as is_known_format;

use crate::field::{FieldError, NO_PATH, Path};
use crate::schema::{ListType, Presence, SchemaRef, Type};

/// All that is wrong with `value`, which stands at `path` (empty for a whole object). `metadata`, `apiVersion` and
/// `kind` of the object are somebody else's business, unless the schema says something about them.
pub fn structural(value: &Value, schema: SchemaRef<'_>, path: &Path) -> Vec<FieldError> {
    since(value, None, schema, path)
}

/// As [`structural`], for a value that replaces `old`. What was wrong before and has not changed is let be: an author
/// may make a schema stricter, and its objects must stay usable.
pub fn structural_change(value: &Value, old: &Value, schema: SchemaRef<'_>, path: &Path) -> Vec<FieldError> {
    let errors = since(value, None, schema, path);
    if errors.is_empty() { errors } else { since(value, Some(old), schema, path) }
}

fn since(value: &Value, old: Option<&Value>, schema: SchemaRef<'_>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(value, old, schema, path, &mut errors);
    lists(value, old, schema, path, &mut errors);
    errors
}

fn check(value: &Value, old: Option<&Value>, schema: SchemaRef<'_>, path: &Path, errors: &mut Vec<FieldError>) {
    let node = schema.node();
    if (value.is_null() && node.nullable) || old == Some(value) {
        return;
    }
    let empty = Map::new();
    let rules = match node.value_validation.as_deref() {
        Some(Value::Object(rules)) => rules,
        _ => &empty,
    };
    if !is_of(value, node.type_) {
        errors.push(wrong_type(value, type_name(node.type_), path));
        if node.type_ == Type::Integer
            && value.is_number()
            && (rules.contains_key("minimum") || rules.contains_key("maximum"))
        {
            let text = format!("Checked value must be of type integer (default format) in {path}");
            errors.push(combination(text));
        }
        // What holds for values of any type is looked at all the same; of null only whether it is listed.
        if value.is_null() || value.is_number() {
            if value.is_null() && !node.enumeration.is_empty() {
                keywords::enumeration(value, &node.enumeration, path, errors);
            }
            return;
        }
    }
    keywords::combinations(value, rules, path, errors);
    if !node.format.is_empty() {
        formats::check(value, &node.format, path, errors);
    }
    keywords::scalar(value, rules, node.pattern.as_deref(), path, errors);
    if !node.enumeration.is_empty() {
        keywords::enumeration(value, &node.enumeration, path, errors);
    }
    match value {
        Value::Object(map) => {
            if node.embedded_resource {
                embedded(map, path, errors);
            }
            for (name, inner) in map {
                if let Some(field) = schema.field(name) {
                    check(inner, field_of(old, name), field, &path.child(name), errors);
                }
            }
            // Of built-in parts (`metadata`) somebody else says what is required.
            let required = if node.presence == Presence::AsGiven { node.required.as_slice() } else { &[] };
            for name in required.iter().filter(|name| !map.contains_key(name.as_ref())) {
                errors.push(FieldError::required(&path.child(name), ""));
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                for (at, inner) in list.iter().enumerate() {
                    check(inner, counterpart(inner, old, schema), items, &path.index(at), errors);
                }
            }
        }
        _ => {}
    }
}

/// Uniqueness in lists that are sets or maps.
fn lists(value: &Value, old: Option<&Value>, schema: SchemaRef<'_>, path: &Path, errors: &mut Vec<FieldError>) {
    if schema.node().presence != Presence::AsGiven || old == Some(value) {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                if let Some(field) = schema.field(name) {
                    lists(inner, field_of(old, name), field, &path.child(name), errors);
                }
            }
        }
        Value::Array(list) => {
            let identity = |element: &Value| match &schema.node().list_type {
                ListType::Set => Some(element.clone()),
                ListType::Map(keys) if element.is_object() => Some(keys_of(element, keys)),
                ListType::Atomic | ListType::Map(_) => None,
            };
            let mut seen = std::collections::HashSet::new();
            for (at, element) in list.iter().enumerate() {
                if matches!(schema.node().list_type, ListType::Map(_)) && !element.is_object() {
                    let why = "must be an object for an array of list-type map";
                    errors.push(FieldError::invalid(&path.index(at), element.clone(), why));
                }
                if let Some(identity) = identity(element)
                    && !seen.insert(identity.to_string())
                {
                    errors.push(FieldError::duplicate(&path.index(at), identity));
                }
            }
            if let Some(items) = schema.items() {
                for (at, inner) in list.iter().enumerate() {
                    lists(inner, counterpart(inner, old, schema), items, &path.index(at), errors);
                }
            }
        }
        _ => {}
    }
}

fn field_of<'v>(old: Option<&'v Value>, name: &str) -> Option<&'v Value> {
    old?.get(name)
}

/// What an element was before: elements of maps are told apart by their keys, others not at all.
fn counterpart<'v>(element: &Value, old: Option<&'v Value>, schema: SchemaRef<'_>) -> Option<&'v Value> {
    let ListType::Map(keys) = &schema.node().list_type else { return None };
    let wanted = keys_of(element, keys);
    old?.as_array()?.iter().find(|before| keys_of(before, keys) == wanted)
}

fn keys_of(element: &Value, keys: &[String]) -> Value {
    let pairs = keys.iter().filter_map(|key| Some((key.clone(), element.get(key)?.clone())));
    Value::Object(pairs.collect())
}

fn embedded(map: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
}

fn is_of(value: &Value, type_: Type) -> bool {
    match type_ {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Integer => is_integer(value),
        Type::Number => value.is_number(),
        Type::IntOrString => value.is_string() || is_integer(value),
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_name(type_: Type) -> &'static str {
    match type_ {
        Type::Any => "any",
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Boolean => "boolean",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::IntOrString => "integer,string",
    }
}

fn wrong_type(value: &Value, wanted: &str, path: &Path) -> FieldError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    FieldError::type_invalid(path, found, &format!("{path} in body must be of type {wanted}: {found:?}"))
}

/// `... in body <text>`.
fn invalid(path: &Path, value: impl Into<Value>, text: &str) -> FieldError {
    FieldError::invalid(path, value, &format!("{path} in body {text}"))
}

/// An error about a combination of schemas, which has no path of its own.
fn combination(text: String) -> FieldError {
    FieldError::invalid(&Path::new(NO_PATH), json!(""), &text)
}
