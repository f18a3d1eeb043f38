//! The checked walk: a parsed document against its schema. It finds unknown and duplicate fields and wrong types, drops
//! unknown fields and nulls, and answers with a plain JSON tree.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::node::{self, Node};
use super::{base64, go, time};
use crate::quantity::Quantity;
use crate::schema::{Presence, Scalar, SchemaRef, Type};

/// More unknown and duplicate fields are not told of, as by the reference.
pub(crate) const MAX_FINDINGS: usize = 100;

/// What the walk found besides the tree.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// `unknown field "spec.foo"`, `duplicate field "spec.bar"`, in the order of the document.
    pub(super) strict: Vec<String>,
    /// The first value of a wrong type, in Go's words.
    pub(super) error: Option<String>,
}

/// How a value of a wrong type is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// As Go's JSON decoder does.
    Json,
    /// As the copy from maps into structs does that follows a strategic merge.
    Copy,
}

/// Reads a whole object; `strict` says whether unknown and duplicate fields are noted.
pub(super) fn read(
    document: Node<'_>,
    schema: SchemaRef<'_>,
    strict: bool,
    words: Words,
) -> (Map<String, Value>, Findings) {
    let (path, go_path) = (String::new(), String::new());
    let mut reader = Reader { path, go_path, strict, words, within_open_list: false, findings: Findings::default() };
    let name = schema.node().definition.as_deref().map_or("", go::struct_name);
    let map = match document {
        Node::Object(fields) => reader.fields(fields, schema, name, false),
        Node::Null => Map::new(),
        other => {
            reader.mismatch(other.type_name(), schema, name);
            Map::new()
        }
    };
    (map, reader.findings)
}

/// Whether the walk would find nothing and change nothing: what a patch leaves of an object that was read before mostly
/// is so. At most `levels` of lists and objects are looked into; "no" only means that the walk has to be made.
pub(super) fn is_clean(fields: &Map<String, Value>, schema: SchemaRef<'_>, levels: usize) -> bool {
    let node = schema.node();
    fields.iter().all(|(name, value)| match node.properties.get(name) {
        Some(id) => is_clean_value(value, schema.at(*id), levels),
        None => false,
    })
}

fn is_clean_value(value: &Value, schema: SchemaRef<'_>, levels: usize) -> bool {
    let facts = schema.node();
    let Some(below) = levels.checked_sub(1) else { return false };
    match (facts.type_, value) {
        (_, Value::Null) => false,
        _ if facts.presence == Presence::AsGiven => false,
        (Type::Any, value) => SchemaOr::of(schema).is_none() && !super::is_deeper_than(value, below),
        (Type::Object, Value::Object(fields)) => match facts.additional {
            Some(values) => {
                let values = schema.at(values);
                fields.values().all(|value| is_clean_value(value, values, below) && !super::is_too_fine(value, values))
            }
            None => is_clean(fields, schema, below),
        },
        (Type::Array, Value::Array(list)) => {
            schema.items().is_some_and(|items| list.iter().all(|value| is_clean_value(value, items, below)))
        }
        (Type::String, Value::String(text)) => match facts.scalar {
            Scalar::Quantity => text.parse::<Quantity>().is_ok_and(|quantity| quantity.to_string() == *text),
            Scalar::Time => time::seconds(text).is_ok_and(|time| time == *text),
            Scalar::MicroTime => time::micros(text).is_ok_and(|time| time == *text),
            Scalar::Bytes => base64::check(text).is_ok() && !text.contains(['\r', '\n']),
            Scalar::Plain | Scalar::Int32 => true,
        },
        (Type::Boolean, Value::Bool(_)) | (Type::IntOrString, Value::String(_)) => true,
        (Type::Integer, Value::Number(number)) => {
            number.as_i64().is_some_and(|number| facts.scalar != Scalar::Int32 || i32::try_from(number).is_ok())
        }
        (Type::IntOrString, Value::Number(number)) => {
            number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
        }
        _ => false,
    }
}

struct Reader {
    /// As strict errors print it: `spec.containers[0].image`.
    path: String,
    /// As type errors print it, fields only: `spec.containers.image`.
    go_path: String,
    strict: bool,
    words: Words,
    /// Whether the value that is read next is the element of a list that preserves unknown fields: so do its elements.
    within_open_list: bool,
    findings: Findings,
}

