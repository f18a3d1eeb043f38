//! How Go words things that appear in error texts: values printed with `%v`, and errors of `encoding/json`.

use serde_json::{Map, Value};

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
    serde_json::from_slice(text).map_err(|error| syntax_error(text, &error))
}

fn syntax_error(text: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let said = error.to_string();
    if said.starts_with("recursion limit") {
        return "json: exceeded max depth".to_owned();
    }
    let place = match () {
        () if said.starts_with("key must be") || said.starts_with("trailing comma") => {
            "looking for beginning of object key string"
        }
        () if said.starts_with("expected `:`") => "after object key",
        () if said.starts_with("expected `,` or `}`") => "after object key:value pair",
        () if said.starts_with("expected `,` or `]`") => "after array element",
        () if said.starts_with("trailing characters") => "after top-level value",
        () if said.starts_with("control character") => "in string literal",
        () if said.starts_with("invalid escape") => "in string escape code",
        () => "looking for beginning of value",
    };
    let line = text.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = line.get(error.column().saturating_sub(1)).copied().unwrap_or(b'\n');
    format!("invalid character {:?} {place}", char::from(found))
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

    #[test]
    fn syntax_errors_read_as_in_go() {
        let cases = [
            ("{", "unexpected end of JSON input"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("nope", "invalid character 'o' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text.as_bytes()), Err(want.to_owned()), "{text}");
        }
    }
}
