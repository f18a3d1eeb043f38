//! How Go words things that appear in error texts: values printed with `%v`, and the names of types.

use serde_json::{Map, Value};

use crate::codec::{Node, json};

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`, keys sorted, strings bare.
pub fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_format).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => go_format_map(map),
        other => other.to_string(),
    }
}

/// As [`go_format`], for a map.
pub(super) fn go_format_map(map: &Map<String, Value>) -> String {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{}", go_format(value))).collect();
    format!("map[{}]", entries.join(" "))
}

/// As Go's `%#v` shows it.
pub(crate) fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key:?}:{}", go_syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// The name of a value's JSON type in errors of `encoding/json`.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The Go type that a JSON value is decoded to.
pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Parses JSON; the error is worded as `encoding/json` words it.
pub(super) fn parse(text: &[u8]) -> Result<Value, String> {
    json::parse(text).map(Node::into_value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_in_go() {
        let value = json!({"b": [1, "x", null], "a": {"$patch": "explode"}, "c": true});
        assert_eq!(go_format(&value), "map[a:map[$patch:explode] b:[1 x <nil>] c:true]");
    }
}
