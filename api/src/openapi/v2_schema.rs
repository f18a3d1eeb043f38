//! The schema of a built-in definition in the language of OpenAPI v2: what it cannot say is left out.

use serde_json::{Map, Value};

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The schema of a built-in definition in the older language.
pub(super) fn schema(schema: Value) -> Value {
    let mut out = object(schema);
    for unknown in ["default", "anyOf", "not"] {
        out.remove(unknown);
    }
    if let Some(alternatives) = out.remove("oneOf") {
        let is_text = |one: &Value| one["type"] == "string";
        if alternatives.as_array().is_some_and(|list| list.iter().any(is_text)) {
            out.insert("type".into(), "string".into());
        }
    }
    if let Some(Value::Array(all)) = out.remove("allOf") {
        // Definitions refer in this way when they have a description beside the reference.
        if let [one] = all.as_slice()
            && let Some(target) = one.get("$ref")
        {
            out.insert("$ref".into(), target.clone());
        }
    }
    if let Some(Value::String(target)) = out.get_mut("$ref") {
        *target = target.replace("#/components/schemas/", "#/definitions/");
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = out.get_mut(name).filter(|inner| inner.is_object()) {
            *inner = self::schema(inner.take());
        }
    }
    if let Some(Value::Object(fields)) = out.get_mut("properties") {
        fields.values_mut().for_each(|field| *field = self::schema(field.take()));
    }
    Value::Object(out)
}
