//! From schemas to what expressions know of values: types, and the sizes that limits allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::{Decl, Field, Kind, ListKind, MAX_REQUEST_BYTES, Object, escape};
use serde_json::{Map, Value, json};

use super::is_resource;

/// The declaration of a node; `None` when expressions cannot see it. `resource` adds what every resource has. Objects
/// are named by their path, so that those of different places are of different types.
pub(crate) fn declare(written: &Map<String, Value>, resource: bool, path: &str) -> Option<Decl> {
    let flag = |name: &str| written.get(name) == Some(&Value::Bool(true));
    let mut decl = if flag("x-kubernetes-int-or-string") {
        let mut decl = Decl::of(Kind::IntOrString);
        decl.max_elements = limit(written, "maxLength").map_or(decl.max_elements, |length| length.saturating_mul(4));
        decl
    } else {
        match written.get("type").and_then(Value::as_str)? {
            "array" => list(written, path)?,
            "object" => object(written, resource, path)?,
            "string" => string(written),
            "boolean" => Decl::of(Kind::Bool),
            "number" => Decl::of(Kind::Double),
            "integer" => Decl::of(Kind::Int),
            _ => return None,
        }
    };
    decl.nullable = flag("nullable");
    Some(decl)
}

/// A limit that the schema sets; a negative one is none to speak of.
fn limit(written: &Map<String, Value>, name: &str) -> Option<u64> {
    let number = written.get(name)?.as_i64()?;
    Some(u64::try_from(number).unwrap_or(0))
}

fn list(written: &Map<String, Value>, path: &str) -> Option<Decl> {
    let items = written.get("items")?.as_object()?;
    let items = Arc::new(declare(items, is_resource(items), &format!("{path}.@idx"))?);
    let kind = match written.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let escaped = |key: String| escape(&key).map_or_else(|| key.clone(), |name| name.into_owned());
            ListKind::Map(list_keys(written).into_iter().map(escaped).collect())
        }
        _ => ListKind::Atomic,
    };
    let mut decl = Decl::of(Kind::List { items, kind });
    decl.max_elements = limit(written, "maxItems").unwrap_or(decl.max_elements);
    Some(decl)
}

/// The keys by which the elements of a list are told apart.
pub(super) fn list_keys(written: &Map<String, Value>) -> Vec<String> {
    if written.get("x-kubernetes-list-type").and_then(Value::as_str) != Some("map") {
        return Vec::new();
    }
    let keys = written.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn object(written: &Map<String, Value>, resource: bool, path: &str) -> Option<Decl> {
    if let Some(values) = written.get("additionalProperties").and_then(Value::as_object) {
        let values = declare(values, is_resource(values), &format!("{path}.@elem"))?;
        let mut decl = Decl::of(Kind::Map(Arc::new(values)));
        decl.max_elements = limit(written, "maxProperties").unwrap_or(decl.max_elements);
        return Some(decl);
    }
    let none = Map::new();
    let declared = written.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let mut properties: BTreeMap<&str, &Value> = declared.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let text = json!({"type": "string"});
    let metadata = json!({"type": "object", "properties": {"name": text, "generateName": text}});
    if resource && !has_names(declared) {
        properties.extend([("apiVersion", &text), ("kind", &text), ("metadata", &metadata)]);
    }
    let required = |name: &str| {
        written.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
    };
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    for (name, property) in properties {
        let Some(property) = property.as_object() else { continue };
        let Some(decl) = declare(property, is_resource(property), &format!("{path}.{name}")) else { continue };
        // A name, quotes, a colon and a comma; what has a default need not be sent.
        if required(name) && property.get("default").is_none_or(Value::is_null) {
            min_size += name.len() as u64 + decl.min_size + 4;
        }
        if let Some(escaped) = escape(name) {
            fields.insert(escaped.into_owned(), Field { name: name.to_owned(), decl: Arc::new(decl) });
        }
    }
    let mut decl = Decl::of(Kind::Object(Arc::new(Object { name: path.into(), fields })));
    decl.min_size = min_size;
    Some(decl)
}

/// Whether the author declares all that expressions see of every resource.
fn has_names(properties: &Map<String, Value>) -> bool {
    let is = |property: Option<&Value>, wanted: &str| property.is_some_and(|property| property["type"] == wanted);
    let metadata = properties.get("metadata");
    let inner = |name: &str| metadata.and_then(|metadata| metadata["properties"].get(name));
    is(properties.get("kind"), "string")
        && is(properties.get("apiVersion"), "string")
        && is(metadata, "object")
        && is(inner("name"), "string")
        && is(inner("generateName"), "string")
}

fn string(written: &Map<String, Value>) -> Decl {
    let kind = match written.get("format").and_then(Value::as_str).unwrap_or("") {
        "byte" => Kind::Bytes,
        "duration" => Kind::Duration,
        "date" => Kind::Date,
        "date-time" => Kind::Timestamp,
        _ => Kind::String,
    };
    let mut decl = Decl::of(kind);
    let length = limit(written, "maxLength");
    match (&decl.kind, length) {
        (Kind::Bytes, Some(length)) => decl.max_elements = length,
        // A character takes up to four bytes.
        (Kind::String, Some(length)) => decl.max_elements = length.saturating_mul(4),
        (Kind::String, None) => {
            let words = written.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let longest = words.map(|word| word.len() as u64).max();
            decl.max_elements = longest.unwrap_or(decl.max_elements);
        }
        _ => {}
    }
    decl
}

/// What a node knows of its property.
pub(super) fn property(decl: &Decl, name: &str) -> Option<Arc<Decl>> {
    let Kind::Object(object) = &decl.kind else { return None };
    object.fields.get(escape(name)?.as_ref()).map(|field| Arc::clone(&field.decl))
}

/// What a node knows of its elements or values.
pub(super) fn part(decl: &Decl) -> Option<Arc<Decl>> {
    match &decl.kind {
        Kind::List { items, .. } => Some(Arc::clone(items)),
        Kind::Map(values) => Some(Arc::clone(values)),
        _ => None,
    }
}

/// How often a value of the node can be in an object at most, when nothing above limits that.
pub(super) fn most_often(decl: &Decl) -> u64 {
    MAX_REQUEST_BYTES / (decl.min_size + 1)
}
