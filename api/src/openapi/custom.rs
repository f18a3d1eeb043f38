//! Schemas of custom resources: what the author wrote, in the form that upstream publishes
//! (`apiextensions-apiserver/pkg/controller/openapi/builder`). In v2 without what that language, or `kubectl` where it
//! reads it, does not understand (`ToStructuralOpenAPIV2`).

use serde_json::{Map, Value, json};

use super::definition_of;
use super::descriptions::description;
use super::operations::META;
use crate::resource::Resource;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
/// Keywords of a value that may be `false`, which says nothing.
const FLAGS: [&str; 7] =
    ["exclusiveMaximum", "exclusiveMinimum", "nullable", "uniqueItems", EMBEDDED, INT_OR_STRING, PRESERVE];
/// Keywords with schemas below them in lists.
const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// The language of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    V2,
    V3,
}

impl Language {
    fn target(self, definition: &str) -> String {
        let place = if self == Self::V2 { "definitions" } else { "components/schemas" };
        format!("#/{place}/{definition}")
    }

    fn reference(self, definition: &str) -> Value {
        json!({"$ref": self.target(definition)})
    }

    /// A reference with a description beside it, for which v3 needs a detour.
    fn described(self, definition: &str, description: Option<String>) -> Value {
        match self {
            Self::V2 => json!({"$ref": self.target(definition), "description": description}),
            Self::V3 => json!({"allOf": [self.reference(definition)], "description": description}),
        }
    }
}

/// The schema of a custom resource, with the fields that every object has.
pub(super) fn schema(row: &Resource, language: Language) -> Value {
    let written = row.custom.as_ref().and_then(|custom| custom.written(&row.version));
    let mut root = match written.map(|written| written.schema()) {
        // Of an object that may hold anything v2 says nothing: `kubectl` would refuse what is not said.
        Some(Value::Object(root)) if language == Language::V3 || root.get(PRESERVE) != Some(&Value::Bool(true)) => {
            published(root, language)
        }
        _ => Map::from_iter([("type".to_owned(), "object".into())]),
    };
    let kind = json!({"group": row.group, "version": row.version, "kind": row.kind});
    root.insert("x-kubernetes-group-version-kind".into(), json!([kind]));
    let selectable: Vec<Value> = row.selectable_fields.iter().map(|field| json!({"fieldPath": field.name})).collect();
    if !selectable.is_empty() {
        root.insert("x-kubernetes-selectable-fields".into(), selectable.into());
    }
    Value::Object(root)
}

fn published(mut root: Map<String, Value>, language: Language) -> Map<String, Value> {
    tidy(&mut root);
    match language {
        Language::V2 => simplify(&mut root),
        Language::V3 => unfold(&mut root),
    }
    embed(&mut root, language);
    let properties = root.entry("properties").or_insert_with(|| json!({}));
    properties["apiVersion"] = type_field("apiVersion");
    properties["kind"] = type_field("kind");
    properties["metadata"] = metadata(language);
    root
}

/// The list of a custom resource.
pub(super) fn list(row: &Resource, language: Language) -> Value {
    let kind = json!({"group": row.group, "version": row.version, "kind": row.list_kind});
    let items = json!({
        "type": "array", "items": language.reference(&definition_of(row)),
        "description": format!("List of {}. More info: {CONVENTIONS}", row.plural),
    });
    let meta = language.described(&format!("{META}.ListMeta"), description("io.k8s.api.core.v1.PodList", "metadata"));
    json!({
        "description": format!("{} is a list of {}", row.list_kind, row.kind), "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": type_field("apiVersion"), "kind": type_field("kind"), "metadata": meta, "items": items,
        },
        "x-kubernetes-group-version-kind": [kind],
    })
}

fn type_field(name: &str) -> Value {
    json!({"type": "string", "description": description("io.k8s.api.core.v1.ConfigMap", name)})
}

fn metadata(language: Language) -> Value {
    language.described(&format!("{META}.ObjectMeta"), description("io.k8s.api.core.v1.ConfigMap", "metadata"))
}

