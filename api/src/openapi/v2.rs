//! The OpenAPI v2 document, one for the whole API, for clients from before v3: the v3 documents in the older language,
//! which knows neither alternatives nor nulls, and has bodies among the parameters.

use serde_json::{Map, Value, json};

use super::{components, general, hash, paths, places, root, versions};
use crate::catalog::Catalog;
use crate::resource::Resource;

/// `/openapi/v2`.
pub fn document(catalog: &Catalog) -> Value {
    let rows: Vec<&Resource> = catalog.iter().map(AsRef::as_ref).collect();
    let mut all_paths = Map::new();
    for (group, version) in versions(catalog) {
        let rows: Vec<&Resource> = catalog.group_version(&group, &version).map(AsRef::as_ref).collect();
        if let Value::Object(paths) = paths::of(&rows, &root(&group, &version)) {
            all_paths.extend(paths);
        }
    }
    let general = general::places(catalog).into_iter().filter_map(|place| general::paths(catalog, &place));
    general.for_each(|paths| all_paths.extend(object(paths)));
    let all_paths = Value::Object(all_paths);
    let Value::Object(schemas) = components::of(&rows, &all_paths, "", "") else { return Value::Null };
    let definitions: Map<String, Value> = schemas
        .into_iter()
        .map(|(name, schema)| {
            let schema = everywhere(catalog, &name, schema);
            (name, self::schema(schema))
        })
        .collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": object(all_paths).into_iter().map(|(path, item)| (path, path_item(item))).collect::<Map<_, _>>(),
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

/// A hash of what the document is made of.
pub fn hash_of_all(catalog: &Catalog) -> String {
    places(catalog).iter().map(|place| hash(catalog, place)).collect::<Vec<_>>().concat()
}

/// Names all groups and versions of the kinds that every one of them has.
fn everywhere(catalog: &Catalog, definition: &str, mut schema: Value) -> Value {
    let kind = definition.rsplit('.').next().unwrap_or("");
    if matches!(kind, "DeleteOptions" | "WatchEvent") && definition.contains(".meta.v1.") {
        schema["x-kubernetes-group-version-kind"] = versions(catalog)
            .map(|(group, version)| json!({"group": group, "version": version, "kind": kind}))
            .collect();
    }
    schema
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn path_item(item: Value) -> Value {
    let mut out = Map::new();
    for (name, value) in object(item) {
        let value = match (name.as_str(), value) {
            ("parameters", Value::Array(list)) => list.into_iter().map(parameter).collect(),
            (_, value) => operation(value),
        };
        out.insert(name, value);
    }
    Value::Object(out)
}

fn operation(operation: Value) -> Value {
    let mut out = object(operation);
    let mut parameters = match out.remove("parameters") {
        Some(Value::Array(list)) => list.into_iter().map(parameter).collect(),
        _ => Vec::new(),
    };
    if let Some(body) = out.remove("requestBody") {
        let (forms, schema) = content(&body);
        parameters.insert(0, json!({"name": "body", "in": "body", "schema": schema}));
        if body["required"] == true {
            parameters[0]["required"] = true.into();
        }
        out.insert("consumes".into(), forms.into());
    }
    let mut produced = Vec::new();
    let mut responses = Map::new();
    for (code, mut response) in object(out.remove("responses").unwrap_or_default()) {
        let (forms, schema) = content(&response);
        if let Value::Object(response) = &mut response {
            response.remove("content");
            if !schema.is_null() {
                response.insert("schema".into(), schema);
            }
        }
        if produced.is_empty() {
            produced = forms;
        }
        responses.insert(code, response);
    }
    out.insert("responses".into(), responses.into());
    out.insert("produces".into(), produced.into());
    out.insert("schemes".into(), json!(["https"]));
    if !parameters.is_empty() {
        out.insert("parameters".into(), parameters.into());
    }
    Value::Object(out)
}

/// The media types of a body or response, and its schema, which is the same in all.
fn content(holder: &Value) -> (Vec<String>, Value) {
    let forms = holder["content"].as_object();
    let names = forms.into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let first = forms.and_then(|forms| forms.values().next());
    (names, first.map_or(Value::Null, |form| schema(form["schema"].clone())))
}

/// A parameter: what v3 says in its schema, v2 says of the parameter itself.
fn parameter(parameter: Value) -> Value {
    let mut out = object(parameter);
    let inner = object(out.remove("schema").unwrap_or_default());
    out.extend(inner);
    Value::Object(out)
}

/// A schema in the older language.
fn schema(schema: Value) -> Value {
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
    // A client that believes the type refuses null, and one that believes the fields refuses all others.
    let any = out.remove("nullable") == Some(Value::Bool(true));
    let open = out.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if any {
        out.remove("type");
    }
    if any || open {
        out.retain(|name, _| !matches!(name.as_str(), "properties" | "items"));
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
