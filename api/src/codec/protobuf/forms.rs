//! Messages that are no objects in JSON: times, quantities, values of any kind.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::table::{Form, Kind, Message, Shape};
use super::wire::{Reader, Wire, Writer};
use super::{Error, MAGIC, MAX_DEPTH};
use crate::codec::time;
use crate::quantity::Quantity;

/// The seconds of Go's zero time, which is no time at all.
const ZERO_TIME: i64 = -62_135_596_800;
const NANOS: i128 = 1_000_000_000;

/// Reads a message of one of these forms.
pub(super) fn read(form: Form, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    match form {
        Form::Time => read_time(bytes, false),
        Form::MicroTime => read_time(bytes, true),
        Form::Duration => read_duration(bytes),
        Form::Quantity => read_quantity(bytes),
        Form::IntOrString => read_int_or_string(bytes),
        Form::List => read_list(bytes),
        Form::Json => read_json(last(bytes)?),
        Form::Embedded => match last(bytes)? {
            object if object.starts_with(MAGIC) && depth < MAX_DEPTH => {
                super::embedded(object, depth + 1).map(Value::Object)
            }
            text => read_json(text),
        },
        Form::Object | Form::SchemaOrBool | Form::SchemaOrList => unreachable!("these have fields of their own"),
    }
}

/// Writes the inside of a message of one of these forms.
pub(super) fn write(out: &mut Writer, form: Form, value: &Value) -> Result<(), Error> {
    match form {
        Form::Time => return write_time(out, value, time::seconds),
        Form::MicroTime => return write_time(out, value, time::micros),
        Form::Duration => {
            let nanos = value.as_str().and_then(cel::parse_go_duration);
            out.integer(1, nanos.ok_or_else(|| Error::expected("a duration"))?);
        }
        Form::Quantity => match value {
            Value::String(text) => out.bytes(1, text.as_bytes()),
            Value::Number(number) => out.bytes(1, number.to_string().as_bytes()),
            _ => return Err(Error::expected("a quantity")),
        },
        Form::IntOrString => {
            let integer = value.as_i64().map(i32::try_from).transpose().map_err(|_| Error::expected("of 32 bits"))?;
            let (text, is_text) = (value.as_str().unwrap_or(""), value.is_string());
            if !is_text && integer.is_none() {
                return Err(Error::expected("an integer or a string"));
            }
            out.integer(1, is_text.into());
            out.integer(2, integer.unwrap_or(0).into());
            out.bytes(3, text.as_bytes());
        }
        Form::List => {
            for element in value.as_array().ok_or_else(|| Error::expected("a list"))? {
                out.bytes(1, element.as_str().ok_or_else(|| Error::expected("a string"))?.as_bytes());
            }
        }
        Form::Json | Form::Embedded => out.bytes(1, value.to_string().as_bytes()),
        Form::Object | Form::SchemaOrBool | Form::SchemaOrList => unreachable!("these have fields of their own"),
    }
    Ok(())
}

/// What a message is that holds a schema or something in its place.
pub(super) fn either(message: &Message, mut map: Map<String, Value>) -> Result<Value, Error> {
    let mut value = Value::Null;
    for field in message.fields() {
        match (field.shape, field.kind, map.remove(field.name)) {
            (_, Kind::Bool, allows) => value = allows.unwrap_or(false.into()),
            (Shape::One, _, Some(schema)) => value = schema,
            (Shape::List, _, Some(list)) => value = list,
            _ => {}
        }
    }
    Ok(value)
}

/// The last value of field 1, empty when there is none.
fn last(bytes: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(bytes);
    let mut found: &[u8] = &[];
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Bytes) => found = reader.bytes()?,
            _ => reader.skip(number, wire)?,
        }
    }
    Ok(found)
}

fn read_json(text: &[u8]) -> Result<Value, Error> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(text).map_err(|err| Error::new(format!("raw value is no JSON: {err}")))
}

fn read_list(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(bytes);
    let mut list = Vec::new();
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Bytes) => list.push(reader.text()?.into()),
            _ => reader.skip(number, wire)?,
        }
    }
    Ok(Value::Array(list))
}

fn read_quantity(bytes: &[u8]) -> Result<Value, Error> {
    let text = std::str::from_utf8(last(bytes)?).map_err(|_| Error::new("string is not valid UTF-8"))?;
    if text.is_empty() {
        return Ok("0".into());
    }
    let quantity: Quantity = text.parse().map_err(|_| Error::expected("a quantity"))?;
    Ok(quantity.to_string().into())
}

fn read_duration(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(bytes);
    let mut nanos = 0;
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Varint) => nanos = reader.varint()?.cast_signed(),
            _ => reader.skip(number, wire)?,
        }
    }
    Ok(time::print_duration(nanos).into())
}

fn read_int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(bytes);
    let (mut type_, mut integer, mut text) = (0, 0, "");
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Varint) => type_ = reader.varint()?,
            (2, Wire::Varint) => integer = reader.varint()? as i32,
            (3, Wire::Bytes) => text = reader.text()?,
            _ => reader.skip(number, wire)?,
        }
    }
    match type_ {
        0 => Ok(integer.into()),
        1 => Ok(text.into()),
        _ => Err(Error::new("impossible IntOrString.Type")),
    }
}

fn read_time(bytes: &[u8], micros: bool) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let mut reader = Reader::new(bytes);
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Varint) => seconds = reader.varint()?.cast_signed(),
            (2, Wire::Varint) => nanos = reader.varint()? as i32,
            _ => reader.skip(number, wire)?,
        }
    }
    let nanos = if micros { nanos / 1000 * 1000 } else { 0 };
    if seconds == ZERO_TIME && nanos == 0 {
        return Ok(Value::Null);
    }
    let at = Timestamp::from_nanosecond(i128::from(seconds) * NANOS + i128::from(nanos));
    let at = at.ok().filter(|at| at.as_second() > ZERO_TIME).ok_or_else(|| Error::new("time out of range"))?;
    Ok(if micros { time::print_micros(at) } else { time::print_seconds(at) }.into())
}

fn write_time(out: &mut Writer, value: &Value, normal: fn(&str) -> Result<String, String>) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let text = value.as_str().ok_or_else(|| Error::expected("a time"))?;
    let at: Timestamp = normal(text).map_err(Error::new)?.parse().map_err(|_| Error::expected("a time"))?;
    let nanos = at.as_nanosecond();
    let part = |value: i128| i64::try_from(value).map_err(|_| Error::expected("a time"));
    out.integer(1, part(nanos.div_euclid(NANOS))?);
    out.integer(2, part(nanos.rem_euclid(NANOS))?);
    Ok(())
}