/// The schemas right below a node: of its fields, values and elements.
fn children(node: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let (mut fields, mut others) = (None, Vec::new());
    for (name, value) in node {
        match name.as_str() {
            "properties" => fields = value.as_object_mut(),
            "items" | "additionalProperties" => others.extend(value.as_object_mut()),
            _ => {}
        }
    }
    fields.into_iter().flat_map(|fields| fields.values_mut()).filter_map(Value::as_object_mut).chain(others)
}

/// Drops what says nothing, and what the structure of a schema has no place for.
fn tidy(node: &mut Map<String, Value>) {
    node.retain(|name, value| match (name.as_str(), value) {
        ("example" | "externalDocs", _) | (_, Value::Null) => false,
        ("default" | "enum", _) => true,
        (name, Value::Bool(false)) => !FLAGS.contains(&name),
        (_, Value::String(text)) => !text.is_empty(),
        (_, Value::Array(list)) => !list.is_empty(),
        ("properties", Value::Object(map)) => !map.is_empty(),
        _ => true,
    });
    for name in JUNCTORS {
        let list = node.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten();
        list.filter_map(Value::as_object_mut).for_each(tidy);
    }
    if let Some(not) = node.get_mut("not").and_then(Value::as_object_mut) {
        tidy(not);
    }
    children(node).for_each(tidy);
}

/// Says of each integer or string that it is one of both, where its author did not.
fn unfold(node: &mut Map<String, Value>) {
    if node.get(INT_OR_STRING) == Some(&Value::Bool(true)) {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let first = node.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf"));
        if node.get("anyOf").is_none() && first.is_none_or(|first| !is_either(first)) {
            node.insert("anyOf".into(), either);
        } else if node.get("anyOf").is_some_and(|any| !is_either(any)) && first.is_none_or(|first| !is_either(first)) {
            let mut all = vec![json!({"anyOf": either})];
            if let Some(Value::Array(others)) = node.remove("allOf") {
                all.extend(others);
            }
            node.insert("allOf".into(), all.into());
        }
    }
    children(node).for_each(unfold);
}

fn is_either(alternatives: &Value) -> bool {
    let types = alternatives.as_array().into_iter().flatten().map(|one| one["type"].as_str());
    types.eq([Some("integer"), Some("string")])
}

/// Drops what v2 does not have, from the root down: what is dropped takes with it all that is below it.
fn simplify(node: &mut Map<String, Value>) {
    for unknown in JUNCTORS.into_iter().chain(["not", "default"]) {
        node.remove(unknown);
    }
    let nullable = node.remove("nullable").is_some();
    let open = node.contains_key(PRESERVE);
    // A reader that believes the type refuses null, and one that believes the fields refuses all others.
    if nullable || open {
        node.remove("properties");
        node.remove("items");
    }
    let type_ = node.get("type").and_then(Value::as_str).unwrap_or("");
    if nullable || (type_ == "array" && !node.contains_key("items")) || (type_ == "object" && open) {
        node.remove("type");
    }
    forgive_nulls(node);
    children(node).for_each(simplify);
}

/// What may be null cannot be required in a language without null.
fn forgive_nulls(node: &mut Map<String, Value>) {
    let is_nullable = |schema: Option<&Value>| schema.is_some_and(|schema| schema.get("nullable").is_some());
    let all = is_nullable(node.get("additionalProperties"));
    let Some(Value::Array(mut required)) = node.remove("required") else { return };
    let fields = node.get("properties");
    required.retain(|name| !all && !is_nullable(fields.and_then(|fields| fields.get(name.as_str()?))));
    if !required.is_empty() {
        node.insert("required".into(), required.into());
    }
}

