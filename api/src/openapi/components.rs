//! The schemas of a document: every definition that its paths lead to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::custom::{self, Language};
use super::descriptions::description;
use super::{definition_of, enums, reference, v2_schema};
use crate::resource::Resource;
use crate::schema::builtin::{Definition, builtin};
use crate::schema::{ListType, Presence, Scalar, Schema, SchemaRef, Type};

/// Groups and versions that have every kind of the general ones (`DeleteOptions`, `WatchEvent`).
pub(super) type Everywhere<'a> = &'a [(&'a str, &'a str)];

/// The definitions that are wanted, and all that those refer to, directly or by way of others.
pub(super) fn of(
    rows: &[&Resource],
    mut wanted: BTreeSet<String>,
    everywhere: Everywhere<'_>,
    language: Language,
) -> Map<String, Value> {
    let own: BTreeMap<String, &Resource> =
        rows.iter().filter(|row| row.is_custom()).map(|row| (definition_of(row), *row)).collect();
    let mut schemas = Map::new();
    while let Some(name) = wanted.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        let schema = match (builtin().definition(&name), own.get(&name)) {
            (Some(known), _) => match (definition(&name, known, everywhere), language) {
                (schema, Language::V2) => v2_schema::schema(schema),
                (schema, Language::V3) => schema,
            },
            (None, Some(row)) => custom::schema(row, language),
            (None, None) => match name.strip_suffix("List").and_then(|name| own.get(name)) {
                Some(row) => custom::list(row, language),
                None => continue,
            },
        };
        add_references(&schema, &mut wanted);
        schemas.insert(name, schema);
    }
    schemas
}

/// Collects the names that `$ref`s lead to.
pub(super) fn add_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|inner| add_references(inner, found)),
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
                found.insert(name.to_owned());
            }
            map.values().for_each(|inner| add_references(inner, found));
        }
        _ => {}
    }
}

fn definition(name: &str, known: &Definition, everywhere: Everywhere<'_>) -> Value {
    let schema = builtin().schemas().at(known.id);
    let mut out = Map::new();
    describe(name, "", &mut out);
    type_and_format(schema.node(), name, known, &mut out);
    let short = name.rsplit('.').next().unwrap_or("");
    let kinds: Vec<Value> = match short {
        "DeleteOptions" | "WatchEvent" => everywhere
            .iter()
            .map(|(group, version)| json!({"group": group, "version": version, "kind": short}))
            .collect(),
        _ => known
            .kinds
            .iter()
            .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}))
            .collect(),
    };
    if !kinds.is_empty() {
        out.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    if let Some(unions) = known.unions.and_then(|text| serde_json::from_str(text).ok()) {
        out.insert("x-kubernetes-unions".into(), unions);
    }
    map_type(schema.node(), &mut out);
    struct_fields(name, schema, known, &mut out);
    Value::Object(out)
}

fn type_and_format(node: &Schema, name: &str, known: &Definition, out: &mut Map<String, Value>) {
    if !known.one_of.is_empty() {
        let types: Vec<Value> = known.one_of.iter().map(|name| json!({"type": name})).collect();
        out.insert("oneOf".into(), types.into());
        if node.type_ == Type::IntOrString {
            out.insert("format".into(), "int-or-string".into());
        }
        return;
    }
    let raw = name.ends_with(".RawExtension") || name.ends_with(".FieldsV1") || name.ends_with(".Patch");
    if let Some(type_name) = if raw { Some("object") } else { type_name(node.type_) } {
        out.insert("type".into(), type_name.into());
    }
    if !node.format.is_empty() {
        out.insert("format".into(), node.format.as_ref().into());
    }
}

fn type_name(type_: Type) -> Option<&'static str> {
    match type_ {
        Type::Any | Type::IntOrString => None,
        Type::Object => Some("object"),
        Type::Array => Some("array"),
        Type::String => Some("string"),
        Type::Boolean => Some("boolean"),
        Type::Integer => Some("integer"),
        Type::Number => Some("number"),
    }
}

