//! The names that Go's decoder would use in its errors, from the names of the definitions.

mod types;

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

/// The type of a field of a struct, of an element of it if it is a list, or of a value if it is a map.
pub(super) fn field_type(schema: SchemaRef<'_>, owner: &str, path: &str) -> String {
    let field = path.rsplit('.').next().unwrap_or(path);
    let items = schema.items();
    let of_text = if items.is_some() { items } else { Some(schema) };
    let is_text = of_text.is_some_and(|of| of.node().type_ == Type::String && of.node().scalar == Scalar::Plain);
    match types::text_type(owner, field).filter(|_| is_text) {
        Some(type_) if items.is_some() => format!("[]{type_}"),
        Some(type_) => type_.to_owned(),
        None => type_name(schema),
    }
}

/// Puts a field of a struct onto a path, after the structs that it is embedded by.
pub(super) fn push_field(path: &mut String, owner: &str, field: &str) {
    for part in types::embedded_by(owner, field).iter().copied().chain([field]) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(part);
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
