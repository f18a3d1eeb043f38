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
    let places = Places::of(&Catalog::everything());
    // The reference has that document, but it was not recorded.
    for place in places.names().filter(|place| !place.starts_with('.')) {
        let ours = places.document(place).expect("served");
        look(place, &ours, &recorded(&documents, place));
    }
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// A schema without the values of fields, which the recorded documents leave out.
fn without_values(schema: &Value) -> Value {
    let mut schema = schema.clone();
    for field in schema["properties"].as_object_mut().into_iter().flat_map(|fields| fields.values_mut()) {
        let places = ["/enum", "/items/enum", "/additionalProperties/enum"];
        for (holder, _) in places.into_iter().filter_map(|place| place.rsplit_once('/')) {
            field.pointer_mut(holder).and_then(Value::as_object_mut).and_then(|holder| holder.remove("enum"));
        }
    }
    if schema["properties"].is_null() {
        schema.as_object_mut().expect("an object").remove("properties");
    }
    schema
}

#[test]
fn schemas_are_the_references() {
    each_document(|path, ours, theirs| {
        let (ours, theirs) = (&ours["components"]["schemas"], &theirs["components"]["schemas"]);
        for (name, schema) in ours.as_object().into_iter().flatten() {
            assert_eq!(&without_values(schema), &theirs[name], "{path}: {name}");
        }
        assert_eq!(names(ours), names(theirs), "{path}");
    });
}

#[test]
fn paths_and_operations_are_the_references() {
    each_document(|path, ours, theirs| {
        let (ours, theirs) = (&ours["paths"], &theirs["paths"]);
        assert_eq!(names(ours), names(theirs), "{path}");
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
                let given = |holder: &Value| -> Value {
                    let list = holder["parameters"].as_array().into_iter().flatten();
                    list.filter(|one| one["name"] != "shardSelector").cloned().collect()
                };
                check(&given(operation), &given(recorded), &format!("{method} {name}: parameters"));
                check(&given(item), &given(&theirs[name]), &format!("{name}: parameters"));
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
    let places = Places::of(&Catalog::builtin());
    let index = places.index(&BTreeMap::new());
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("served");
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert_eq!(places.document("apis/nothing.example.com/v1"), None);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = Places::of(&Catalog::builtin()).document("api/v1").expect("served");
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

/// The v2 document of all of this.
fn v2_of(catalog: &Catalog) -> Value {
    let mut json = v2::Json::new(Vec::new()).expect("memory is written");
    v2::write(&Places::of(catalog), &v2::Merged::default(), &mut json).expect("memory is written");
    serde_json::from_slice(&json.finish().expect("memory is written")).expect("JSON")
}

#[test]
fn the_v2_document_speaks_only_v2() {
    let document = v2_of(&Catalog::builtin());
    let definitions = &document["definitions"];
    each_object(&document, &mut |map| {
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
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
    assert_eq!(patch["parameters"][0]["$ref"], "#/parameters/body-78PwaGsr");
    let named = |name: &str| patch["parameters"].as_array().into_iter().flatten().any(|one| one["name"] == name);
    assert!(named("dryRun") && named("fieldValidation"), "{patch}");
    let list = &document["paths"]["/apis/apps/v1/deployments"];
    assert!(
        list["parameters"]
            .as_array()
            .is_some_and(|list| list.contains(&json!({"$ref": "#/parameters/limit-1NfNmdNH"})))
    );
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
    let catalog = Catalog::builtin();
    let (document, mut message) = (v2_of(&catalog), message::v2::Message::default());
    v2::write(&Places::of(&catalog), &v2::Merged::default(), &mut message).expect("memory is written");
    let bytes = message.finish();
    assert_eq!(names_in(&bytes, &[8], 2), owned(names(&document["paths"])));
    assert_eq!(names_in(&bytes, &[9], 1), owned(names(&document["definitions"])));
    assert_eq!(names_in(&bytes, &[10], 1), owned(names(&document["parameters"])));
}

#[test]
fn the_v3_message_holds_every_path_schema_and_property() {
    let document = Places::of(&Catalog::builtin()).document("apis/apps/v1").expect("served");
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

/// A catalog with a custom resource of these versions.
fn catalog_with(versions: &Value) -> Catalog {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "shirts.clothes.example.com"},
        "spec": {
            "group": "clothes.example.com", "scope": "Namespaced",
            "names": {"plural": "shirts", "singular": "shirt", "kind": "Shirt", "listKind": "ShirtList"},
            "versions": versions,
        },
    });
    let definition = crate::object::Object::from_value(definition).expect("an object");
    let rows = crate::custom::Definition::read(&definition).expect("valid").served;
    Catalog::builtin().with(rows)
}

/// What is published of it: the document of its version `v1`, and the v2 document.
fn published(versions: Value) -> (Value, Value) {
    let catalog = catalog_with(&versions);
    let document = Places::of(&catalog).document("apis/clothes.example.com/v1").expect("served");
    (document, v2_of(&catalog))
}

fn shirts() -> Value {
    json!([{
        "name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {}},
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "schema": {"openAPIV3Schema": {"type": "object", "description": "A shirt.", "properties": {
            "spec": {"type": "object", "required": ["color"], "properties": {
                "color": {"type": "string", "description": "Its color.", "nullable": true, "default": "red"},
                "size": {"x-kubernetes-int-or-string": true},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": true},
            }},
        }}},
    }])
}

#[test]
fn documents_of_custom_resources_look_like_those_of_upstreams_other_builder() {
    let (document, _) = published(shirts());
    assert_eq!(document["info"], json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}));
    assert!(document["components"].get("securitySchemes").is_none());
    let one = "/apis/clothes.example.com/v1/namespaces/{namespace}/shirts/{name}";
    let all = "/apis/clothes.example.com/v1/shirts";
    let paths = [&one[..one.len() - 7], one, &format!("{one}/scale"), &format!("{one}/status"), all];
    assert_eq!(names(&document["paths"]), BTreeSet::from(paths));
    let item = &document["paths"][one];
    let forms = BTreeSet::from(["application/json", "application/yaml"]);
    assert_eq!(names(&item["get"]["responses"]["200"]["content"]), forms);
    assert_eq!(names(&item["put"]["requestBody"]["content"]), forms);
    assert_eq!(names(&item["patch"]["responses"]), BTreeSet::from(["200", "401"]));
    assert_eq!(item["get"]["parameters"][0]["name"], "resourceVersion");
    assert_eq!(document["paths"][all]["get"]["description"], "list objects of kind Shirt");
    let scale = &document["paths"][&format!("{one}/scale")]["get"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Shirt");
    let schemas = &document["components"]["schemas"];
    let shirt = &schemas["com.example.clothes.v1.Shirt"];
    assert_eq!(shirt["description"], "A shirt.");
    assert_eq!(shirt["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.color"}]));
    let metadata = shirt["properties"]["metadata"]["description"].as_str().expect("described");
    assert!(metadata.starts_with("Standard object's metadata. More info: "), "{metadata}");
    let spec = &shirt["properties"]["spec"]["properties"];
    assert_eq!(
        spec["color"],
        json!({"type": "string", "description": "Its color.", "nullable": true, "default": "red"})
    );
    assert_eq!(spec["inner"]["required"], json!(["kind", "apiVersion"]));
    assert!(schemas["io.k8s.api.autoscaling.v1.Scale"].is_object());
    let kinds = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]["x-kubernetes-group-version-kind"];
    assert_eq!(kinds[1], json!({"group": "clothes.example.com", "version": "v1", "kind": "DeleteOptions"}));
}

