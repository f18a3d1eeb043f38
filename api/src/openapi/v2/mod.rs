//! The OpenAPI v2 document, one for the whole API, for clients from before v3: the v3 documents in the older language,
//! which knows neither alternatives nor nulls, and has bodies among the parameters.

mod foreign;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use super::custom::{self, Language};
use super::v2_schema::{object, schema};
use super::{Places, bearer, components, definition_of, general, paths};
use crate::resource::Resource;

pub use foreign::{Foreign, Merged};

/// The parts of a document, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Paths,
    Definitions,
    Parameters,
}

/// Where a document is written to. No more of it is in memory at a time than what belongs to one group and version.
pub trait Sink {
    /// Takes a path, a definition or a shared parameter. Parts come one after the other.
    fn entry(&mut self, part: Part, name: &str, value: &Value) -> io::Result<()>;
}

/// Writes the entries of `/openapi/v2` to `sink`, those of other servers among them.
pub fn write(places: &Places, others: &Merged, sink: &mut impl Sink) -> io::Result<()> {
    let (mut parameters, mut wanted) = (Map::new(), BTreeSet::new());
    for (name, place) in &places.by_name {
        let rows: Vec<&Resource> = place.rows.iter().map(AsRef::as_ref).collect();
        let paths = match rows.is_empty() {
            true => general::paths(&places.catalog, name).unwrap_or_default(),
            false => paths::of(&rows, name),
        };
        components::add_references(&paths, &mut wanted);
        let mut paths: Map<String, Value> =
            object(paths).into_iter().map(|(path, item)| (path, path_item(item))).collect();
        parameters.extend(shared::take(&mut paths));
        paths.iter().try_for_each(|(path, item)| sink.entry(Part::Paths, path, item))?;
    }
    others.paths.iter().try_for_each(|(path, item)| sink.entry(Part::Paths, path, item))?;
    wanted.extend(others.shared.keys().cloned());
    write_definitions(places, wanted, &others.shared, sink)?;
    others.definitions.iter().try_for_each(|(name, schema)| sink.entry(Part::Definitions, name, schema))?;
    for (name, parameter) in &others.parameters {
        // Their names are made of what they are: one name, one parameter.
        parameters.entry(name.as_str()).or_insert_with(|| parameter.clone());
    }
    parameters.iter().try_for_each(|(name, parameter)| sink.entry(Part::Parameters, name, parameter))
}

fn write_definitions(
    places: &Places,
    mut wanted: BTreeSet<String>,
    shared: &BTreeMap<String, Vec<Value>>,
    sink: &mut impl Sink,
) -> io::Result<()> {
    let mut entry = |name: &str, mut schema: Value| {
        if let (Some(more), Some(schema)) = (shared.get(name), schema.as_object_mut()) {
            foreign::add_kinds(schema, more);
        }
        sink.entry(Part::Definitions, name, &schema)
    };
    for place in places.by_name.values() {
        for row in place.rows.iter().filter(|row| row.is_custom()) {
            let name = definition_of(row);
            let both =
                [(format!("{name}List"), custom::list(row, Language::V2)), (name, custom::schema(row, Language::V2))];
            for (name, schema) in both {
                components::add_references(&schema, &mut wanted);
                entry(&name, schema)?;
            }
        }
    }
    let definitions = components::of(&[], wanted, &everywhere(places), Language::V2);
    definitions.into_iter().try_for_each(|(name, schema)| entry(&name, schema))
}

/// The groups and versions that have every kind of the general ones.
fn everywhere(places: &Places) -> Vec<(&str, &str)> {
    let builtin = |group: &str| places.catalog.iter().any(|row| row.group == group && !row.is_custom());
    let groups = places.catalog.groups().into_iter().filter(|group| builtin(group.name));
    groups.flat_map(|group| group.versions.into_iter().map(move |version| (group.name, version))).collect()
}

/// A document in JSON.
pub struct Json<W> {
    out: W,
    part: Option<Part>,
}

