//! OpenAPI documents as protobuf messages (gnostic's `openapi.v2.Document` and `openapi.v3.Document`), the only form of v2
//! that `kubectl` asks for. Maps are lists of names with values there, and what has no field of its own is YAML text, of
//! which JSON is a part.

pub mod v2;
pub mod v3;

use serde_json::{Map, Value};

use crate::codec::protobuf::wire::Writer;

type Fields = Map<String, Value>;

fn extensions(out: &mut Writer, number: u32, fields: &Fields) {
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
        entry(out, number, name, |out| any(out, value));
    }
}

fn any(out: &mut Writer, value: &Value) {
    out.bytes(2, value.to_string().as_bytes());
}

/// A map as a list of entries.
fn named(out: &mut Writer, number: u32, map: &Fields, mut write: impl FnMut(&mut Writer, &Value)) {
    for (name, value) in map {
        entry(out, number, name, |out| write(out, value));
    }
}

fn entry(out: &mut Writer, number: u32, name: &str, write: impl FnOnce(&mut Writer)) {
    inside(out, number, |out| {
        out.bytes(1, name.as_bytes());
        inside(out, 2, write);
    });
}

/// An object that may not be there.
fn message(out: &mut Writer, number: u32, value: Option<&Value>, write: impl FnOnce(&mut Writer, &Fields)) {
    if let Some(fields) = value.and_then(Value::as_object) {
        inside(out, number, |out| write(out, fields));
    }
}

fn each(out: &mut Writer, number: u32, list: Option<&Value>, mut write: impl FnMut(&mut Writer, &Value)) {
    for value in list.and_then(Value::as_array).into_iter().flatten() {
        inside(out, number, |out| write(out, value));
    }
}

fn inside(out: &mut Writer, number: u32, write: impl FnOnce(&mut Writer)) {
    let written = out.nested(number, |out| {
        write(out);
        Ok(())
    });
    written.expect("what is written into memory is written");
}

fn text(out: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
        out.bytes(number, text.as_bytes());
    }
}

fn texts(out: &mut Writer, number: u32, list: Option<&Value>) {
    for value in list.and_then(Value::as_array).into_iter().flatten() {
        text(out, number, Some(value));
    }
}

fn flag(out: &mut Writer, number: u32, value: Option<&Value>) {
    if value == Some(&Value::Bool(true)) {
        out.integer(number, 1);
    }
}
