//! `fieldPath`: which field a rule is about, like `.spec.ports['http']`. Lists have no place in it.

use serde_json::{Map, Value};

use crate::field::Path;

/// Reads a path that must lead through fields and maps of `schema`. The result is the path as errors show it.
pub(super) fn read(text: &str, schema: &Map<String, Value>) -> Result<String, String> {
    let mut rest = text;
    let mut path = Path::default();
    let mut at = schema;
    while let Some(first) = rest.chars().next() {
        let name = match first {
            '.' => {
                let end = rest[1..].find(['.', '[', ']']).map_or(rest.len(), |end| end + 1);
                let name = &rest[1..end];
                rest = &rest[end..];
                if name.is_empty() {
                    return Err("unexpected end of JSON path".to_owned());
                }
                name.to_owned()
            }
            '[' => {
                let (name, after) = quoted(&rest[1..])?;
                rest = after;
                name
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        (path, at) = step(&path, at, &name).ok_or("does not refer to a valid field")?;
    }
    Ok(path.to_string())
}

fn step<'s>(path: &Path, schema: &'s Map<String, Value>, name: &str) -> Option<(Path, &'s Map<String, Value>)> {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        return Some((path.child(name), properties.get(name)?.as_object()?));
    }
    Some((path.key(name), schema.get("additionalProperties")?.as_object()?))
}

/// A name in single quotes up to the closing bracket, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let inner = text.strip_prefix('\'').ok_or("expected single quoted string")?;
    let mut name = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                let rest = inner[at + 1..].strip_prefix(']').ok_or("expected ]")?;
                return Ok((name, rest));
            }
            '\\' => name.push(match chars.next().map(|(_, c)| c) {
                Some('a') => '\u{7}',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('v') => '\u{b}',
                Some(c @ ('\'' | '\\')) => c,
                _ => return Err("invalid string literal".to_owned()),
            }),
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}
