//! Operators, conversions, and what texts, lists, maps, times and durations can do everywhere.

use std::sync::Arc;

use super::time;
use crate::error::Error;
use crate::function::Library;
use crate::types::Type;
use crate::value::Value;

/// The standard functions.
pub(crate) fn standard() -> Library {
    time::accessors(conversions(texts(operators(types(Library::new())))))
}

fn types(library: Library) -> Library {
    let simple = [
        ("bool", Type::Bool),
        ("int", Type::Int),
        ("uint", Type::Uint),
        ("double", Type::Double),
        ("string", Type::String),
        ("bytes", Type::Bytes),
        ("null_type", Type::Null),
        ("dyn", Type::Dyn),
        ("google.protobuf.Timestamp", Type::Timestamp),
        ("google.protobuf.Duration", Type::Duration),
        ("list", Type::list(Type::Dyn)),
        ("map", Type::map(Type::Dyn, Type::Dyn)),
        ("type", Type::of_type(Type::Dyn)),
    ];
    simple.into_iter().fold(library, |library, (name, of)| library.type_(name, of))
}

fn operators(library: Library) -> Library {
    let fixed = [
        ("_&&_", "logical_and: (bool, bool): bool"),
        ("_||_", "logical_or: (bool, bool): bool"),
        ("!_", "logical_not: (bool): bool"),
        ("@not_strictly_false", "not_strictly_false: (bool): bool"),
        ("_?_:_", "conditional: (bool, A, A): A"),
        ("_==_", "equals: (A, A): bool"),
        ("_!=_", "not_equals: (A, A): bool"),
        ("@in", "in_list: (A, list(A)): bool"),
        ("@in", "in_map: (A, map(A, B)): bool"),
        ("_[_]", "index_list: (list(A), int): A"),
        ("_[_]", "index_map: (map(A, B), A): B"),
        ("-_", "negate_int64: (int): int"),
        ("-_", "negate_double: (double): double"),
        ("_+_", "add_bytes: (bytes, bytes): bytes"),
        ("_+_", "add_double: (double, double): double"),
        ("_+_", "add_duration_duration: (duration, duration): duration"),
        ("_+_", "add_duration_timestamp: (duration, timestamp): timestamp"),
        ("_+_", "add_timestamp_duration: (timestamp, duration): timestamp"),
        ("_+_", "add_int64: (int, int): int"),
        ("_+_", "add_list: (list(A), list(A)): list(A)"),
        ("_+_", "add_string: (string, string): string"),
        ("_+_", "add_uint64: (uint, uint): uint"),
        ("_-_", "subtract_double: (double, double): double"),
        ("_-_", "subtract_duration_duration: (duration, duration): duration"),
        ("_-_", "subtract_int64: (int, int): int"),
        ("_-_", "subtract_timestamp_duration: (timestamp, duration): timestamp"),
        ("_-_", "subtract_timestamp_timestamp: (timestamp, timestamp): duration"),
        ("_-_", "subtract_uint64: (uint, uint): uint"),
        ("_*_", "multiply_double: (double, double): double"),
        ("_*_", "multiply_int64: (int, int): int"),
        ("_*_", "multiply_uint64: (uint, uint): uint"),
        ("_/_", "divide_double: (double, double): double"),
        ("_/_", "divide_int64: (int, int): int"),
        ("_/_", "divide_uint64: (uint, uint): uint"),
        ("_%_", "modulo_int64: (int, int): int"),
        ("_%_", "modulo_uint64: (uint, uint): uint"),
    ];
    let library = fixed.into_iter().fold(library, |library, (name, signature)| library.operator(name, signature));
    comparisons(library)
}

/// `<`, `<=`, `>`, `>=` of everything that has an order; numbers of different types too.
fn comparisons(mut library: Library) -> Library {
    let names = [("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")];
    let same = ["bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"];
    let mixed = [
        ("int", "uint"),
        ("int", "double"),
        ("uint", "int"),
        ("uint", "double"),
        ("double", "int"),
        ("double", "uint"),
    ];
    for (operator, name) in names {
        for of in same {
            library = library.operator(operator, &format!("{name}_{of}: ({of}, {of}): bool"));
        }
        for (one, two) in mixed {
            library = library.operator(operator, &format!("{name}_{one}_{two}: ({one}, {two}): bool"));
        }
    }
    library
}

fn size<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
        }
        _ => Err(Error::no_overload()),
    }
}

/// A question about two texts.
pub(super) fn ask<'a>(args: &[Value<'a>], question: impl Fn(&str, &str) -> bool) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(one), Value::String(two)] => Ok(Value::Bool(question(one, two))),
        _ => Err(Error::no_overload()),
    }
}

fn matches<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            let regex = crate::pattern::compiled(pattern).map_err(Error::new)?;
            Ok(Value::Bool(regex.is_match(text)))
        }
        _ => Err(Error::no_overload()),
    }
}

