//! `openapi.v3.Document`.

use serde_json::Value;

use super::{Fields, any, each, extensions, flag, inside, message, named, text, texts};
use crate::codec::protobuf::wire::Writer;

/// Methods of a path with the numbers of their fields.
const METHODS: [(&str, u32); 8] =
    [("get", 4), ("put", 5), ("post", 6), ("delete", 7), ("options", 8), ("head", 9), ("patch", 10), ("trace", 11)];

/// Encodes a document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    let Some(document) = document.as_object() else { return out.into_bytes() };
    text(&mut out, 1, document.get("openapi"));
    message(&mut out, 2, document.get("info"), |out, info| {
        text(out, 1, info.get("title"));
        text(out, 6, info.get("version"));
    });
    message(&mut out, 4, document.get("paths"), |out, paths| named(out, 1, paths, path_item));
    message(&mut out, 5, document.get("components"), |out, components| {
        message(out, 1, components.get("schemas"), |out, schemas| named(out, 1, schemas, schema_or_reference));
        message(out, 7, components.get("securitySchemes"), |out, schemes| {
            named(out, 1, schemes, |out, scheme| inside(out, 1, |out| security_scheme(out, scheme)));
        });
    });
    out.into_bytes()
}

fn security_scheme(out: &mut Writer, scheme: &Value) {
    for (number, name) in (1..).zip(["type", "description", "name", "in"]) {
        text(out, number, scheme.get(name));
    }
}

fn path_item(out: &mut Writer, item: &Value) {
    for (method, number) in METHODS {
        message(out, number, item.get(method), operation);
    }
    each(out, 13, item.get("parameters"), parameter);
}

fn operation(out: &mut Writer, operation: &Fields) {
    texts(out, 1, operation.get("tags"));
    text(out, 3, operation.get("description"));
    text(out, 5, operation.get("operationId"));
    each(out, 6, operation.get("parameters"), parameter);
    message(out, 7, operation.get("requestBody"), |out, body| {
        inside(out, 1, |out| {
            text(out, 1, body.get("description"));
            message(out, 2, body.get("content"), media_types);
            flag(out, 3, body.get("required"));
        });
    });
    message(out, 8, operation.get("responses"), |out, responses| named(out, 2, responses, response));
    extensions(out, 13, operation);
}

fn response(out: &mut Writer, response: &Value) {
    inside(out, 1, |out| {
        text(out, 1, response.get("description"));
        message(out, 3, response.get("content"), media_types);
    });
}

fn media_types(out: &mut Writer, forms: &Fields) {
    named(out, 1, forms, |out, form| {
        if let Some(schema) = form.get("schema") {
            inside(out, 1, |out| schema_or_reference(out, schema));
        }
    });
}

fn parameter(out: &mut Writer, parameter: &Value) {
    inside(out, 1, |out| {
        for (number, name) in (1..).zip(["name", "in", "description"]) {
            text(out, number, parameter.get(name));
        }
        flag(out, 4, parameter.get("required"));
        if let Some(schema) = parameter.get("schema") {
            inside(out, 10, |out| schema_or_reference(out, schema));
        }
    });
}

fn schema_or_reference(out: &mut Writer, value: &Value) {
    let Some(fields) = value.as_object() else { return };
    match fields.get("$ref") {
        Some(target) => inside(out, 2, |out| {
            text(out, 1, Some(target));
            text(out, 3, fields.get("description"));
        }),
        None => inside(out, 1, |out| schema(out, fields)),
    }
}

fn schema(out: &mut Writer, schema: &Fields) {
    for (number, name) in
        [(1, "nullable"), (3, "readOnly"), (4, "writeOnly"), (8, "deprecated"), (12, "exclusiveMaximum")]
            .into_iter()
            .chain([(14, "exclusiveMinimum"), (20, "uniqueItems")])
    {
        flag(out, number, schema.get(name));
    }
    message(out, 6, schema.get("externalDocs"), |out, docs| {
        text(out, 1, docs.get("description"));
        text(out, 2, docs.get("url"));
    });
    if let Some(example) = schema.get("example") {
        inside(out, 7, |out| any(out, example));
    }
    for (number, name) in [(10, "multipleOf"), (11, "maximum"), (13, "minimum")] {
        if let Some(value) = schema.get(name).and_then(Value::as_f64) {
            out.double(number, value);
        }
    }
    let lengths = [(15, "maxLength"), (16, "minLength"), (18, "maxItems"), (19, "minItems")];
    for (number, name) in lengths.into_iter().chain([(21, "maxProperties"), (22, "minProperties")]) {
        if let Some(value) = schema.get(name).and_then(Value::as_i64) {
            out.integer(number, value);
        }
    }
    for (number, name) in [(9, "title"), (17, "pattern"), (25, "type"), (34, "description"), (35, "format")] {
        text(out, number, schema.get(name));
    }
    texts(out, 23, schema.get("required"));
    each(out, 24, schema.get("enum"), any);
    for (number, name) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        each(out, number, schema.get(name), schema_or_reference);
    }
    message(out, 29, schema.get("not"), self::schema);
    inner_schemas(out, schema);
    if let Some(default) = schema.get("default") {
        inside(out, 33, |out| default_value(out, default));
    }
    extensions(out, 36, schema);
}

fn inner_schemas(out: &mut Writer, schema: &Fields) {
    if let Some(items) = schema.get("items") {
        inside(out, 30, |out| inside(out, 1, |out| schema_or_reference(out, items)));
    }
    message(out, 31, schema.get("properties"), |out, fields| named(out, 1, fields, schema_or_reference));
    match schema.get("additionalProperties") {
        Some(Value::Bool(allowed)) => inside(out, 32, |out| out.integer(2, i64::from(*allowed))),
        Some(values) => inside(out, 32, |out| inside(out, 1, |out| schema_or_reference(out, values))),
        None => {}
    }
}

/// A default has a field for each scalar type; others are there, but empty.
fn default_value(out: &mut Writer, default: &Value) {
    match default {
        Value::Number(number) => out.double(1, number.as_f64().unwrap_or_default()),
        Value::Bool(flag) => out.integer(2, i64::from(*flag)),
        Value::String(text) => out.bytes(3, text.as_bytes()),
        Value::Null | Value::Array(_) | Value::Object(_) => {}
    }
}
