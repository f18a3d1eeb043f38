//! Checks a configuration before it is applied: types, unknown fields, and lists whose elements cannot be told apart.

use std::collections::BTreeSet;

use serde_json::Value;

use super::set::{Step, show_path};
use super::shape::{Shape, element_step, field_schema};
use crate::schema::{SchemaRef, Type};

/// What is wrong with the configuration, worded as the reference does; `None` when nothing is.
pub(super) fn check(applied: &Value, schema: SchemaRef<'_>) -> Option<String> {
    let mut errors = Vec::new();
    check_value(applied, Some(schema), &mut Vec::new(), &mut errors);
    match errors.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn check_value(value: &Value, schema: Option<SchemaRef<'_>>, path: &mut Vec<Step>, errors: &mut Vec<String>) {
    let Some(schema) = schema else { return };
    if let Some(why) = type_error(value, schema) {
        errors.push(format!("{}: {why}", show_path(path)));
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                path.push(Step::Field(name.clone().into()));
                let unknown = match field_schema(Some(schema), name) {
                    Some(field) => {
                        check_value(child, Some(field), path, errors);
                        false
                    }
                    None => !accepts_any_field(schema, path),
                };
                if unknown {
                    errors.push(format!("{}: field not declared in schema", show_path(path)));
                }
                path.pop();
                // The reference looks no further in this object.
                if unknown {
                    break;
                }
            }
        }
        Value::Array(list) => check_list(value, list, schema, path, errors),
        _ => {}
    }
}

/// Maps without declared fields, schemas that preserve, and what every object has.
fn accepts_any_field(schema: SchemaRef<'_>, path: &[Step]) -> bool {
    let node = schema.node();
    let of_every_object =
        || matches!(path, [Step::Field(name)] if matches!(name.as_ref(), "apiVersion" | "kind" | "metadata"));
    node.preserve_unknown
        || node.embedded_resource
        || node.type_ == Type::Any
        || node.properties.is_empty() && path.len() > 1
        || of_every_object()
}

fn check_list(value: &Value, list: &[Value], schema: SchemaRef<'_>, path: &mut Vec<Step>, errors: &mut Vec<String>) {
    let keyed = match Shape::of(Some(schema), value) {
        Shape::Elements { items, keys } => Some((items, keys)),
        _ => None,
    };
    let mut seen = BTreeSet::new();
    for (index, element) in list.iter().enumerate() {
        let step = match keyed {
            None => Step::Index(index),
            Some((items, keys)) => match element_step(element, items, keys) {
                Ok(step) => step,
                Err(why) => {
                    errors.push(format!("{}: element {index}: {why}", show_path(path)));
                    continue;
                }
            },
        };
        if !seen.insert(step.clone()) {
            errors.push(format!("{}: duplicate entries for key {step}", show_path(path)));
            continue;
        }
        path.push(step);
        check_value(element, schema.items(), path, errors);
        path.pop();
    }
}

fn type_error(value: &Value, schema: SchemaRef<'_>) -> Option<String> {
    let expected = match (schema.node().type_, value) {
        (_, Value::Null) | (Type::Any, _) => return None,
        (Type::Object, Value::Object(_)) | (Type::Array, Value::Array(_)) => return None,
        (Type::String, Value::String(_)) | (Type::Boolean, Value::Bool(_)) => return None,
        (Type::Integer | Type::Number, Value::Number(_)) => return None,
        (Type::IntOrString, Value::Number(_) | Value::String(_)) => return None,
        // Quantities may be written as numbers.
        (Type::String, Value::Number(_)) if schema.node().scalar == crate::schema::Scalar::Quantity => return None,
        (Type::Object, _) => "map",
        (Type::Array, _) => "list",
        (Type::String, _) => {
            let shown = crate::patch::go_syntax(value);
            return Some(format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"));
        }
        (Type::Boolean, _) => "boolean",
        (Type::Integer | Type::Number, _) => {
            return Some(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        (Type::IntOrString, _) => "any scalar",
    };
    Some(format!("expected {expected}, got &{{{}}}", crate::patch::go_format(value)))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