fn texts(library: Library) -> Library {
    library
        .function("size_string: size(string): int", size)
        .function("size_bytes: size(bytes): int", size)
        .function("size_list: size(list(A)): int", size)
        .function("size_map: size(map(A, B)): int", size)
        .function("string_size: string.size(): int", size)
        .function("bytes_size: bytes.size(): int", size)
        .function("list_size: list(A).size(): int", size)
        .function("map_size: map(A, B).size(): int", size)
        .function("contains_string: string.contains(string): bool", |args| ask(args, |one, two| one.contains(two)))
        .function("starts_with_string: string.startsWith(string): bool", |args| {
            ask(args, |one, two| one.starts_with(two))
        })
        .function("ends_with_string: string.endsWith(string): bool", |args| ask(args, |one, two| one.ends_with(two)))
        .function("matches: matches(string, string): bool", matches)
        .function("matches_string: string.matches(string): bool", matches)
        .function("cel_map_insert: cel.@mapInsert(map(A, B), A, B): map(A, B)", insert)
        .function("cel_map_insert_map: cel.@mapInsert(map(A, B), map(A, B)): map(A, B)", insert)
}

/// A map with one entry more, or with all those of another map.
fn insert<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Map(map), key, value] => map.clone().with(key.clone(), value.clone()).map(Value::Map),
        [Value::Map(map), Value::Map(more)] => {
            let mut map = map.clone();
            for key in more.keys() {
                if let Some(value) = more.get(&key) {
                    map = map.with(key, value?)?;
                }
            }
            Ok(Value::Map(map))
        }
        _ => Err(Error::no_overload()),
    }
}

fn conversions(mut library: Library) -> Library {
    type Convert = for<'a> fn(&Value<'a>) -> Option<Value<'a>>;
    let all: [(&str, &[&str], Convert); 7] = [
        ("int", &["int", "uint", "double", "string", "timestamp", "duration"], to_int),
        ("uint", &["uint", "int", "double", "string"], to_uint),
        ("double", &["double", "int", "uint", "string"], to_double),
        ("bool", &["bool", "string"], to_bool),
        ("timestamp", &["timestamp", "string", "int"], time::to_timestamp),
        ("duration", &["duration", "string", "int"], time::to_duration),
        ("string", &["string", "bool", "bytes", "double", "duration", "int", "timestamp", "uint"], to_string),
    ];
    for (name, from, convert) in all {
        for of in from {
            let id = if (*of, name) == ("bytes", "string") {
                "bytes_to_string".to_owned()
            } else {
                format!("{of}_to_{name}")
            };
            library = library.function(&format!("{id}: {name}({of}): {name}"), move |args| match args {
                [value] => convert(value).ok_or_else(|| failed(value, name)),
                _ => Err(Error::no_overload()),
            });
        }
    }
    library
        .function("bytes_to_bytes: bytes(bytes): bytes", |args| args.first().cloned().ok_or_else(Error::no_overload))
        .function("string_to_bytes: bytes(string): bytes", |args| match args {
            [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
            _ => Err(Error::no_overload()),
        })
        .function("to_dyn: dyn(A): dyn", |args| args.first().cloned().ok_or_else(Error::no_overload))
        .function("type: type(A): type(A)", |args| match args {
            [value] => Ok(Value::Type(Arc::new(value.type_()))),
            _ => Err(Error::no_overload()),
        })
}

fn failed(value: &Value<'_>, wanted: &str) -> Error {
    match (value, wanted) {
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), "int") => Error::new("integer overflow"),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), "uint") => Error::new("unsigned integer overflow"),
        (Value::Bytes(_), _) => Error::new("invalid UTF-8 in bytes, cannot convert to string"),
        _ => Error::new(format!("type conversion error from '{}' to '{wanted}'", value.type_().runtime_name())),
    }
}

fn to_int<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    Some(Value::Int(match value {
        Value::Int(it) => *it,
        Value::Uint(it) => i64::try_from(*it).ok()?,
        // The bounds themselves are not sure to be meant exactly.
        Value::Double(it) if *it > i64::MIN as f64 && *it < i64::MAX as f64 => *it as i64,
        Value::String(text) => text.parse().ok()?,
        Value::Timestamp(at) => at.as_second(),
        Value::Duration(nanos) => *nanos,
        _ => return None,
    }))
}

fn to_uint<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    Some(Value::Uint(match value {
        Value::Uint(it) => *it,
        Value::Int(it) => u64::try_from(*it).ok()?,
        Value::Double(it) if *it >= 0.0 && *it < u64::MAX as f64 => *it as u64,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    }))
}

fn to_double<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    Some(Value::Double(match value {
        Value::Double(it) => *it,
        Value::Int(it) => *it as f64,
        Value::Uint(it) => *it as f64,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    }))
}

fn to_bool<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    Some(Value::Bool(match value {
        Value::Bool(it) => *it,
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return None,
        },
        _ => return None,
    }))
}

fn to_string<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    Some(match value {
        Value::String(_) => value.clone(),
        Value::Bool(it) => Value::text(it.to_string()),
        Value::Int(it) => Value::text(it.to_string()),
        Value::Uint(it) => Value::text(it.to_string()),
        Value::Double(it) => Value::text(show_double(*it)),
        Value::Bytes(bytes) => Value::text(String::from_utf8(bytes.to_vec()).ok()?),
        Value::Timestamp(at) => Value::text(crate::time::show_timestamp(*at)),
        Value::Duration(nanos) => Value::text(crate::time::show_duration(*nanos)),
        _ => return None,
    })
}

/// A number as Go's `%g` shows it: with an exponent when it is very large or very small.
pub(super) fn show_double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