/// Gives whole objects inside a custom resource the fields that every object has.
fn embed(node: &mut Map<String, Value>, language: Language) {
    children(node).for_each(|child| embed(child, language));
    if !node.contains_key(EMBEDDED) || (language == Language::V2 && node.contains_key(PRESERVE)) {
        return;
    }
    let texts = [
        ("apiVersion", "apiVersion defines the versioned schema of this representation of an object.", "resources"),
        ("kind", "kind is a string value representing the type of this object. In CamelCase.", "types-kinds"),
    ];
    let properties = node.entry("properties").or_insert_with(|| json!({}));
    for (name, text, place) in texts {
        let text = format!("{text} More info: {CONVENTIONS}#{place}");
        properties[name] = json!({"type": "string", "description": text});
    }
    properties["metadata"] = metadata(language);
    if let Some(required) = node.entry("required").or_insert_with(|| json!([])).as_array_mut() {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == name) {
                required.push(name.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: Value, v2: Value, v3: Value) {
        let node = |language| {
            let Value::Object(mut node) = written.clone() else { panic!("an object") };
            tidy(&mut node);
            if language == Language::V2 {
                simplify(&mut node)
            } else {
                unfold(&mut node)
            }
            Value::Object(node)
        };
        assert_eq!(node(Language::V2), v2, "v2");
        assert_eq!(node(Language::V3), v3, "v3");
    }

    #[test]
    fn v2_leaves_out_alternatives_and_defaults() {
        let written = json!({"type": "object", "oneOf": [{"required": ["a"]}], "properties": {
            "a": {"type": "string", "default": "x", "anyOf": [{"pattern": "a"}], "not": {"enum": ["b"]}, "example": "y"},
        }});
        let mut v3 = written.clone();
        v3["properties"]["a"].as_object_mut().expect("an object").remove("example");
        check(written, json!({"type": "object", "properties": {"a": {"type": "string"}}}), v3);
    }

    #[test]
    fn v2_says_nothing_of_what_may_be_null_or_anything() {
        let field = json!({"type": "string"});
        let written = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "object", "nullable": true, "properties": {"c": field}},
            "b": {"type": "object", PRESERVE: true, "properties": {"c": field}},
            "d": {"type": "array", PRESERVE: true, "items": field},
            "e": {"type": "object", PRESERVE: false, "nullable": false, "additionalProperties": field},
        }});
        let v2 = json!({"type": "object", "required": ["b"], "properties": {
            "a": {}, "b": {PRESERVE: true}, "d": {PRESERVE: true},
            "e": {"type": "object", "additionalProperties": field},
        }});
        let mut v3 = written.clone();
        v3["properties"]["e"] = json!({"type": "object", "additionalProperties": field});
        check(written, v2, v3);
    }

    #[test]
    fn an_integer_or_string_is_one_of_both_in_v3() {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let bare = json!({INT_OR_STRING: true});
        check(bare.clone(), bare.clone(), json!({INT_OR_STRING: true, "anyOf": either}));
        let said = json!({INT_OR_STRING: true, "anyOf": either, "pattern": "^1"});
        check(said.clone(), json!({INT_OR_STRING: true, "pattern": "^1"}), said);
        let other = json!({INT_OR_STRING: true, "anyOf": [{"minimum": 1}], "allOf": [{"maximum": 5}]});
        let v3 = json!({
            INT_OR_STRING: true, "anyOf": [{"minimum": 1}], "allOf": [{"anyOf": either}, {"maximum": 5}],
        });
        check(other, bare, v3);
    }

    #[test]
    fn objects_inside_have_the_fields_of_objects_unless_v2_must_not_say_so() {
        let Value::Object(mut node) = json!({"type": "object", EMBEDDED: true, "required": ["kind", "x"]}) else {
            panic!("an object")
        };
        embed(&mut node, Language::V3);
        assert_eq!(node["required"], json!(["kind", "x", "apiVersion"]));
        assert!(node["properties"]["metadata"]["allOf"][0]["$ref"].is_string());
        assert!(node["properties"]["kind"]["description"].as_str().is_some_and(|text| text.starts_with("kind is")));
        let Value::Object(mut open) = json!({EMBEDDED: true, PRESERVE: true}) else { panic!("an object") };
        embed(&mut open, Language::V2);
        assert_eq!(Value::Object(open), json!({EMBEDDED: true, PRESERVE: true}));
    }
}