impl<W: io::Write> Json<W> {
    /// Begins a document.
    pub fn new(mut out: W) -> io::Result<Self> {
        let head = json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.36.2"},
            "securityDefinitions": {"BearerToken": bearer()},
            "security": [{"BearerToken": []}],
        });
        let head = head.to_string();
        out.write_all(&head.as_bytes()[..head.len() - 1])?;
        Ok(Self { out, part: None })
    }

    /// Ends the document.
    pub fn finish(mut self) -> io::Result<W> {
        if self.part.is_some() {
            self.out.write_all(b"}")?;
        }
        self.out.write_all(b"}")?;
        Ok(self.out)
    }
}

impl<W: io::Write> Sink for Json<W> {
    fn entry(&mut self, part: Part, name: &str, value: &Value) -> io::Result<()> {
        if self.part == Some(part) {
            self.out.write_all(b",")?;
        } else {
            let end = if self.part.replace(part).is_some() { "}" } else { "" };
            let word = match part {
                Part::Paths => "paths",
                Part::Definitions => "definitions",
                Part::Parameters => "parameters",
            };
            write!(self.out, "{end},\"{word}\":{{")?;
        }
        serde_json::to_writer(&mut self.out, name)?;
        self.out.write_all(b":")?;
        Ok(serde_json::to_writer(&mut self.out, value)?)
    }
}

/// A hash of what the document is made of.
pub fn hash(places: &Places) -> String {
    let mut hash = Sha512::new();
    places.by_name.values().for_each(|place| hash.update(&place.hash));
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn path_item(item: Value) -> Value {
    let mut out = Map::new();
    for (name, value) in object(item) {
        let value = match (name.as_str(), value) {
            ("parameters", Value::Array(list)) => list.into_iter().map(parameter).collect(),
            (_, value) => operation(value),
        };
        out.insert(name, value);
    }
    Value::Object(out)
}

fn operation(operation: Value) -> Value {
    let mut out = object(operation);
    let mut parameters = match out.remove("parameters") {
        Some(Value::Array(list)) => list.into_iter().map(parameter).collect(),
        _ => Vec::new(),
    };
    if let Some(body) = out.remove("requestBody") {
        let (forms, schema) = content(&body);
        parameters.insert(0, json!({"name": "body", "in": "body", "schema": schema}));
        if body["required"] == true {
            parameters[0]["required"] = true.into();
        }
        out.insert("consumes".into(), forms.into());
    }
    let takes_nothing = !out.contains_key("consumes");
    let mut produced = Vec::new();
    let mut responses = Map::new();
    for (code, mut response) in object(out.remove("responses").unwrap_or_default()) {
        let (forms, schema) = content(&response);
        if let Value::Object(response) = &mut response {
            response.remove("content");
            if !schema.is_null() {
                response.insert("schema".into(), schema);
            }
        }
        if produced.is_empty() {
            produced = forms;
        }
        responses.insert(code, response);
    }
    if takes_nothing {
        // What is the same for all operations of a part of upstream is said even where there is no body.
        let of_resource = out.contains_key("x-kubernetes-action") && !is_custom(&produced);
        let forms = if of_resource { json!(["*/*"]) } else { json!(produced) };
        out.insert("consumes".into(), forms);
    }
    out.insert("responses".into(), responses.into());
    out.insert("produces".into(), produced.into());
    out.insert("schemes".into(), json!(["https"]));
    if !parameters.is_empty() {
        out.insert("parameters".into(), parameters.into());
    }
    Value::Object(out)
}

/// Custom resources have two forms only.
fn is_custom(produced: &[String]) -> bool {
    produced == ["application/json", "application/yaml"]
}

/// The media types of a body or response, and its schema, which is the same in all.
fn content(holder: &Value) -> (Vec<String>, Value) {
    let forms = holder["content"].as_object();
    let names = forms.into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let first = forms.and_then(|forms| forms.values().next());
    (names, first.map_or(Value::Null, |form| schema(form["schema"].clone())))
}

/// A parameter: what v3 says in its schema, v2 says of the parameter itself.
fn parameter(parameter: Value) -> Value {
    let mut out = object(parameter);
    let inner = object(out.remove("schema").unwrap_or_default());
    out.extend(inner);
    Value::Object(out)
}
