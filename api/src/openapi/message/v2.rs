//! `openapi.v2.Document`.

use std::io;

use serde_json::Value;

use super::super::bearer;
use super::super::v2::{Part, Sink};
use super::{Fields, any, each, entry, extensions, flag, inside, message, named, text, texts};
use crate::codec::protobuf::wire::Writer;

/// Methods of a path with the numbers of their fields.
const METHODS: [(&str, u32); 7] =
    [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];

/// A document as a message.
#[derive(Default)]
pub struct Message {
    paths: Writer,
    definitions: Writer,
    parameters: Writer,
}

impl Sink for Message {
    fn entry(&mut self, part: Part, name: &str, value: &Value) -> io::Result<()> {
        match part {
            Part::Paths => entry(&mut self.paths, 2, name, |out| path_item(out, value)),
            Part::Definitions => entry(&mut self.definitions, 1, name, |out| schema(out, value)),
            Part::Parameters => entry(&mut self.parameters, 1, name, |out| parameter_itself(out, value)),
        }
        Ok(())
    }
}

impl Message {
    /// The bytes of the document.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Writer::default();
        out.bytes(1, b"2.0");
        inside(&mut out, 2, |out| {
            out.bytes(1, b"Kubernetes");
            out.bytes(2, b"v1.36.2");
        });
        for (number, part) in [(8, self.paths), (9, self.definitions), (10, self.parameters)] {
            out.bytes(number, &part.into_bytes());
        }
        inside(&mut out, 12, |out| entry(out, 1, "BearerToken", |_| {}));
        inside(&mut out, 13, |out| entry(out, 1, "BearerToken", |out| inside(out, 2, |out| api_key(out, &bearer()))));
        out.into_bytes()
    }
}

fn api_key(out: &mut Writer, key: &Value) {
    for (number, name) in (1..).zip(["type", "name", "in", "description"]) {
        text(out, number, key.get(name));
    }
}

fn path_item(out: &mut Writer, item: &Value) {
    for (method, number) in METHODS {
        message(out, number, item.get(method), operation);
    }
    each(out, 9, item.get("parameters"), parameter);
}

fn operation(out: &mut Writer, operation: &Fields) {
    texts(out, 1, operation.get("tags"));
    text(out, 3, operation.get("description"));
    text(out, 5, operation.get("operationId"));
    texts(out, 6, operation.get("produces"));
    texts(out, 7, operation.get("consumes"));
    each(out, 8, operation.get("parameters"), parameter);
    message(out, 9, operation.get("responses"), |out, responses| {
        named(out, 1, responses, |out, response| {
            inside(out, 1, |out| {
                text(out, 1, response.get("description"));
                if let Some(schema) = response.get("schema") {
                    inside(out, 2, |out| inside(out, 1, |out| self::schema(out, schema)));
                }
            });
        });
    });
    texts(out, 10, operation.get("schemes"));
    extensions(out, 13, operation);
}

/// A parameter of an operation, or where it is written.
fn parameter(out: &mut Writer, parameter: &Value) {
    match parameter.get("$ref") {
        Some(target) => inside(out, 2, |out| text(out, 1, Some(target))),
        None => inside(out, 1, |out| parameter_itself(out, parameter)),
    }
}

fn parameter_itself(out: &mut Writer, parameter: &Value) {
    match parameter["in"].as_str().unwrap_or("") {
        "body" => inside(out, 1, |out| {
            text(out, 2, parameter.get("name"));
            text(out, 3, parameter.get("in"));
            flag(out, 4, parameter.get("required"));
            if let Some(schema) = parameter.get("schema") {
                inside(out, 5, |out| self::schema(out, schema));
            }
        }),
        // In the query, a field for empty values comes between the name and the type.
        place => inside(out, 2, |out| {
            let (number, type_, unique) = if place == "query" { (3, 6, 20) } else { (4, 5, 19) };
            inside(out, number, |out| {
                flag(out, 1, parameter.get("required"));
                text(out, 2, parameter.get("in"));
                text(out, 3, parameter.get("description"));
                text(out, 4, parameter.get("name"));
                text(out, type_, parameter.get("type"));
                flag(out, unique, parameter.get("uniqueItems"));
            });
        }),
    }
}

fn schema(out: &mut Writer, schema: &Value) {
    let Some(schema) = schema.as_object() else { return };
    for (number, name) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description")] {
        text(out, number, schema.get(name));
    }
    for (number, name) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        if let Some(value) = schema.get(name).and_then(Value::as_f64) {
            out.double(number, value);
        }
    }
    flag(out, 8, schema.get("exclusiveMaximum"));
    flag(out, 10, schema.get("exclusiveMinimum"));
    let lengths = [(11, "maxLength"), (12, "minLength"), (14, "maxItems"), (15, "minItems")];
    for (number, name) in lengths.into_iter().chain([(17, "maxProperties"), (18, "minProperties")]) {
        if let Some(value) = schema.get(name).and_then(Value::as_i64) {
            out.integer(number, value);
        }
    }
    text(out, 13, schema.get("pattern"));
    flag(out, 16, schema.get("uniqueItems"));
    texts(out, 19, schema.get("required"));
    each(out, 20, schema.get("enum"), any);
    match schema.get("additionalProperties") {
        Some(Value::Bool(allowed)) => inside(out, 21, |out| out.integer(2, i64::from(*allowed))),
        Some(values) => inside(out, 21, |out| inside(out, 1, |out| self::schema(out, values))),
        None => {}
    }
    if let Some(type_) = schema.get("type") {
        inside(out, 22, |out| text(out, 1, Some(type_)));
    }
    if let Some(items) = schema.get("items") {
        inside(out, 23, |out| inside(out, 1, |out| self::schema(out, items)));
    }
    message(out, 25, schema.get("properties"), |out, fields| named(out, 1, fields, self::schema));
    if let Some(example) = schema.get("example") {
        inside(out, 30, |out| any(out, example));
    }
    extensions(out, 31, schema);
}
