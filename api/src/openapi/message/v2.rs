//! `openapi.v2.Document`.

use serde_json::Value;

use super::{Fields, any, each, extensions, flag, inside, message, named, text, texts};
use crate::codec::protobuf::wire::Writer;

/// Methods of a path with the numbers of their fields.
const METHODS: [(&str, u32); 7] =
    [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];

/// Encodes a document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    let Some(document) = document.as_object() else { return out.into_bytes() };
    text(&mut out, 1, document.get("swagger"));
    message(&mut out, 2, document.get("info"), |out, info| {
        text(out, 1, info.get("title"));
        text(out, 2, info.get("version"));
    });
    message(&mut out, 8, document.get("paths"), |out, paths| named(out, 2, paths, path_item));
    message(&mut out, 9, document.get("definitions"), |out, schemas| named(out, 1, schemas, schema));
    each(&mut out, 12, document.get("security"), |out, requirement| {
        requirement.as_object().into_iter().for_each(|schemes| named(out, 1, schemes, |_, _| {}));
    });
    message(&mut out, 13, document.get("securityDefinitions"), |out, definitions| {
        named(out, 1, definitions, |out, definition| inside(out, 2, |out| api_key(out, definition)));
    });
    out.into_bytes()
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

fn parameter(out: &mut Writer, parameter: &Value) {
    let place = parameter["in"].as_str().unwrap_or("");
    inside(out, 1, |out| match place {
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
    });
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
