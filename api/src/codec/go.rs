//! The names that Go's decoder would use in its errors, from the names of the definitions.

use crate::schema::{Scalar, SchemaRef, Type};

/// `Deployment` for `io.k8s.api.apps.v1.Deployment`.
pub(super) fn struct_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

/// `int32`, `[]v1.Container`, `map[string]string`.
pub(super) fn type_name(schema: SchemaRef<'_>) -> String {
    let node = schema.node();
    if let Some(definition) = node.definition.as_deref() {
        let mut parts = definition.rsplit('.');
        let (name, package) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        return format!("{package}.{name}");
    }
    match (node.type_, node.scalar) {
        (_, Scalar::Bytes) => "[]uint8".to_owned(),
        (Type::String, _) => "string".to_owned(),
        (Type::Boolean, _) => "bool".to_owned(),
        (Type::Integer, Scalar::Int32) => "int32".to_owned(),
        (Type::Integer, _) => "int64".to_owned(),
        (Type::Number, _) => "float64".to_owned(),
        (Type::Array, _) => format!("[]{}", schema.items().map(type_name).unwrap_or_default()),
        (Type::Object, _) => map_name(schema),
        (Type::Any | Type::IntOrString, _) => "interface {}".to_owned(),
    }
}

fn map_name(schema: SchemaRef<'_>) -> String {
    match schema.values() {
        Some(values) if values.node().scalar == Scalar::Quantity => "v1.ResourceList".to_owned(),
        Some(values) => format!("map[string]{}", type_name(values)),
        None => "map[string]interface {}".to_owned(),
    }
}

/// Why a JSON value (`string`, `number 1.5`, ...) cannot be copied to where the schema stands.
pub(super) fn copy_error(value: &str, schema: SchemaRef<'_>) -> String {
    let (found, kind) = match (value, value.strip_prefix("number ")) {
        (_, Some(number)) if number.contains(['.', 'e', 'E']) => ("float64", "float64"),
        (_, Some(_)) => ("int64", "int64"),
        ("object", _) => ("map[string]interface {}", "map"),
        ("array", _) => ("[]interface {}", "slice"),
        (other, _) => (other, other),
    };
    let node = schema.node();
    match (node.type_, node.scalar) {
        (Type::Array, _) | (_, Scalar::Bytes) => format!("cannot restore slice from {kind}"),
        (Type::Object, _) if node.additional.is_some() => format!("cannot restore map from {kind}"),
        (Type::Object, _) => format!("cannot restore struct from: {kind}"),
        // Go converts integers to text and numbers to each other, but then refuses to.
        (Type::String, _) if found == "int64" => format!("cannot convert int64 to {}", type_name(schema)),
        (Type::Integer | Type::Number, _) if found.ends_with("64") => {
            format!("cannot convert {found} to {}", type_name(schema))
        }
        _ => format!("unrecognized type: {}", type_name(schema)),
    }
}