fn struct_fields(name: &str, schema: SchemaRef<'_>, known: &Definition, out: &mut Map<String, Value>) {
    if !known.required.is_empty() {
        out.insert("required".into(), json!(known.required));
    }
    let fields: Map<String, Value> =
        schema.fields().map(|(field, inner)| (field.to_owned(), property(name, field, inner))).collect();
    if !fields.is_empty() {
        out.insert("properties".into(), Value::Object(fields));
    }
}

fn property(owner: &str, field: &str, schema: SchemaRef<'_>) -> Value {
    let node = schema.node();
    let mut out = Map::new();
    describe(owner, field, &mut out);
    if let Some(default) = default_of(node) {
        out.insert("default".into(), default);
    }
    if node.list_type_given {
        let (name, keys) = match &node.list_type {
            ListType::Atomic => ("atomic", None),
            ListType::Set => ("set", None),
            ListType::Map(keys) => ("map", Some(keys)),
        };
        out.insert("x-kubernetes-list-type".into(), name.into());
        if let Some(keys) = keys {
            out.insert("x-kubernetes-list-map-keys".into(), json!(keys));
        }
    }
    let strategies =
        [("replace", node.patch.replace), ("merge", node.patch.merge), ("retainKeys", node.patch.retain_keys)];
    let strategies: Vec<&str> = strategies.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    if !strategies.is_empty() {
        out.insert("x-kubernetes-patch-strategy".into(), strategies.join(",").into());
    }
    if let Some(key) = &node.patch.merge_key {
        out.insert("x-kubernetes-patch-merge-key".into(), key.as_str().into());
    }
    if node.granular_map {
        map_type(node, &mut out);
    }
    match node.definition.as_deref() {
        Some(target) if out.is_empty() => return reference(target),
        Some(target) => {
            out.insert("allOf".into(), json!([reference(target)]));
        }
        None => {
            map_type(node, &mut out);
            shape(schema, &mut out);
            enums::add(owner, field, &mut out);
        }
    }
    Value::Object(out)
}

/// Type, elements and values of a node that is no definition.
fn shape(schema: SchemaRef<'_>, out: &mut Map<String, Value>) {
    let node = schema.node();
    if let Some(name) = type_name(node.type_) {
        out.insert("type".into(), name.into());
    }
    if !node.format.is_empty() {
        out.insert("format".into(), node.format.as_ref().into());
    }
    for (name, inner) in [("items", schema.items()), ("additionalProperties", schema.values())] {
        if let Some(inner) = inner {
            out.insert(name.into(), element(inner));
        }
    }
}

fn element(schema: SchemaRef<'_>) -> Value {
    if let Some(target) = schema.node().definition.as_deref() {
        return reference(target);
    }
    let mut out = Map::new();
    shape(schema, &mut out);
    Value::Object(out)
}

/// The default that a document shows: a real one, or the empty value of a field that is always there.
fn default_of(node: &Schema) -> Option<Value> {
    if node.default.is_some() || node.presence != Presence::Always || node.scalar == Scalar::Quantity {
        return node.default.clone();
    }
    match node.type_ {
        Type::Object => Some(json!({})),
        Type::String => Some("".into()),
        Type::Boolean => Some(false.into()),
        Type::Integer | Type::Number => Some(0.into()),
        Type::Any | Type::Array | Type::IntOrString => None,
    }
}

fn describe(definition: &str, field: &str, out: &mut Map<String, Value>) {
    if let Some(text) = description(definition, field).filter(|text| !text.is_empty()) {
        out.insert("description".into(), text.into());
    }
}

fn map_type(node: &Schema, out: &mut Map<String, Value>) {
    if node.atomic_map || node.granular_map {
        out.insert("x-kubernetes-map-type".into(), if node.atomic_map { "atomic" } else { "granular" }.into());
    }
}
