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
