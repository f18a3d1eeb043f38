//! From messages to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::table::{Field, Form, Kind, Message, Shape, Table};
use super::wire::{Reader, Wire};
use super::{Error, MAX_DEPTH, forms};

/// Reads a message that is an object in JSON.
pub(super) fn fields(bytes: &[u8], message: &Message, depth: usize) -> Result<Map<String, Value>, Error> {
    let mut map = Map::new();
    merge(&mut map, bytes, message, depth)?;
    Ok(map)
}

/// Adds the fields of a message to `map`.
fn merge(map: &mut Map<String, Value>, bytes: &[u8], message: &Message, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new("exceeded max depth"));
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match message.numbered(number) {
            Some(field) => read_field(map, &mut reader, wire, field, depth).map_err(|err| err.within(field.name))?,
            None => reader.skip(number, wire)?,
        }
    }
    Ok(())
}

fn read_field(
    map: &mut Map<String, Value>,
    reader: &mut Reader<'_>,
    wire: Wire,
    field: &Field,
    depth: usize,
) -> Result<(), Error> {
    match (field.shape, field.kind) {
        (Shape::Inlined, Kind::Message(id)) => merge(map, bytes(reader, wire)?, Table::get().at(id), depth + 1),
        (Shape::List, _) => read_elements(list(map, field.name)?, reader, wire, field, depth),
        (Shape::Map, _) => {
            let (key, value) = map_entry(bytes(reader, wire)?, field.kind, depth)?;
            match map.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(entries) => entries.insert(key, value),
                _ => return Err(Error::new("is given twice")),
            };
            Ok(())
        }
        (Shape::One, Kind::Message(id)) if Table::get().at(id).form == Form::Object => {
            let bytes = bytes(reader, wire)?;
            match map.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(inner) => merge(inner, bytes, Table::get().at(id), depth + 1),
                _ => Err(Error::new("is given twice")),
            }
        }
        (Shape::One | Shape::Inlined, kind) => {
            let value = value(reader, wire, kind, depth)?;
            if value.is_null() || (!field.keep && is_zero(&value, kind)) {
                map.remove(field.name);
            } else {
                map.insert(field.name.to_owned(), value);
            }
            Ok(())
        }
    }
}

fn list<'m>(map: &'m mut Map<String, Value>, name: &str) -> Result<&'m mut Vec<Value>, Error> {
    let slot = match map.entry(name) {
        Entry::Occupied(slot) => slot.into_mut(),
        Entry::Vacant(slot) => slot.insert(Value::Array(Vec::new())),
    };
    slot.as_array_mut().ok_or_else(|| Error::new("is given twice"))
}

/// One element, or all elements of a packed list.
fn read_elements(
    list: &mut Vec<Value>,
    reader: &mut Reader<'_>,
    wire: Wire,
    field: &Field,
    depth: usize,
) -> Result<(), Error> {
    let single = match field.kind {
        Kind::Int32 | Kind::Int64 | Kind::Bool => Wire::Varint,
        Kind::Double => Wire::Fixed64,
        Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Bytes,
    };
    if wire == Wire::Bytes && single != Wire::Bytes {
        let mut packed = Reader::new(reader.bytes()?);
        while !packed.is_empty() {
            list.push(value(&mut packed, single, field.kind, depth)?);
        }
        return Ok(());
    }
    let at = list.len();
    list.push(value(reader, wire, field.kind, depth).map_err(|err| err.within(&format!("[{at}]")))?);
    Ok(())
}

fn map_entry(bytes: &[u8], kind: Kind, depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut found) = ("", None);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag()? {
        match (number, wire) {
            (1, Wire::Bytes) => key = reader.text()?,
            (2, _) => found = Some(value(&mut reader, wire, kind, depth).map_err(|err| err.within(key))?),
            _ => reader.skip(number, wire)?,
        }
    }
    let value = match found {
        Some(value) => value,
        None => zero(kind, depth)?,
    };
    Ok((key.to_owned(), value))
}

/// A value that is not there.
fn zero(kind: Kind, depth: usize) -> Result<Value, Error> {
    Ok(match kind {
        Kind::String | Kind::Bytes => "".into(),
        Kind::Int32 | Kind::Int64 | Kind::Double => 0.into(),
        Kind::Bool => false.into(),
        Kind::Message(id) => message(&[], Table::get().at(id), depth)?,
    })
}

fn is_zero(value: &Value, kind: Kind) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => !matches!(kind, Kind::Message(_)) && number.as_f64() == Some(0.0),
        Value::String(text) => !matches!(kind, Kind::Message(_)) && text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn value(reader: &mut Reader<'_>, wire: Wire, kind: Kind, depth: usize) -> Result<Value, Error> {
    Ok(match (kind, wire) {
        (Kind::String, Wire::Bytes) => reader.text()?.into(),
        (Kind::Bytes, Wire::Bytes) => STANDARD.encode(reader.bytes()?).into(),
        (Kind::Bool, Wire::Varint) => (reader.varint()? != 0).into(),
        // Integers of 32 bits are sent as ones of 64; what is above is cut off, as generated decoders do.
        (Kind::Int32, Wire::Varint) => (reader.varint()? as i32).into(),
        (Kind::Int64, Wire::Varint) => reader.varint()?.cast_signed().into(),
        (Kind::Double, Wire::Fixed64) => number(f64::from_bits(reader.fixed64()?))?,
        (Kind::Message(id), Wire::Bytes) => message(reader.bytes()?, Table::get().at(id), depth + 1)?,
        _ => return Err(wrong_wire(wire)),
    })
}

fn message(bytes: &[u8], message: &Message, depth: usize) -> Result<Value, Error> {
    match message.form {
        Form::Object => fields(bytes, message, depth).map(Value::Object),
        Form::SchemaOrBool | Form::SchemaOrList => forms::either(message, fields(bytes, message, depth)?),
        form => forms::read(form, bytes, depth),
    }
}

fn bytes<'a>(reader: &mut Reader<'a>, wire: Wire) -> Result<&'a [u8], Error> {
    if wire == Wire::Bytes { reader.bytes() } else { Err(wrong_wire(wire)) }
}

fn wrong_wire(wire: Wire) -> Error {
    Error::new(format!("wrong wireType {wire:?}"))
}

/// A number as JSON prints it: without a fraction where it has none.
fn number(value: f64) -> Result<Value, Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Ok((value as i64).into());
    }
    Number::from_f64(value).map(Value::Number).ok_or_else(|| Error::new("number is not finite"))
}