#[test]
fn v2_says_of_custom_resources_only_what_it_can() {
    let (_, document) = published(shirts());
    let shirt = &document["definitions"]["com.example.clothes.v1.Shirt"]["properties"];
    let spec = json!({"type": "object", "properties": {
        "color": {"description": "Its color."},
        "size": {"x-kubernetes-int-or-string": true},
        "free": {"x-kubernetes-preserve-unknown-fields": true},
        "inner": shirt["spec"]["properties"]["inner"],
    }});
    assert_eq!(shirt["spec"], spec);
    assert_eq!(shirt["metadata"]["$ref"], "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let list = &document["paths"]["/apis/clothes.example.com/v1/shirts"]["get"];
    assert_eq!(list["consumes"], json!(["application/json", "application/yaml"]));
    let open = json!([{
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    }]);
    let (_, document) = published(open);
    let shirt = &document["definitions"]["com.example.clothes.v1.Shirt"];
    assert_eq!(names(shirt), BTreeSet::from(["type", "x-kubernetes-group-version-kind"]));
}

#[test]
fn the_hash_of_a_document_changes_with_its_schema_only() {
    let hash = |versions: Value| {
        let places = Places::of(&catalog_with(&versions));
        places.hash("apis/clothes.example.com/v1").expect("served").to_owned()
    };
    let mut other = shirts();
    assert_eq!(hash(shirts()), hash(other.clone()));
    other[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"]["description"] =
        "A color.".into();
    assert_ne!(hash(shirts()), hash(other));
}