impl Reader {
    /// A value; `None` when it is null or wrong. `owner` is the struct whose field this is.
    fn value(&mut self, node: Node<'_>, schema: SchemaRef<'_>, owner: &str) -> Option<Value> {
        let facts = schema.node();
        let open = std::mem::take(&mut self.within_open_list);
        if facts.presence == Presence::AsGiven && !facts.type_.fits(&node) {
            let open = open || facts.preserve_unknown || facts.additional.is_some() || facts.type_ == Type::Any;
            return Some(match node {
                // No field of what should be no object is known.
                Node::Object(fields) if !open => Value::Object(self.fields(fields, schema, owner, false)),
                node => node.into_value(),
            });
        }
        match (facts.type_, node) {
            (_, Node::Null) => None,
            (Type::Any, node) if facts.presence == Presence::AsGiven => Some(self.anything(node)),
            (Type::Any, node) => match SchemaOr::of(schema) {
                Some(other) => self.schema_or(node, other),
                None => Some(node.into_value()),
            },
            (Type::Object, Node::Object(fields)) => {
                let name = facts.definition.as_deref().map_or(owner, go::struct_name);
                Some(Value::Object(match facts.additional {
                    Some(values) => {
                        let mut entries = self.entries(fields, schema.at(values), owner);
                        super::round_amounts(&mut entries, schema.at(values));
                        entries
                    }
                    None => self.fields(fields, schema, name, open),
                }))
            }
            (Type::Array, Node::Array(list)) => Some(Value::Array(self.list(list, schema, owner, open))),
            (_, node) if facts.scalar == Scalar::Quantity => self.quantity(node),
            (Type::String, Node::String(text)) => self.text(text, facts.scalar),
            (Type::String, node) if matches!(facts.scalar, Scalar::Time | Scalar::MicroTime) => {
                self.fail(format!("json: cannot unmarshal {} into Go value of type string", node.type_name()))
            }
            (Type::Boolean, Node::Bool(flag)) => Some(Value::Bool(flag)),
            (Type::Integer, Node::Number(text)) => self.integer(&text, schema, owner),
            (Type::Number, Node::Number(text)) => match node::number(&text) {
                Some(number) => Some(Value::Number(number)),
                None => self.mismatch(&format!("number {text}"), schema, owner),
            },
            (Type::IntOrString, node) => self.int_or_string(node),
            (_, Node::Number(text)) if self.words == Words::Copy => {
                self.mismatch(&format!("number {text}"), schema, owner)
            }
            (_, node) => self.mismatch(node.type_name(), schema, owner),
        }
    }

    fn fields(
        &mut self,
        fields: Vec<(Cow<'_, str>, Node<'_>)>,
        schema: SchemaRef<'_>,
        name: &str,
        open: bool,
    ) -> Map<String, Value> {
        let open = open || schema.node().preserve_unknown;
        let repeated = if self.strict { repeated(&fields) } else { Vec::new() };
        let mut map = Map::new();
        for (at, (field, node)) in fields.into_iter().enumerate() {
            let (path, go_path) = (self.path.len(), self.go_path.len());
            push_field(&mut self.path, &field);
            match schema.node().properties.get(&field) {
                Some(id) => {
                    // What Go decodes into a struct begins below the fields of a custom object.
                    if schema.node().presence != Presence::AsGiven {
                        go::push_field(&mut self.go_path, name, &field);
                    }
                    if repeated.binary_search(&at).is_ok() {
                        self.note("duplicate");
                    }
                    if let Some(value) = self.value(node, schema.at(*id), name) {
                        map.insert(field.into_owned(), value);
                    }
                    self.go_path.truncate(go_path);
                }
                None if open => {
                    if repeated.binary_search(&at).is_ok() {
                        self.note("duplicate");
                    }
                    let value = self.anything(node);
                    map.insert(field.into_owned(), value);
                }
                None => self.note("unknown"),
            }
            self.path.truncate(path);
        }
        map
    }

