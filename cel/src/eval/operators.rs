//! Operators, field access and indexes.

use std::cmp::Ordering;

use jiff::SignedDuration;

use super::Outcome;
use crate::decl::{Kind, ListKind};
use crate::error::{Error, check_size};
use crate::time;
use crate::value::{Key, List, Value, compare, equal, same_keys};

/// Whether the function is written as an operator.
pub(super) fn is_operator(function: &str) -> bool {
    function.starts_with(['_', '!', '-']) || function == "@in"
}

/// An operator applied to values.
pub(super) fn apply<'a>(function: &str, values: Vec<Value<'a>>) -> Outcome<'a> {
    let mut values = values.into_iter();
    match (function, values.next(), values.next()) {
        ("!_", Some(Value::Bool(it)), None) => Ok(Value::Bool(!it)),
        ("-_", Some(value), None) => negate(value),
        ("_==_", Some(one), Some(two)) => equal(&one, &two).map(Value::Bool),
        ("_!=_", Some(one), Some(two)) => equal(&one, &two).map(|same| Value::Bool(!same)),
        ("_<_", Some(one), Some(two)) => ordered(&one, &two, |order| order == Ordering::Less),
        ("_<=_", Some(one), Some(two)) => ordered(&one, &two, |order| order != Ordering::Greater),
        ("_>_", Some(one), Some(two)) => ordered(&one, &two, |order| order == Ordering::Greater),
        ("_>=_", Some(one), Some(two)) => ordered(&one, &two, |order| order != Ordering::Less),
        ("@in", Some(one), Some(two)) => contains(&one, &two),
        ("_[_]", Some(of), Some(index)) => at(&of, &index),
        ("_[?_]", Some(of), Some(index)) => optional_at(&of, &index),
        ("_?._", Some(of), Some(name)) => optional_select(&of, &name),
        ("_+_", Some(one), Some(two)) => add(one, two),
        ("_-_", Some(one), Some(two)) => subtract(one, two),
        ("_*_" | "_/_" | "_%_", Some(one), Some(two)) => arithmetic(function, &one, &two),
        _ => Err(Error::no_overload()),
    }
}

fn ordered<'a>(one: &Value<'_>, two: &Value<'_>, wanted: impl Fn(Ordering) -> bool) -> Outcome<'a> {
    let order = compare(one, two).ok_or_else(Error::no_overload)?;
    Ok(Value::Bool(order.is_some_and(wanted)))
}

fn negate(value: Value<'_>) -> Outcome<'_> {
    match value {
        Value::Int(it) => it.checked_neg().map(Value::Int).ok_or_else(|| overflow("integer")),
        Value::Double(it) => Ok(Value::Double(-it)),
        _ => Err(Error::no_overload()),
    }
}

fn overflow(what: &str) -> Error {
    Error::new(format!("{what} overflow"))
}

fn add<'a>(one: Value<'a>, two: Value<'a>) -> Outcome<'a> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => one.checked_add(two).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(one), Value::Uint(two)) => {
            one.checked_add(two).map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one + two)),
        (Value::String(one), Value::String(two)) => {
            check_size(one.len() + two.len())?;
            Ok(Value::text(format!("{}{}", &*one, &*two)))
        }
        (Value::Bytes(one), Value::Bytes(two)) => {
            check_size(one.len() + two.len())?;
            Ok(Value::Bytes(one.iter().chain(two.iter()).copied().collect()))
        }
        (Value::List(one), Value::List(two)) => add_lists(one, &two).map(Value::List),
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => shift(at, by),
        (Value::Duration(one), Value::Duration(two)) => {
            one.checked_add(two).map(Value::Duration).ok_or_else(|| overflow("duration"))
        }
        _ => Err(Error::no_overload()),
    }
}

/// Sets unite; lists by keys overwrite what has the same keys; others follow one another.
fn add_lists<'a>(one: List<'a>, two: &List<'a>) -> Result<List<'a>, Error> {
    let kind = match &one {
        List::Json(_, decl) => match &decl.kind {
            Kind::List { kind, .. } => kind,
            _ => &ListKind::Atomic,
        },
        List::Own(_) => &ListKind::Atomic,
    };
    if matches!(kind, ListKind::Atomic) {
        return one.concat(two);
    }
    let mut items = one.to_vec()?;
    for theirs in two.iter() {
        let theirs = theirs?;
        let mut found = None;
        for (at, mine) in items.iter().enumerate() {
            let same = match kind {
                ListKind::Map(keys) => same_keys(mine, &theirs, keys)?,
                _ => equal(mine, &theirs)?,
            };
            if same {
                found = Some(at);
                break;
            }
        }
        match found {
            Some(at) => items[at] = theirs,
            None => items.push(theirs),
        }
    }
    Ok(List::Own(std::sync::Arc::new(items)))
}

fn shift<'a>(at: jiff::Timestamp, by: i64) -> Outcome<'a> {
    let shifted = at.checked_add(SignedDuration::from_nanos(by)).ok().filter(|at| time::in_range(*at));
    shifted.map(Value::Timestamp).ok_or_else(|| overflow("timestamp"))
}

fn subtract<'a>(one: Value<'a>, two: Value<'a>) -> Outcome<'a> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => one.checked_sub(two).map(Value::Int).ok_or_else(|| overflow("integer")),
        (Value::Uint(one), Value::Uint(two)) => {
            one.checked_sub(two).map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(one), Value::Double(two)) => Ok(Value::Double(one - two)),
        (Value::Timestamp(at), Value::Duration(by)) => {
            by.checked_neg().ok_or_else(|| overflow("timestamp")).and_then(|by| shift(at, by))
        }
        (Value::Timestamp(one), Value::Timestamp(two)) => {
            let nanos = one.as_nanosecond() - two.as_nanosecond();
            i64::try_from(nanos).map(Value::Duration).map_err(|_| overflow("duration"))
        }
        (Value::Duration(one), Value::Duration(two)) => {
            one.checked_sub(two).map(Value::Duration).ok_or_else(|| overflow("duration"))
        }
        _ => Err(Error::no_overload()),
    }
}

