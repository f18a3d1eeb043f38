//! The schema of one version of a custom resource: from `openAPIV3Schema` as its author wrote it to nodes of an arena.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::schema::Pattern;
use crate::schema::builtin::builtin;
use crate::schema::{ListType, Presence, Schema, SchemaId, SchemaRef, Schemas, Type};
use crate::text::Text;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Keywords that become fields of a node, those that say nothing of a value, and rules, which are compiled from what was
/// written; all others are kept as written.
const NOT_KEPT: [&str; 20] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "example",
    "externalDocs",
    "format",
    "items",
    "nullable",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Reads the schema of whole objects. `written` has been checked to be structural.
pub(crate) fn read(written: &Value) -> (Schemas, SchemaId) {
    let mut reader = Reader::default();
    let none = Map::new();
    let root = reader.node(written.as_object().unwrap_or(&none), true);
    reader.schemas.shrink();
    (reader.schemas, root)
}

#[derive(Default)]
struct Reader {
    schemas: Schemas,
    /// Where nodes of the built-in arena went.
    copies: HashMap<SchemaId, SchemaId>,
}

impl Reader {
    fn node(&mut self, written: &Map<String, Value>, root: bool) -> SchemaId {
        let flag = |name: &str| written.get(name) == Some(&Value::Bool(true));
        let embedded_resource = flag("x-kubernetes-embedded-resource");
        let mut properties: Vec<(Text, SchemaId)> = Vec::new();
        for (name, property) in object(written, "properties") {
            properties.push((name.clone().into(), self.inner(property)));
        }
        if root || embedded_resource {
            self.add_type_and_metadata(&mut properties, written);
        }
        let additional = match written.get("additionalProperties") {
            Some(Value::Object(values)) => Some(self.node(values, false)),
            Some(Value::Bool(true)) => Some(self.anything()),
            _ => None,
        };
        let items = written.get("items").and_then(Value::as_object).map(|items| self.node(items, false));
        let rules: Map<String, Value> = written
            .iter()
            .filter(|(name, value)| !NOT_KEPT.contains(&name.as_str()) && !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let pattern = text(written, "pattern");
        let map_type = text(written, "x-kubernetes-map-type");
        self.schemas.add(Schema {
            type_: type_of(written),
            presence: Presence::AsGiven,
            format: text(written, "format").to_owned().into(),
            properties: properties.into_iter().collect(),
            additional,
            items,
            required: texts(written, "required").map(|name| name.to_owned().into()).collect(),
            nullable: flag("nullable"),
            default: written.get("default").cloned().filter(|default| !default.is_null()),
            enumeration: written.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            list_type: list_type(written),
            list_type_given: !text(written, "x-kubernetes-list-type").is_empty(),
            atomic_map: map_type == "atomic",
            granular_map: map_type == "granular",
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource,
            pattern: (!pattern.is_empty()).then(|| Arc::new(Pattern::new(pattern))),
            value_validation: (!rules.is_empty()).then(|| Box::new(Value::Object(rules))),
            ..Schema::default()
        })
    }

    fn inner(&mut self, written: &Value) -> SchemaId {
        match written {
            Value::Object(written) => self.node(written, false),
            _ => self.anything(),
        }
    }

    /// A value of which nothing is known.
    fn anything(&mut self) -> SchemaId {
        self.schemas.add(Schema { presence: Presence::AsGiven, preserve_unknown: true, ..Schema::default() })
    }

    /// What every object has, whether or not its author says so. Of `metadata` authors can only restrict the names.
    fn add_type_and_metadata(&mut self, properties: &mut Vec<(Text, SchemaId)>, written: &Map<String, Value>) {
        for name in ["apiVersion", "kind"] {
            if !properties.iter().any(|(known, _)| known == name) {
                let string = Schema { type_: Type::String, presence: Presence::AsGiven, ..Schema::default() };
                properties.push((name.into(), self.schemas.add(string)));
            }
        }
        properties.retain(|(name, _)| name != "metadata");
        let restricted = written.get("properties").and_then(|properties| properties.get("metadata"));
        properties.push(("metadata".into(), self.metadata(restricted)));
    }

    fn metadata(&mut self, restricted: Option<&Value>) -> SchemaId {
        let definition = builtin().definition(OBJECT_META).expect("every object has metadata");
        let source = builtin().schemas().at(definition.id);
        let copy = self.copy(source);
        let names = restricted.map(|metadata| object_of(metadata, "properties"));
        let Some(names) = names.filter(|names| !names.is_empty()) else { return copy };
        let mut node = self.schemas.at(copy).node().clone();
        let mut fields: Vec<(Text, SchemaId)> =
            node.properties.iter().map(|(n, id)| (n.to_owned().into(), id)).collect();
        for (name, id) in &mut fields {
            if let Some(rules) = names.get(name.as_ref()).and_then(Value::as_object) {
                let mut field = self.schemas.at(*id).node().clone();
                field.enumeration = rules.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
                let pattern = text(rules, "pattern");
                field.pattern = (!pattern.is_empty()).then(|| Arc::new(Pattern::new(pattern)));
                field.value_validation = Some(Box::new(Value::Object(rules.clone())));
                *id = self.schemas.add(field);
            }
        }
        node.properties = fields.into_iter().collect();
        self.schemas.add(node)
    }

    /// A built-in node with all below it, in this arena.
    fn copy(&mut self, source: SchemaRef<'_>) -> SchemaId {
        if let Some(known) = self.copies.get(&source.id()) {
            return *known;
        }
        let id = self.schemas.add(Schema::default());
        self.copies.insert(source.id(), id);
        let mut node = source.node().clone();
        node.properties = source.fields().map(|(name, field)| (name.to_owned(), self.copy(field))).collect();
        node.additional = source.values().map(|values| self.copy(values));
        node.items = source.items().map(|items| self.copy(items));
        *self.schemas.get_mut(id) = node;
        id
    }
}

fn type_of(written: &Map<String, Value>) -> Type {
    if written.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Type::IntOrString;
    }
    match text(written, "type") {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "boolean" => Type::Boolean,
        "integer" => Type::Integer,
        "number" => Type::Number,
        _ => Type::Any,
    }
}

fn list_type(written: &Map<String, Value>) -> ListType {
    match text(written, "x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => ListType::Map(texts(written, "x-kubernetes-list-map-keys").map(str::to_owned).collect()),
        _ => ListType::Atomic,
    }
}

fn text<'a>(written: &'a Map<String, Value>, name: &str) -> &'a str {
    written.get(name).and_then(Value::as_str).unwrap_or("")
}

fn texts<'a>(written: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a str> {
    written.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn object<'a>(written: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    written.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn object_of<'a>(written: &'a Value, name: &str) -> &'a Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    written.get(name).and_then(Value::as_object).unwrap_or(&NONE)
}