    fn entries(
        &mut self,
        fields: Vec<(Cow<'_, str>, Node<'_>)>,
        values: SchemaRef<'_>,
        owner: &str,
    ) -> Map<String, Value> {
        let repeated = if self.strict { repeated(&fields) } else { Vec::new() };
        let mut map = Map::new();
        for (at, (key, node)) in fields.into_iter().enumerate() {
            let path = self.path.len();
            push_field(&mut self.path, &key);
            if repeated.binary_search(&at).is_ok() {
                self.note("duplicate");
            }
            let wrong = self.findings.error.is_some();
            match self.value(node, values, owner) {
                Some(value) => {
                    map.insert(key.into_owned(), value);
                }
                None if wrong == self.findings.error.is_some() => {
                    map.insert(key.into_owned(), empty(values));
                }
                None => {}
            }
            self.path.truncate(path);
        }
        map
    }

    /// A value of a custom object that its schema does not describe: only duplicate fields are found.
    fn anything(&mut self, node: Node<'_>) -> Value {
        let path = self.path.len();
        match node {
            Node::Object(fields) if self.strict => {
                let repeated = repeated(&fields);
                let mut map = Map::new();
                for (at, (field, node)) in fields.into_iter().enumerate() {
                    push_field(&mut self.path, &field);
                    if repeated.binary_search(&at).is_ok() {
                        self.note("duplicate");
                    }
                    let value = self.anything(node);
                    map.insert(field.into_owned(), value);
                    self.path.truncate(path);
                }
                Value::Object(map)
            }
            Node::Array(list) if self.strict => {
                let mut values = Vec::with_capacity(list.len());
                for (at, node) in list.into_iter().enumerate() {
                    let _ = write!(self.path, "[{at}]");
                    values.push(self.anything(node));
                    self.path.truncate(path);
                }
                Value::Array(values)
            }
            node => node.into_value(),
        }
    }

    fn list(&mut self, list: Vec<Node<'_>>, schema: SchemaRef<'_>, owner: &str, open: bool) -> Vec<Value> {
        let open = open || schema.node().preserve_unknown;
        let Some(items) = schema.items() else { return list.into_iter().map(Node::into_value).collect() };
        let mut values = Vec::with_capacity(list.len());
        for (at, node) in list.into_iter().enumerate() {
            let path = self.path.len();
            let _ = write!(self.path, "[{at}]");
            self.within_open_list = open;
            values.push(self.value(node, items, owner).unwrap_or_else(|| empty(items)));
            self.path.truncate(path);
        }
        values
    }

    /// A schema of a CustomResourceDefinition, or what else may stand in its place. Go reads it apart from what is around
    /// it: names in errors begin anew, unknown fields are not told of, and most of what is neither is taken for nothing.
    fn schema_or(&mut self, node: Node<'_>, other: SchemaOr) -> Option<Value> {
        let props = super::schema_props();
        let strict = std::mem::take(&mut self.strict);
        let go_path = std::mem::take(&mut self.go_path);
        let read = match (node, other) {
            (Node::Bool(flag), SchemaOr::Bool) => Some(Value::Bool(flag)),
            (node @ Node::Object(_), _) => self.value(node, props, ""),
            (Node::Array(list), SchemaOr::Array) => {
                let read = list.into_iter().map(|one| self.value(one, props, "").unwrap_or_else(|| empty(props)));
                Some(Value::Array(read.collect()))
            }
            (Node::Array(list), SchemaOr::Texts) => {
                let read = list.into_iter().map(|one| match one {
                    Node::String(text) => Value::String(text.into_owned()),
                    Node::Null => "".into(),
                    other => {
                        let name = other.type_name();
                        self.fail(format!("json: cannot unmarshal {name} into Go value of type string"));
                        Value::Null
                    }
                });
                Some(Value::Array(read.collect()))
            }
            (_, SchemaOr::Bool) => self.fail("boolean or JSON schema expected".to_owned()),
            _ => None,
        };
        (self.strict, self.go_path) = (strict, go_path);
        read
    }

    fn text(&mut self, text: Cow<'_, str>, scalar: Scalar) -> Option<Value> {
        let checked = match scalar {
            Scalar::Time => time::seconds(&text),
            Scalar::MicroTime => time::micros(&text),
            Scalar::Bytes => match base64::check(&text) {
                Ok(()) if text.contains(['\r', '\n']) => Ok(text.replace(['\r', '\n'], "")),
                Ok(()) => return Some(Value::String(text.into_owned())),
                Err(error) => Err(error),
            },
            _ => return Some(Value::String(text.into_owned())),
        };
        match checked {
            Ok(text) => Some(Value::String(text)),
            Err(error) => self.fail(error),
        }
    }