fn arithmetic<'a>(function: &str, one: &Value<'_>, two: &Value<'_>) -> Outcome<'a> {
    let zero = |number: bool| match function {
        "_/_" if number => Err(Error::new("division by zero")),
        "_%_" if number => Err(Error::new("modulus by zero")),
        _ => Ok(()),
    };
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => {
            zero(*two == 0)?;
            let number = match function {
                "_*_" => one.checked_mul(*two),
                "_/_" => one.checked_div(*two),
                _ => one.checked_rem(*two),
            };
            number.map(Value::Int).ok_or_else(|| overflow("integer"))
        }
        (Value::Uint(one), Value::Uint(two)) => {
            zero(*two == 0)?;
            let number = match function {
                "_*_" => one.checked_mul(*two),
                "_/_" => one.checked_div(*two),
                _ => one.checked_rem(*two),
            };
            number.map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Value::Double(one), Value::Double(two)) if function == "_*_" => Ok(Value::Double(one * two)),
        (Value::Double(one), Value::Double(two)) if function == "_/_" => Ok(Value::Double(one / two)),
        _ => Err(Error::no_overload()),
    }
}

fn contains<'a>(one: &Value<'_>, two: &Value<'_>) -> Outcome<'a> {
    match two {
        Value::List(list) => {
            for item in list.iter() {
                if equal(&item?, one)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Value::Map(map) => Ok(Value::Bool(map.get(one).is_some())),
        _ => Err(Error::no_overload()),
    }
}

/// The field of an object or entry of a map.
pub(super) fn field<'a>(of: &Value<'a>, name: &str) -> Outcome<'a> {
    if let Value::Optional(inner) = of {
        return chained(inner.as_deref(), |inner| optional_field(inner, name));
    }
    optional_field(of, name)?.ok_or_else(|| Error::new(format!("no such key: {name}")))
}

/// As [`field`], when it is there. An optional is looked through.
pub(super) fn optional_field<'a>(of: &Value<'a>, name: &str) -> Result<Option<Value<'a>>, Error> {
    match of {
        Value::Map(map) => map.field(name).transpose(),
        Value::Optional(Some(inner)) => optional_field(inner, name),
        Value::Optional(None) => Ok(None),
        _ => Err(Error::no_overload()),
    }
}

/// What is reached through an optional is optional.
fn chained<'a>(
    inner: Option<&Value<'a>>,
    reach: impl Fn(&Value<'a>) -> Result<Option<Value<'a>>, Error>,
) -> Outcome<'a> {
    let Some(inner) = inner else { return Ok(Value::Optional(None)) };
    Ok(match reach(inner)? {
        Some(found @ Value::Optional(_)) => found,
        other => Value::Optional(other.map(Box::new)),
    })
}

fn optional_select<'a>(of: &Value<'a>, name: &Value<'a>) -> Outcome<'a> {
    let name = name.as_str().ok_or_else(Error::no_overload)?;
    let inner = match of {
        Value::Optional(inner) => inner.as_deref(),
        other => Some(other),
    };
    chained(inner, |inner| optional_field(inner, name))
}

fn position(index: &Value<'_>) -> Result<i64, Error> {
    match index {
        Value::Int(it) => Ok(*it),
        Value::Uint(it) => Ok(i64::try_from(*it).unwrap_or(i64::MAX)),
        Value::Double(it) if it.fract() == 0.0 && it.abs() < 9e18 => Ok(*it as i64),
        _ => Err(Error::no_overload()),
    }
}

fn element<'a>(of: &Value<'a>, index: &Value<'_>) -> Result<Option<Value<'a>>, Error> {
    match of {
        Value::List(list) => match usize::try_from(position(index)?) {
            Ok(at) => list.get(at).transpose(),
            Err(_) => Ok(None),
        },
        Value::Map(map) => {
            Key::of(index).ok_or_else(Error::no_overload)?;
            map.get(index).transpose()
        }
        _ => Err(Error::no_overload()),
    }
}

fn at<'a>(of: &Value<'a>, index: &Value<'a>) -> Outcome<'a> {
    if let Value::Optional(inner) = of {
        return chained(inner.as_deref(), |inner| element(inner, index));
    }
    element(of, index)?.ok_or_else(|| match of {
        Value::List(_) => Error::new(format!("index out of bounds: {}", show(index))),
        _ => Error::new(format!("no such key: {}", show(index))),
    })
}

fn optional_at<'a>(of: &Value<'a>, index: &Value<'a>) -> Outcome<'a> {
    let inner = match of {
        Value::Optional(inner) => inner.as_deref(),
        other => Some(other),
    };
    chained(inner, |inner| element(inner, index))
}

/// The value behind an optional.
pub(super) fn unwrap_optional(value: Value<'_>) -> Result<Option<Value<'_>>, Error> {
    match value {
        Value::Optional(inner) => Ok(inner.map(|inner| *inner)),
        _ => Err(Error::no_overload()),
    }
}

/// A key or index as errors show it.
pub(super) fn show(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Uint(it) => it.to_string(),
        Value::Bool(it) => it.to_string(),
        Value::Double(it) => it.to_string(),
        other => other.type_().to_string(),
    }
}
