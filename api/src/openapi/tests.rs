use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

fn reference_documents() -> Option<PathBuf> {
    let root = std::env::var_os("CORACLE_REFERENCE").map_or_else(|| PathBuf::from("../../shared"), PathBuf::from);
    let documents = root.join("reference/openapi-v3");
    if !documents.is_dir() {
        eprintln!("SKIP: no reference files at {}", root.display());
        return None;
    }
    Some(documents)
}

/// The recorded document at a place.
fn recorded(documents: &Path, place: &str) -> Value {
    let file = format!("{}_openapi.json", place.replace('/', "__"));
    serde_json::from_slice(&std::fs::read(documents.join(file)).expect("recorded")).expect("JSON")
}

fn each_document(mut look: impl FnMut(&str, &Value, &Value)) {
    let Some(documents) = reference_documents() else { return };
    let catalog = Catalog::everything();
    // The reference has that document, but it was not recorded.
    for place in places(&catalog).iter().filter(|place| !place.starts_with('.')) {
        let ours = document(&catalog, place).expect("served");
        look(place, &ours, &recorded(&documents, place));
    }
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The order of required fields, which the reference gives as in its source, does not matter.
fn sorted(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.sort_by_key(Value::to_string);
    }
    schema
}

#[test]
fn schemas_are_the_references() {
    each_document(|path, ours, theirs| {
        let (ours, theirs) = (&ours["components"]["schemas"], &theirs["components"]["schemas"]);
        for (name, schema) in ours.as_object().into_iter().flatten() {
            // Those two list the groups and versions that they are registered in.
            if name.ends_with(".DeleteOptions") || name.ends_with(".WatchEvent") {
                continue;
            }
            assert_eq!(&sorted(schema), &sorted(&theirs[name]), "{path}: {name}");
        }
        // Only the paths that watch in the deprecated way refer to these, and `runtime` types by way of them.
        let missing: Vec<_> = names(theirs).difference(&names(ours)).copied().collect();
        assert!(
            missing.iter().all(|name| name.ends_with(".WatchEvent") || name.ends_with(".RawExtension")),
            "{path}: {missing:?}"
        );
    });
}

#[test]
fn paths_and_operations_are_the_references() {
    each_document(|path, ours, theirs| {
        let (ours, theirs) = (&ours["paths"], &theirs["paths"]);
        let wanted: BTreeSet<&str> = names(theirs).into_iter().filter(|path| !path.contains("/watch/")).collect();
        assert_eq!(names(ours), wanted, "{path}");
        for (name, item) in ours.as_object().expect("an object") {
            assert_eq!(names(item), names(&theirs[name]), "{name}");
            for (method, operation) in
                item.as_object().expect("an object").iter().filter(|(method, _)| *method != "parameters")
            {
                let recorded = &theirs[name][method];
                for field in
                    ["operationId", "description", "tags", "x-kubernetes-action", "x-kubernetes-group-version-kind"]
                {
                    if field == "x-kubernetes-group-version-kind" && recorded[field].is_null() {
                        continue;
                    }
                    check(&operation[field], &recorded[field], &format!("{method} {name}: {field}"));
                }
                let all = |operation: &Value, item: &Value| -> BTreeSet<String> {
                    let lists = [&operation["parameters"], &item["parameters"]];
                    let given = lists.into_iter().filter_map(Value::as_array).flatten();
                    given.filter(|one| one["name"] != "shardSelector").map(Value::to_string).collect()
                };
                check(
                    &json!(
                        all(operation, item).symmetric_difference(&all(recorded, &theirs[name])).collect::<Vec<_>>()
                    ),
                    &json!([]),
                    &format!("{method} {name}: parameters"),
                );
                check(
                    &json!(names(&operation["responses"])),
                    &json!(names(&recorded["responses"])),
                    &format!("{method} {name}: responses"),
                );
                let body = |operation: &Value| operation["requestBody"]["content"]["*/*"].clone();
                check(&body(operation), &body(recorded), &format!("{method} {name}: body"));
            }
        }
    });
}

