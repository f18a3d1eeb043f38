//! Equality and order across types: numbers by what they count, lists and maps by what they hold.

use std::cmp::Ordering;

use super::{List, Map, Value};
use crate::decl::{Kind, ListKind};
use crate::error::Error;

/// Whether two values are equal; values of different types are not. Fails when a part cannot be read.
pub(crate) fn equal(one: &Value<'_>, two: &Value<'_>) -> Result<bool, Error> {
    Ok(match (one, two) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(two)) => one == two,
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            numbers(one, two) == Some(Ordering::Equal)
        }
        (Value::String(one), Value::String(two)) => **one == **two,
        (Value::Bytes(one), Value::Bytes(two)) => one == two,
        (Value::Timestamp(one), Value::Timestamp(two)) => one == two,
        (Value::Duration(one), Value::Duration(two)) => one == two,
        (Value::Type(one), Value::Type(two)) => one.runtime_name() == two.runtime_name(),
        (Value::List(one), Value::List(two)) => lists(one, two)?,
        (Value::Map(one), Value::Map(two)) => maps(one, two)?,
        (Value::Optional(Some(one)), Value::Optional(Some(two))) => equal(one, two)?,
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Opaque(one), Value::Opaque(two)) => one.equals(two.as_ref()),
        _ => false,
    })
}

fn lists(one: &List<'_>, two: &List<'_>) -> Result<bool, Error> {
    if one.len() != two.len() {
        return Ok(false);
    }
    if let List::Json(_, decl) = one
        && let Kind::List { kind: kind @ (ListKind::Set | ListKind::Map(_)), .. } = &decl.kind
    {
        return unordered(one, two, kind);
    }
    for (one, two) in one.iter().zip(two.iter()) {
        if !equal(&one?, &two?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lists whose order means nothing.
fn unordered(one: &List<'_>, two: &List<'_>, kind: &ListKind) -> Result<bool, Error> {
    let ours = one.to_vec()?;
    for theirs in two.iter() {
        let theirs = theirs?;
        let mut found = false;
        for mine in &ours {
            let same = match kind {
                ListKind::Map(keys) => same_keys(mine, &theirs, keys)?,
                _ => equal(mine, &theirs)?,
            };
            if same {
                found = equal(mine, &theirs)?;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two elements of a list go by the same keys.
pub(crate) fn same_keys(one: &Value<'_>, two: &Value<'_>, keys: &[String]) -> Result<bool, Error> {
    let (Value::Map(one), Value::Map(two)) = (one, two) else { return Ok(false) };
    for key in keys {
        let (mine, theirs) = (one.field(key).transpose()?, two.field(key).transpose()?);
        let same = match (mine, theirs) {
            (Some(mine), Some(theirs)) => equal(&mine, &theirs)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn maps(one: &Map<'_>, two: &Map<'_>) -> Result<bool, Error> {
    if one.len() != two.len() {
        return Ok(false);
    }
    for key in one.keys() {
        let Some(theirs) = two.get(&key) else { return Ok(false) };
        let Some(mine) = one.get(&key) else { return Ok(false) };
        if !equal(&mine?, &theirs?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two numbers of any type; none with NaN.
fn numbers(one: &Value<'_>, two: &Value<'_>) -> Option<Ordering> {
    match (one, two) {
        (Value::Double(one), Value::Double(two)) => one.partial_cmp(two),
        (Value::Double(one), two) => Some(double_to_integer(*one, integer(two)?)?),
        (one, Value::Double(two)) => double_to_integer(*two, integer(one)?).map(Ordering::reverse),
        (one, two) => Some(integer(one)?.cmp(&integer(two)?)),
    }
}

fn integer(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    }
}

/// A double against an integer of 64 bits, without rounding the integer.
fn double_to_integer(double: f64, integer: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Far beyond 64 bits, the conversion saturates and the order holds all the same.
    let whole = double.trunc() as i128;
    let rest = double.fract().partial_cmp(&0.0)?;
    Some(whole.cmp(&integer).then(rest))
}

/// The order of two values, where they have one.
pub(crate) fn compare(one: &Value<'_>, two: &Value<'_>) -> Option<Option<Ordering>> {
    let order = match (one, two) {
        (Value::Bool(one), Value::Bool(two)) => one.cmp(two),
        (Value::String(one), Value::String(two)) => (**one).cmp(&**two),
        (Value::Bytes(one), Value::Bytes(two)) => one.cmp(two),
        (Value::Timestamp(one), Value::Timestamp(two)) => one.cmp(two),
        (Value::Duration(one), Value::Duration(two)) => one.cmp(two),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            return Some(numbers(one, two));
        }
        _ => return None,
    };
    Some(Some(order))
}
