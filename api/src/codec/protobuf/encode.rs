//! From JSON to messages: fields by number, maps by key, as generated encoders write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::table::{Field, Form, Kind, Message, Shape, Table};
use super::wire::Writer;
use super::{Error, MAX_DEPTH, forms};

/// Writes the inside of a message.
pub(super) fn message(out: &mut Writer, value: &Value, message: &Message, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new("exceeded max depth"));
    }
    match (message.form, value) {
        (Form::Object, Value::Object(map)) => fields(out, value, map, message, depth),
        (Form::Object, Value::Null) => Ok(()),
        (Form::Object, _) => Err(Error::expected("an object")),
        (Form::SchemaOrBool | Form::SchemaOrList, _) => either(out, value, message, depth),
        (form, _) => forms::write(out, form, value),
    }
}

fn fields(
    out: &mut Writer,
    whole: &Value,
    map: &Map<String, Value>,
    message: &Message,
    depth: usize,
) -> Result<(), Error> {
    let given = map.iter().filter(|(_, value)| !value.is_null());
    let mut present: Vec<(&Field, &Value)> =
        given.filter_map(|(name, value)| Some((message.named(name)?, value))).collect();
    if message.has_inlined {
        let inlined = message.fields().iter().filter(|field| field.shape == Shape::Inlined);
        present.extend(inlined.filter(|field| has_any(map, field)).map(|field| (field, whole)));
    }
    present.sort_unstable_by_key(|(field, _)| field.number);
    present.into_iter().try_for_each(|(field, value)| {
        write_field(out, field, value, depth).map_err(|err| match field.shape {
            Shape::Inlined => err,
            _ => err.within(field.name),
        })
    })
}

/// Whether the map has any field of the inlined message.
fn has_any(map: &Map<String, Value>, field: &Field) -> bool {
    let Kind::Message(id) = field.kind else { return false };
    let inner = Table::get().at(id);
    let inlined = || inner.fields().iter().filter(|field| field.shape == Shape::Inlined);
    map.keys().any(|name| inner.named(name).is_some()) || inlined().any(|field| has_any(map, field))
}

fn write_field(out: &mut Writer, field: &Field, value: &Value, depth: usize) -> Result<(), Error> {
    match (field.shape, value) {
        (Shape::One | Shape::Inlined, _) => single(out, field.number, field.kind, value, depth),
        (Shape::List, Value::Array(list)) => list.iter().enumerate().try_for_each(|(at, element)| {
            let written = single(out, field.number, field.kind, element, depth);
            written.map_err(|err| err.within(&format!("[{at}]")))
        }),
        (Shape::Map, Value::Object(map)) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            entries.into_iter().try_for_each(|(key, value)| {
                out.nested(field.number, |out| {
                    out.bytes(1, key.as_bytes());
                    single(out, 2, field.kind, value, depth).map_err(|err| err.within(key))
                })
            })
        }
        (Shape::List, _) => Err(Error::expected("a list")),
        (Shape::Map, _) => Err(Error::expected("an object")),
    }
}

fn single(out: &mut Writer, number: u32, kind: Kind, value: &Value, depth: usize) -> Result<(), Error> {
    match kind {
        Kind::String => out.bytes(number, value.as_str().ok_or_else(|| Error::expected("a string"))?.as_bytes()),
        Kind::Bytes => out.bytes(number, &from_base64(value)?),
        Kind::Bool => out.integer(number, value.as_bool().ok_or_else(|| Error::expected("a boolean"))?.into()),
        Kind::Int32 => {
            let integer = integer(value)?;
            out.integer(number, i32::try_from(integer).map_err(|_| Error::expected("an integer of 32 bits"))?.into());
        }
        Kind::Int64 => out.integer(number, integer(value)?),
        Kind::Double => out.double(number, value.as_f64().ok_or_else(|| Error::expected("a number"))?),
        Kind::Message(id) => {
            return out.nested(number, |out| message(out, value, Table::get().at(id), depth + 1));
        }
    }
    Ok(())
}

/// A schema, or something in its place: `true` for an open schema, or a list. The fields of such a message are known by
/// what they hold.
fn either(out: &mut Writer, value: &Value, message: &Message, depth: usize) -> Result<(), Error> {
    for field in message.fields() {
        match (field.shape, field.kind, value) {
            (_, Kind::Bool, _) => out.integer(field.number, (*value != Value::Bool(false)).into()),
            (Shape::One, Kind::Message(_), Value::Object(_)) | (Shape::List, _, Value::Array(_)) => {
                write_field(out, field, value, depth)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn integer(value: &Value) -> Result<i64, Error> {
    value.as_i64().ok_or_else(|| Error::expected("an integer of 64 bits"))
}

fn from_base64(value: &Value) -> Result<Vec<u8>, Error> {
    let text = value.as_str().ok_or_else(|| Error::expected("a string"))?;
    let whole: String;
    let text = if text.contains(['\r', '\n']) {
        whole = text.replace(['\r', '\n'], "");
        &whole
    } else {
        text
    };
    STANDARD.decode(text).map_err(|_| Error::expected("base64"))
}
