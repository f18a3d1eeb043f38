//! The schemas of a document: every definition that its paths lead to.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use super::{definition_of, reference};
use crate::resource::Resource;
use crate::schema::builtin::{Definition, builtin};
use crate::schema::{ListType, Presence, Scalar, Schema, SchemaRef, Type};

/// The documentation, compressed.
const DESCRIPTIONS: &[u8] = include_bytes!("../../data/descriptions.txt.gz");

/// All definitions that `paths` refer to, directly or by way of others.
pub(super) fn of(rows: &[&Resource], paths: &Value, group: &str, version: &str) -> Value {
    let custom: BTreeMap<String, &Resource> = rows
        .iter()
        .filter(|row| row.schema().node().definition.is_none())
        .map(|row| (definition_of(row), *row))
        .collect();
    let mut schemas = Map::new();
    let mut wanted = Vec::new();
    references(paths, &mut wanted);
    while let Some(name) = wanted.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        let schema = match (builtin().definition(&name), custom.get(&name)) {
            (Some(known), _) => definition(&name, known, group, version),
            (None, Some(row)) => self::custom(row),
            (None, None) => match name.strip_suffix("List").and_then(|name| custom.get(name)) {
                Some(row) => custom_list(row),
                None => continue,
            },
        };
        references(&schema, &mut wanted);
        schemas.insert(name, schema);
    }
    Value::Object(schemas)
}

/// Collects the names that `$ref`s lead to.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|inner| references(inner, found)),
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
                found.push(name.to_owned());
            }
            map.values().for_each(|inner| references(inner, found));
        }
        _ => {}
    }
}

fn definition(name: &str, known: &Definition, group: &str, version: &str) -> Value {
    let schema = builtin().schemas().at(known.id);
    let mut out = Map::new();
    describe(name, "", &mut out);
    type_and_format(schema.node(), name, known, &mut out);
    let short = name.rsplit('.').next().unwrap_or("");
    let kinds: Vec<Value> = match short {
        "DeleteOptions" | "WatchEvent" => vec![json!({"group": group, "version": version, "kind": short})],
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
    struct_fields(name, schema, &mut out);
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

fn struct_fields(name: &str, schema: SchemaRef<'_>, out: &mut Map<String, Value>) {
    if !schema.node().required.is_empty() {
        out.insert("required".into(), json!(schema.node().required));
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

/// The documentation of a definition (empty `field`) or of one of its fields.
pub(super) fn description(definition: &str, field: &str) -> Option<String> {
    static TEXT: OnceLock<String> = OnceLock::new();
    static LINES: OnceLock<HashMap<(&str, &str), &str>> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let mut lines = HashMap::new();
        let mut definition = "";
        for line in TEXT.get_or_init(decompressed).lines() {
            let (field, text) = line.strip_prefix(' ').map_or((None, line), |line| (Some(line), line));
            let Some((name, json)) = text.split_once(' ') else { continue };
            if field.is_none() {
                definition = name;
            }
            lines.insert((definition, if field.is_some() { name } else { "" }), json);
        }
        lines
    });
    serde_json::from_str(lines.get(&(definition, field))?).ok()
}

fn decompressed() -> String {
    let mut text = String::new();
    GzDecoder::new(DESCRIPTIONS).read_to_string(&mut text).expect("the file in this crate is compressed text");
    text
}

/// The schema of a custom resource, with the fields that every object has.
pub(super) fn custom(row: &Resource) -> Value {
    let mut out = Map::new();
    custom_node(row.schema(), &mut out);
    let properties = out.entry("properties").or_insert_with(|| json!({}));
    for field in ["apiVersion", "kind"] {
        let text = description("io.k8s.api.core.v1.ConfigMap", field);
        properties[field] = json!({"type": "string", "description": text});
    }
    let metadata = reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    properties["metadata"] = json!({"description": "Standard object's metadata.", "allOf": [metadata]});
    out.insert("type".into(), "object".into());
    let kind = json!({"group": row.group, "version": row.version, "kind": row.kind});
    out.insert("x-kubernetes-group-version-kind".into(), json!([kind]));
    Value::Object(out)
}

fn custom_list(row: &Resource) -> Value {
    let meta = reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
    let kind = json!({"group": row.group, "version": row.version, "kind": row.list_kind});
    json!({
        "description": format!("{} is a list of {}", row.list_kind, row.kind), "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"allOf": [meta]},
            "items": {"type": "array", "items": reference(&definition_of(row))},
        },
        "x-kubernetes-group-version-kind": [kind],
    })
}

/// A node of a custom schema: what the author wrote, with the structure around it.
fn custom_node(schema: SchemaRef<'_>, out: &mut Map<String, Value>) {
    let node = schema.node();
    if let (true, Some(target)) = (node.presence != Presence::AsGiven, node.definition.as_deref()) {
        out.insert("allOf".into(), json!([reference(target)]));
        return;
    }
    if let Some(Value::Object(written)) = node.value_validation.as_deref() {
        out.extend(written.clone());
    }
    shape_flags(node, out);
    if let Some(name) = type_name(node.type_) {
        out.insert("type".into(), name.into());
    }
    if !node.format.is_empty() {
        out.insert("format".into(), node.format.as_ref().into());
    }
    if !node.required.is_empty() {
        out.insert("required".into(), json!(node.required));
    }
    if let Some(default) = &node.default {
        out.insert("default".into(), default.clone());
    }
    let inner = |schema| {
        let mut inner = Map::new();
        custom_node(schema, &mut inner);
        Value::Object(inner)
    };
    for (name, element) in [("items", schema.items()), ("additionalProperties", schema.values())] {
        if let Some(element) = element {
            out.insert(name.into(), inner(element));
        }
    }
    let fields: Map<String, Value> = schema.fields().map(|(name, field)| (name.to_owned(), inner(field))).collect();
    if !fields.is_empty() {
        out.insert("properties".into(), Value::Object(fields));
    }
}

fn shape_flags(node: &Schema, out: &mut Map<String, Value>) {
    let flags = [
        ("x-kubernetes-preserve-unknown-fields", node.preserve_unknown),
        ("x-kubernetes-embedded-resource", node.embedded_resource),
        ("x-kubernetes-int-or-string", node.type_ == Type::IntOrString),
        ("nullable", node.nullable),
    ];
    for (name, _) in flags.iter().filter(|(_, set)| *set) {
        out.insert((*name).into(), true.into());
    }
    if !node.enumeration.is_empty() {
        out.insert("enum".into(), node.enumeration.clone().into());
    }
    if node.list_type_given {
        let name = match &node.list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map(keys) => {
                out.insert("x-kubernetes-list-map-keys".into(), json!(keys));
                "map"
            }
        };
        out.insert("x-kubernetes-list-type".into(), name.into());
    }
    map_type(node, out);
}

fn map_type(node: &Schema, out: &mut Map<String, Value>) {
    if node.atomic_map || node.granular_map {
        out.insert("x-kubernetes-map-type".into(), if node.atomic_map { "atomic" } else { "granular" }.into());
    }
}
