//! `'%s is %d'.format([...])`.

use std::fmt::Write as _;

use crate::error::{Error, check_size};
use crate::library::standard::show_double;
use crate::time::{show_duration, show_timestamp};
use crate::value::Value;

/// The most digits after the point.
const MAX_PRECISION: usize = 1000;

/// The pattern with values in it.
pub(super) fn format(pattern: &str, values: &[Value<'_>]) -> Result<String, Error> {
    let mut out = String::new();
    let mut next = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.peek().copied().filter(char::is_ascii_digit) {
                digits.push(digit);
                chars.next();
            }
            let wanted = digits.parse().ok().filter(|digits| *digits <= MAX_PRECISION);
            precision = Some(wanted.ok_or_else(|| Error::new("precision out of range"))?);
        }
        let verb = chars.next().ok_or_else(|| Error::new("unexpected end of string"))?;
        let value = values.get(next).ok_or_else(|| Error::new(format!("index {next} out of range")))?;
        next += 1;
        one(verb, precision, value, &mut out)?;
        check_size(out.len())?;
    }
    Ok(out)
}

fn one(verb: char, precision: Option<usize>, value: &Value<'_>, out: &mut String) -> Result<(), Error> {
    let wrong =
        |what: &str| Error::new(format!("error during formatting: {what}, was given {}", value.type_().runtime_name()));
    let digits = precision.unwrap_or(6);
    match (verb, value) {
        ('s', value) => text(value, out)?,
        ('d', Value::Int(it)) => push(out, format_args!("{it}")),
        ('d', Value::Uint(it)) => push(out, format_args!("{it}")),
        ('d', Value::Double(it)) if !it.is_finite() => out.push_str(special(*it)),
        ('d', _) => return Err(wrong("decimal clause can only be used on integers")),
        ('f', value) => match number(value) {
            Some(it) if it.is_finite() => push(out, format_args!("{it:.digits$}")),
            Some(it) => out.push_str(special(it)),
            None => return Err(wrong("fixed-point clause can only be used on doubles")),
        },
        ('e', value) => match number(value) {
            Some(it) if it.is_finite() => scientific(it, digits, out),
            Some(it) => out.push_str(special(it)),
            None => return Err(wrong("scientific clause can only be used on doubles")),
        },
        ('b', Value::Int(it)) => push(out, format_args!("{}{:b}", minus(*it), it.unsigned_abs())),
        ('b', Value::Uint(it)) => push(out, format_args!("{it:b}")),
        ('b', Value::Bool(it)) => out.push(if *it { '1' } else { '0' }),
        ('b', _) => return Err(wrong("only integers and bools can be formatted as binary")),
        ('o', Value::Int(it)) => push(out, format_args!("{}{:o}", minus(*it), it.unsigned_abs())),
        ('o', Value::Uint(it)) => push(out, format_args!("{it:o}")),
        ('o', _) => return Err(wrong("octal clause can only be used on integers")),
        ('x' | 'X', value) => hex(value, verb == 'X', out)
            .ok_or_else(|| wrong("only integers, byte buffers, and strings can be formatted as hex"))?,
        (verb, _) => {
            return Err(Error::new(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            )));
        }
    }
    Ok(())
}

fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("texts take all there is");
}

fn special(number: f64) -> &'static str {
    match number {
        number if number.is_nan() => "NaN",
        number if number > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn minus(number: i64) -> &'static str {
    if number < 0 { "-" } else { "" }
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(it) => Some(*it),
        Value::Int(it) => Some(*it as f64),
        Value::Uint(it) => Some(*it as f64),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn scientific(number: f64, digits: usize, out: &mut String) {
    let shown = format!("{number:.digits$e}");
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    push(out, format_args!("{mantissa}e{sign}{exponent:0>2}"));
}

fn hex(value: &Value<'_>, upper: bool, out: &mut String) -> Option<()> {
    let shown = match value {
        Value::Int(it) => format!("{}{:x}", minus(*it), it.unsigned_abs()),
        Value::Uint(it) => format!("{it:x}"),
        Value::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => return None,
    };
    out.push_str(&if upper { shown.to_uppercase() } else { shown });
    Some(())
}

/// Any value as text.
fn text(value: &Value<'_>, out: &mut String) -> Result<(), Error> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(it) => push(out, format_args!("{it}")),
        Value::Int(it) => push(out, format_args!("{it}")),
        Value::Uint(it) => push(out, format_args!("{it}")),
        Value::Double(it) if !it.is_finite() => out.push_str(special(*it)),
        Value::Double(it) => out.push_str(&show_double(*it)),
        Value::String(it) => out.push_str(it),
        Value::Bytes(it) => out.push_str(&String::from_utf8_lossy(it)),
        Value::Timestamp(it) => out.push_str(&show_timestamp(*it)),
        Value::Duration(it) => out.push_str(&show_duration(*it)),
        Value::Type(it) => out.push_str(it.runtime_name()),
        Value::List(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                text(&item?, out)?;
                check_size(out.len())?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for key in map.keys() {
                let (mut name, mut shown) = (String::new(), String::new());
                text(&key, &mut name)?;
                if let Some(value) = map.get(&key) {
                    text(&value?, &mut shown)?;
                }
                entries.push(format!("{name}: {shown}"));
            }
            entries.sort();
            push(out, format_args!("{{{}}}", entries.join(", ")));
        }
        Value::Optional(_) | Value::Opaque(_) => {
            let what = "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                        durations, and timestamps";
            let found = value.type_();
            return Err(Error::new(format!("error during formatting: {what}, was given {}", found.runtime_name())));
        }
    }
    Ok(())
}