#[test]
fn the_index_names_every_document() {
    let catalog = Catalog::builtin();
    let index = index(&catalog);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("served");
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert_eq!(document(&catalog, "apis/nothing.example.com/v1"), None);
}

#[test]
fn every_reference_leads_somewhere() {
    let catalog = Catalog::builtin();
    let document = document(&catalog, "api/v1").expect("served");
    let text = document.to_string();
    let schemas = names(&document["components"]["schemas"]);
    for target in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains(target), "{target}");
    }
}

fn check(got: &Value, want: &Value, what: &str) {
    assert_eq!(got, want, "{what}");
}

/// Every object of a tree.
fn each_object(value: &Value, look: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            look(map);
            map.values().for_each(|inner| each_object(inner, look));
        }
        Value::Array(list) => list.iter().for_each(|inner| each_object(inner, look)),
        _ => {}
    }
}

#[test]
fn the_v2_document_speaks_only_v2() {
    let document = v2::document(&Catalog::builtin());
    let definitions = &document["definitions"];
    each_object(&document, &mut |map| {
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            let name = target.strip_prefix("#/definitions/").unwrap_or_else(|| panic!("{target}"));
            assert!(definitions.get(name).is_some(), "{target}");
        }
        for word in ["requestBody", "content", "oneOf", "anyOf", "allOf", "nullable"] {
            // A field of a kind may have such a name; then it has a type.
            let is_field = |value: &Value| value.get("type").or(value.get("$ref")).is_some();
            assert!(map.get(word).is_none_or(is_field), "{word}: {map:?}");
        }
    });
    let pod = &definitions["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
    assert_eq!(pod["x-kubernetes-group-version-kind"], json!([{"group": "", "version": "v1", "kind": "Pod"}]));
    let port = &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!((&port["type"], &port["format"]), (&json!("string"), &json!("int-or-string")));
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["parameters"][0]["in"], "body");
    let named = |name: &str| patch["parameters"].as_array().into_iter().flatten().any(|one| one["name"] == name);
    assert!(named("dryRun") && named("fieldValidation"), "{patch}");
}

/// The names in the map at a field of a message, whose entries have that number, reached by way of the first fields.
fn names_in(message: &[u8], way: &[u32], entries: u32) -> BTreeSet<String> {
    use crate::codec::protobuf::wire::Reader;
    let mut found = BTreeSet::new();
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.tag().expect("well-formed") {
        let wanted = way.first().copied().unwrap_or(entries);
        if number != wanted {
            reader.skip(number, wire).expect("well-formed");
            continue;
        }
        let inner = reader.bytes().expect("well-formed");
        match way.split_first() {
            Some((_, rest)) => found.extend(names_in(inner, rest, entries)),
            None => {
                let mut named = Reader::new(inner);
                assert_eq!(named.tag().expect("well-formed").map(|(number, _)| number), Some(1));
                found.insert(named.text().expect("text").to_owned());
            }
        }
    }
    found
}

fn owned(names: BTreeSet<&str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_v2_message_holds_every_path_and_definition() {
    let document = v2::document(&Catalog::builtin());
    let bytes = message::v2::encode(&document);
    assert_eq!(names_in(&bytes, &[8], 2), owned(names(&document["paths"])));
    assert_eq!(names_in(&bytes, &[9], 1), owned(names(&document["definitions"])));
}

#[test]
fn the_v3_message_holds_every_path_schema_and_property() {
    let document = document(&Catalog::builtin(), "apis/apps/v1").expect("served");
    let bytes = message::v3::encode(&document);
    assert_eq!(names_in(&bytes, &[4], 1), owned(names(&document["paths"])));
    let schemas = &document["components"]["schemas"];
    assert_eq!(names_in(&bytes, &[5, 1], 1), owned(names(schemas)));
    assert_eq!(names_in(&bytes, &[5, 7], 1), owned(BTreeSet::from(["BearerToken"])));
    // Named entry, its value, schema, properties.
    let properties = names_in(&bytes, &[5, 1, 1, 2, 1, 31], 1);
    let all = schemas.as_object().into_iter().flatten().flat_map(|(_, schema)| names(&schema["properties"]));
    assert_eq!(properties, owned(all.collect()));
}