    fn quantity(&mut self, node: Node<'_>) -> Option<Value> {
        let text = match &node {
            Node::String(text) => text.trim(),
            Node::Number(text) => text.as_ref(),
            _ => "?",
        };
        match text.parse::<Quantity>() {
            Ok(quantity) => Some(Value::String(quantity.to_string())),
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn integer(&mut self, text: &str, schema: SchemaRef<'_>, owner: &str) -> Option<Value> {
        let fits = |number: &i64| schema.node().scalar != Scalar::Int32 || i32::try_from(*number).is_ok();
        match text.parse::<i64>().ok().filter(fits) {
            Some(number) => Some(Value::from(number)),
            None => self.mismatch(&format!("number {text}"), schema, owner),
        }
    }

    fn int_or_string(&mut self, node: Node<'_>) -> Option<Value> {
        let value = match &node {
            Node::String(text) => return Some(Value::String(text.as_ref().to_owned())),
            Node::Number(text) => match text.parse::<i32>() {
                Ok(number) => return Some(Value::from(number)),
                Err(_) => format!("number {text}"),
            },
            other => other.type_name().to_owned(),
        };
        self.fail(format!("json: cannot unmarshal {value} into Go value of type int32"))
    }

    fn mismatch(&mut self, value: &str, schema: SchemaRef<'_>, owner: &str) -> Option<Value> {
        if self.words == Words::Copy {
            return self.fail(go::copy_error(value, schema));
        }
        let (type_name, place) = if self.go_path.is_empty() {
            (go::type_name(schema), "Go value".to_owned())
        } else {
            let type_name = go::field_type(schema, owner, &self.go_path);
            (type_name, format!("Go struct field {owner}.{}", self.go_path))
        };
        self.fail(format!("json: cannot unmarshal {value} into {place} of type {type_name}"))
    }

    fn fail(&mut self, error: String) -> Option<Value> {
        self.findings.error.get_or_insert(error);
        None
    }

    fn note(&mut self, what: &str) {
        if self.strict {
            // Nobody reads more, and each is compared with all before it.
            if self.findings.strict.len() >= MAX_FINDINGS {
                return;
            }
            let text = format!("{what} field {:?}", self.path);
            if !self.findings.strict.contains(&text) {
                self.findings.strict.push(text);
            }
        }
    }
}

/// What may stand in the place of a `JSONSchemaProps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemaOr {
    Bool,
    Array,
    Texts,
}

impl SchemaOr {
    /// What the definition of a node that may be anything says.
    pub(super) fn of(schema: SchemaRef<'_>) -> Option<Self> {
        match go::struct_name(schema.node().definition.as_deref()?) {
            "JSONSchemaPropsOrBool" => Some(Self::Bool),
            "JSONSchemaPropsOrArray" => Some(Self::Array),
            "JSONSchemaPropsOrStringArray" => Some(Self::Texts),
            _ => None,
        }
    }
}

impl Type {
    fn fits(self, node: &Node<'_>) -> bool {
        match self {
            Self::Object => matches!(node, Node::Object(_)),
            Self::Array => matches!(node, Node::Array(_)),
            _ => false,
        }
    }
}

fn push_field(path: &mut String, field: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(field);
}

/// The positions of fields whose name occurred before.
fn repeated(fields: &[(Cow<'_, str>, Node<'_>)]) -> Vec<usize> {
    const FEW: usize = 16;
    if fields.len() <= FEW {
        let before = |at: usize| fields[..at].iter().any(|(name, _)| *name == fields[at].0);
        return (1..fields.len()).filter(|at| before(*at)).collect();
    }
    let mut seen = HashSet::with_capacity(fields.len());
    fields.iter().enumerate().filter(|(_, (name, _))| !seen.insert(name.as_ref())).map(|(at, _)| at).collect()
}

/// What null is as an element of a list or map: the zero of its type.
fn empty(schema: SchemaRef<'_>) -> Value {
    match (schema.node().type_, schema.node().scalar) {
        (_, Scalar::Time | Scalar::MicroTime | Scalar::Bytes) | (Type::Any | Type::Array, _) => Value::Null,
        (_, Scalar::Quantity) => "0".into(),
        (Type::Object, _) => Value::Object(Map::new()),
        (Type::String, _) => "".into(),
        (Type::Boolean, _) => false.into(),
        (Type::Integer | Type::Number | Type::IntOrString, _) => 0.into(),
    }
}
