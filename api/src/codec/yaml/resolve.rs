//! What a scalar means: YAML 1.1 as goyaml reads it, where `yes` is true and `0644` is octal.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::Error;
use crate::codec::node::Node;

const STANDARD: &str = "tag:yaml.org,2002:";

/// As Go reads it, which does not look at the bits that fill the last digit.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The meaning of a scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// More than an `i64` holds.
    Unsigned(u64),
    Float(f64),
    Text(String),
}

impl Value {
    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Integer(_) | Self::Unsigned(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
        }
    }

    /// As JSON has it. Errors are of floats that JSON has not.
    pub(super) fn into_node(self) -> Result<Node<'static>, Error> {
        let number = |text: String| Ok(Node::Number(Cow::Owned(text)));
        match self {
            Self::Null => Ok(Node::Null),
            Self::Bool(flag) => Ok(Node::Bool(flag)),
            Self::Integer(value) => number(value.to_string()),
            Self::Unsigned(value) => number(value.to_string()),
            Self::Float(value) => match serde_json::Number::from_f64(value) {
                // A whole number that was written as a float (`1.0`) is a whole number in JSON.
                Some(value) => number(value.to_string().trim_end_matches(".0").to_owned()),
                None => Err(Error::NotJson(format!("json: unsupported value: {}", go_float(value)))),
            },
            Self::Text(text) => Ok(Node::String(Cow::Owned(text))),
        }
    }

    /// As the key of a JSON object; `None` where a key of that kind has no text.
    pub(super) fn into_key(self) -> Option<String> {
        match self {
            Self::Bool(flag) => Some(flag.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            Self::Float(value) => Some(float_key(value)),
            Self::Text(text) => Some(text),
            Self::Null | Self::Unsigned(_) => None,
        }
    }

    /// As Go's `%#v` shows it.
    pub(super) fn go_syntax(&self) -> String {
        match self {
            Self::Null => "<nil>".to_owned(),
            Self::Bool(flag) => flag.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Unsigned(value) => format!("{value:#x}"),
            Self::Float(value) => go_float(*value),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

/// In the precision of a Go `float32`, which the reference has for keys.
fn float_key(value: f64) -> String {
    match go_float(f64::from(value as f32)).as_str() {
        "+Inf" => ".inf".to_owned(),
        "-Inf" => "-.inf".to_owned(),
        "NaN" => ".nan".to_owned(),
        _ => go_general(&format!("{:e}", value as f32), || format!("{}", value as f32)),
    }
}

fn go_float(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => go_general(&format!("{value:e}"), || format!("{value}")),
    }
}

/// Go's `%g` in the shortest form, from the one with an exponent and the one without.
fn go_general(scientific: &str, decimal: impl Fn() -> String) -> String {
    let Some((digits, exponent)) = scientific.split_once('e') else { return decimal() };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return decimal();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// What a scalar with a tag (empty if it has none) means.
pub(super) fn resolve(text: &str, tag: &str, plain: bool) -> Result<Value, Error> {
    let short = tag.strip_prefix(STANDARD);
    match short {
        None if tag.is_empty() && plain => Ok(guess(text)),
        None | Some("str") => Ok(Value::Text(text.to_owned())),
        Some("binary") => binary(text),
        Some("timestamp") if is_timestamp(text) => Ok(Value::Text(text.to_owned())),
        Some(wanted @ ("bool" | "int" | "float" | "null" | "timestamp")) => match (guess(text), wanted) {
            (Value::Integer(value), "float") => Ok(Value::Float(value as f64)),
            (value, wanted) if value.tag() == wanted => Ok(value),
            (value, wanted) => Err(Error::Whole(format!("cannot decode !!{} `{text}` as a !!{wanted}", value.tag()))),
        },
        Some(_) => Ok(Value::Text(text.to_owned())),
    }
}

fn binary(text: &str) -> Result<Value, Error> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    match BASE64.decode(packed) {
        Ok(bytes) => Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned())),
        Err(_) => Err(Error::Whole("!!binary value contains invalid base64 data".to_owned())),
    }
}

/// A date, if only by its beginning.
fn is_timestamp(text: &str) -> bool {
    let mut parts = text.split(['-', 'T', 't', ' ']);
    let mut part = |lengths: std::ops::RangeInclusive<usize>| {
        parts.next().is_some_and(|part| lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    part(4..=4) && part(1..=2) && part(1..=2)
}

/// What a plain scalar means.
fn guess(text: &str) -> Value {
    named(text).or_else(|| number(text)).unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn named(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

fn number(text: &str) -> Option<Value> {
    if text.starts_with('.') {
        return float(&without_separators(text)?);
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-')) {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

/// An integer with Go's prefixes: `0x`, `0o`, `0b`, and `0` for octal ones.
fn integer(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let (digits, radix) = match unsigned.get(..2) {
        Some("0x" | "0X") => (&unsigned[2..], 16),
        Some("0o" | "0O") => (&unsigned[2..], 8),
        Some("0b" | "0B") => (&unsigned[2..], 2),
        Some(two) if two.starts_with('0') => (&unsigned[1..], 8),
        _ => (unsigned, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    let signed = if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() };
    match signed {
        Some(value) => Some(Value::Integer(value)),
        None => (unsigned.len() == text.len()).then_some(Value::Unsigned(value)),
    }
}

/// Without the `_` between digits; `None` if one stands elsewhere.
fn without_separators(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let placed = (0..bytes.len()).filter(|at| bytes[*at] == b'_').all(|at| is_digit(at - 1) && is_digit(at + 1));
    placed.then(|| text.replace('_', ""))
}

fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_float =
        unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value: f64 = text.parse().ok().filter(|_| is_float)?;
    value.is_finite().then_some(Value::Float(value))
}
