//! Ownership and apply: fixed cases on a small schema, and laws.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::{ListType, Presence, Properties, Schema, SchemaId, Schemas, Type};
use crate::status::ApiError;

/// `spec` (always printed) with `replicas`, `items` (by `name`, `port` of default 80), `tags` (a set), `whole` (atomic);
/// `data` (a map of strings); `status`.
fn schema() -> (Schemas, SchemaId) {
    let mut schemas = Schemas::new();
    let text = schemas.add(Schema { type_: Type::String, ..Schema::default() });
    let number = schemas.add(Schema { type_: Type::Integer, presence: Presence::KeepEmpty, ..Schema::default() });
    let port = schemas.add(Schema { type_: Type::Integer, default: Some(json!(80)), ..Schema::default() });
    let properties = |fields: &[(&'static str, SchemaId)]| {
        fields.iter().map(|(name, id)| (crate::resource::Text::from(*name), *id)).collect::<Properties>()
    };
    let object = |fields: &[(&'static str, SchemaId)]| Schema {
        type_: Type::Object,
        properties: properties(fields),
        ..Schema::default()
    };
    let item = schemas.add(object(&[("name", text), ("port", port), ("image", text), ("size", number)]));
    let list = |list_type: ListType, items: SchemaId| Schema {
        type_: Type::Array,
        list_type,
        items: Some(items),
        ..Schema::default()
    };
    let items = schemas.add(list(ListType::Map(vec!["name".to_owned(), "port".to_owned()]), item));
    let tags = schemas.add(list(ListType::Set, text));
    let whole = schemas.add(list(ListType::Atomic, text));
    let map = schemas.add(Schema { type_: Type::Object, additional: Some(text), ..Schema::default() });
    let spec = schemas.add(Schema {
        presence: Presence::Always,
        ..object(&[("replicas", number), ("items", items), ("tags", tags), ("whole", whole)])
    });
    let status = schemas.add(object(&[("count", number)]));
    let metadata = schemas.add(object(&[
        ("name", text),
        ("labels", map),
        ("annotations", map),
        ("uid", text),
        ("creationTimestamp", text),
    ]));
    let root = schemas.add(object(&[
        ("apiVersion", text),
        ("kind", text),
        ("metadata", metadata),
        ("spec", spec),
        ("data", map),
        ("status", status),
    ]));
    schemas.note_printed();
    (schemas, root)
}

fn writer<'a>(manager: &'a str, second: i64) -> Writer<'a> {
    let now = Timestamp::from_second(1_000_000_000 + second).unwrap();
    Writer { manager, api_version: "v1", kind: "Thing", subresource: "", status_apart: true, spec_apart: false, now }
}

fn thing(fields: Value) -> Object {
    let mut object = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t"}});
    for (name, value) in fields.as_object().unwrap() {
        object[name] = value.clone();
    }
    Object::from_value(object).unwrap()
}

fn applied(live: Option<&Object>, fields: Value, manager: &str, force: bool) -> Result<Object, ApplyError> {
    let (schemas, root) = schema();
    apply(live, &thing(fields), schemas.at(root), &writer(manager, 0), force).map(|applied| applied.object)
}

fn updated(live: Option<&Object>, fields: Value, manager: &str, second: i64) -> Object {
    let (schemas, root) = schema();
    let mut new = thing(fields);
    track_update(live, &mut new, schemas.at(root), &writer(manager, second));
    new
}

/// What `manager` owns.
fn owned(object: &Object, manager: &str) -> Value {
    let entries = object.get(&["metadata", "managedFields"]).and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .find(|entry| entry["manager"] == manager)
        .map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[test]
fn a_create_owns_what_it_sets_but_not_plain_structs() {
    let object = updated(
        None,
        json!({"spec": {"replicas": 0, "items": [{"name": "a"}], "tags": ["x"], "whole": ["y"]}, "data": {"k": "v"}, "status": {"count": 1}}),
        "m",
        0,
    );
    let want = json!({
        "f:data": {".": {}, "f:k": {}},
        "f:spec": {
            "f:items": {".": {}, "k:{\"name\":\"a\",\"port\":80}": {".": {}, "f:name": {}}},
            "f:replicas": {}, "f:tags": {".": {}, "v:\"x\"": {}}, "f:whole": {}
        }
    });
    assert_eq!(owned(&object, "m"), want);
}

#[test]
fn status_is_owned_only_through_its_subresource() {
    let (schemas, root) = schema();
    let live = updated(None, json!({"data": {"a": "1"}}), "one", 0);
    let mut new = thing(json!({"data": {"a": "2"}, "status": {"count": 3}}));
    let writer = Writer { subresource: "status", ..writer("two", 0) };
    track_update(Some(&live), &mut new, schemas.at(root), &writer);
    assert_eq!(owned(&new, "two"), json!({"f:status": {".": {}, "f:count": {}}}));
    let config = thing(json!({"data": {"a": "3"}, "status": {"count": 4}}));
    let applied =
        apply(Some(&live), &config, schemas.at(root), &Writer { manager: "three", ..writer }, false).unwrap().object;
    assert_eq!(owned(&applied, "three"), json!({"f:status": {"f:count": {}}}));
    assert_eq!(applied.get(&["data", "a"]), Some(&json!("1")));
}

#[test]
fn an_update_takes_what_it_changes() {
    let live = updated(None, json!({"data": {"a": "1", "b": "1"}}), "one", 0);
    let new = updated(Some(&live), json!({"data": {"a": "2", "b": "1"}}), "two", 5);
    assert_eq!(owned(&new, "one"), json!({"f:data": {".": {}, "f:b": {}}}));
    assert_eq!(owned(&new, "two"), json!({"f:data": {"f:a": {}}}));
    let same = updated(Some(&new), json!({"data": {"a": "2", "b": "1"}}), "three", 9);
    assert_eq!(same.get(&["metadata", "managedFields"]), new.get(&["metadata", "managedFields"]));
    let gone = updated(Some(&new), json!({}), "three", 9);
    assert_eq!(gone.get(&["metadata", "managedFields"]), None);
}

#[test]
fn managed_fields_can_be_reset_and_then_stay_away() {
    let live = updated(None, json!({"data": {"a": "1"}}), "one", 0);
    let reset =
        updated(Some(&live), json!({"metadata": {"name": "t", "managedFields": [{}]}, "data": {"a": "1"}}), "one", 0);
    assert_eq!(reset.get(&["metadata", "managedFields"]), None);
    let later = updated(Some(&reset), json!({"data": {"a": "2"}}), "one", 0);
    assert_eq!(later.get(&["metadata", "managedFields"]), None);
    let refused = applied(Some(&later), json!({"data": {"a": "3"}}), "two", false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a"#
    );
}

#[test]
fn applied_fields_are_owned_and_dropped_fields_vanish() {
    let live = applied(
        None,
        json!({"spec": {"items": [{"name": "a", "image": "i", "size": 1}]}, "data": {"k": "v"}}),
        "one",
        false,
    )
    .unwrap();
    let want = json!({
        "f:data": {"f:k": {}},
        "f:spec": {"f:items": {"k:{\"name\":\"a\",\"port\":80}": {".": {}, "f:image": {}, "f:name": {}, "f:size": {}}}}
    });
    assert_eq!(owned(&live, "one"), want);
    let shared =
        applied(Some(&live), json!({"spec": {"items": [{"name": "a", "image": "i"}, {"name": "b"}]}}), "two", false)
            .unwrap();
    let dropped = applied(Some(&shared), json!({"spec": {"items": [{"name": "a"}]}}), "one", false).unwrap();
    assert_eq!(dropped.get(&["spec", "items"]), Some(&json!([{"name": "a", "image": "i"}, {"name": "b"}])));
    assert_eq!(dropped.get(&["data"]), None);
    let left = applied(Some(&dropped), json!({}), "two", false).unwrap();
    assert_eq!(left.get(&["spec", "items"]), Some(&json!([{"name": "a"}])));
}

#[test]
fn the_name_stays_when_a_manager_drops_all_else_of_the_metadata() {
    let labelled = json!({"metadata": {"name": "t", "labels": {"a": "b"}}, "data": {"k": "v"}});
    let live = applied(None, labelled, "one", false).unwrap();
    let bare = applied(Some(&live), json!({"data": {"k": "v"}}), "one", false).unwrap();
    assert_eq!((bare.name(), bare.labels()), ("t", None));
    assert_eq!(owned(&bare, "one"), json!({"f:data": {"f:k": {}}}));
}

#[test]
fn what_a_configuration_says_in_another_form_is_no_change() {
    let (schemas, root) = schema();
    let config = json!({"spec": {"tags": [], "items": null, "replicas": null}, "data": {"k": null}});
    let live = applied(None, config.clone(), "one", false).unwrap();
    assert_eq!((live.get(&["spec"]), live.get(&["data"])), (Some(&json!({})), Some(&json!({"k": ""}))));
    let again = apply(Some(&live), &thing(config.clone()), schemas.at(root), &writer("one", 9), false).unwrap();
    assert!(!again.changed, "{:?}", again.object);
    applied(Some(&live), config, "two", false).expect("what is the same is in nobody's way");
    // Nothing where there is something is a change.
    let live = applied(None, json!({"spec": {"whole": ["a"], "replicas": 1}}), "one", false).unwrap();
    for config in [json!({"spec": {"whole": []}}), json!({"spec": {"whole": ["b"]}}), json!({"spec": {"replicas": 0}})]
    {
        let refused = applied(Some(&live), config.clone(), "two", false).unwrap_err();
        assert!(matches!(refused, ApplyError::Conflicts(_)), "{config}: {refused}");
    }
}

#[test]
fn what_came_of_a_merge_must_be_an_object_of_its_kind() {
    let refused = applied(None, json!({"spec": {"replicas": 1.5}}), "one", false).unwrap_err();
    assert!(refused.to_string().contains("unable to convert unstructured object to /v1, Kind=Thing"), "{refused}");
}

#[test]
fn an_element_without_its_keys_has_their_defaults() {
    let items = json!({"spec": {"items": [{"image": "i"}]}});
    assert!(applied(None, items, "one", false).is_ok(), "the port has a default, which is a key");
    let owners = json!({"metadata": {"name": "t", "ownerReferences": [{"name": "o"}]}});
    let (schemas, root) = custom_schema();
    let made = apply(None, &thing(owners), schemas.at(root), &writer("one", 0), false).unwrap().object;
    // An owner reference is owned as a whole.
    let want = json!({"f:metadata": {"f:ownerReferences": {"k:{\"uid\":\"\"}": {}}}});
    assert_eq!(owned(&made, "one"), want);
}

#[test]
fn conflicts_name_managers_and_paths() {
    let live =
        applied(None, json!({"spec": {"items": [{"name": "a", "image": "i"}]}, "data": {"k": "v"}}), "one", false)
            .unwrap();
    let config = json!({"spec": {"items": [{"name": "a", "image": "j"}]}, "data": {"k": "w"}});
    let refused = applied(Some(&live), config.clone(), "two", false).unwrap_err();
    let status = ApiError::from(refused).to_value();
    assert_eq!(
        status["message"],
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.k\n- .spec.items[name=\"a\",port=80].image"
    );
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.k"})
    );
    let forced = applied(Some(&live), config, "two", true).unwrap();
    assert_eq!(
        owned(&forced, "one"),
        json!({"f:spec": {"f:items": {"k:{\"name\":\"a\",\"port\":80}": {".": {}, "f:name": {}}}}})
    );
    assert_eq!(forced.get(&["data", "k"]), Some(&json!("w")));
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let cases = [
        (json!({"golden": 1}), ".golden: field not declared in schema"),
        (json!({"golden": 1, "silver": 2}), ".golden: field not declared in schema"),
        (
            json!({"data": {"a": {"b": [1, "c", true]}}}),
            r#".data.a: expected string, got &value.valueUnstructured{Value:map[string]interface {}{"b":[]interface {}{1, "c", true}}}"#,
        ),
        (json!({"data": {"a": 5}}), ".data.a: expected string, got &value.valueUnstructured{Value:5}"),
        (
            json!({"spec": {"items": [{"name": "a"}, {"name": "a"}]}}),
            r#".spec.items: duplicate entries for key [name="a",port=80]"#,
        ),
    ];
    for (config, want) in cases {
        let refused = applied(None, config, "m", false).unwrap_err();
        assert_eq!(refused.to_string(), format!("failed to create typed patch object (/t; /v1, Kind=Thing): {want}"));
    }
    let other = Object::from_value(json!({"apiVersion": "v9", "kind": "Thing"})).unwrap();
    let (schemas, root) = schema();
    let refused = apply(None, &other, schemas.at(root), &writer("m", 0), false).unwrap_err();
    assert_eq!(refused.to_string(), "invalid object type: /v9, Kind=Thing");
}

#[test]
fn kubectl_takes_over_what_client_side_apply_set() {
    let annotation = json!({"apiVersion": "v1", "kind": "Thing", "data": {"k": "v"}}).to_string();
    let metadata = json!({"name": "t", "annotations": {LAST_APPLIED: annotation}});
    let live =
        updated(None, json!({"metadata": metadata, "data": {"k": "v", "l": "v"}}), "kubectl-client-side-apply", 0);
    let taken = applied(Some(&live), json!({"data": {"k": "w"}}), "kubectl", false).unwrap();
    assert_eq!(taken.get(&["data", "k"]), Some(&json!("w")));
    assert!(taken.annotation(LAST_APPLIED).unwrap().contains(r#""k":"w""#));
    let refused = applied(Some(&live), json!({"data": {"l": "w"}}), "kubectl", false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .data.l"#
    );
}

#[test]
fn a_typed_clients_null_time_changes_nothing() {
    let live = applied(None, json!({"data": {"k": "v"}}), "one", false).unwrap();
    let (schemas, root) = schema();
    let config = thing(json!({"metadata": {"name": "t", "creationTimestamp": null}, "data": {"k": "v"}}));
    let mut stored = live.clone();
    stored.set_metadata("creationTimestamp", "2001-01-01T00:00:00Z");
    let again = apply(Some(&stored), &config, schemas.at(root), &writer("one", 9), false).unwrap();
    assert!(!again.changed);
    assert_eq!(again.object, stored);
}

/// A CRD's schema as its author wrote it: nothing about `metadata`, a list without a list type.
fn custom_schema() -> (Schemas, SchemaId) {
    let mut schemas = Schemas::new();
    let given = |type_: Type| Schema { type_, presence: Presence::AsGiven, ..Schema::default() };
    let text = schemas.add(given(Type::String));
    let list = schemas.add(Schema { items: Some(text), ..given(Type::Array) });
    let free = schemas.add(Schema { preserve_unknown: true, ..given(Type::Object) });
    let bare = schemas.add(given(Type::Object));
    let spec = schemas
        .add(Schema { properties: [("list", list), ("free", free)].into_iter().collect(), ..given(Type::Object) });
    let fields = [("apiVersion", text), ("kind", text), ("metadata", bare), ("spec", spec)];
    let root = schemas.add(Schema { properties: fields.into_iter().collect(), ..given(Type::Object) });
    (schemas, root)
}

#[test]
fn custom_objects_have_the_metadata_of_every_object() {
    let (schemas, root) = custom_schema();
    let config = |finalizer: &str, list: &str| {
        let metadata =
            json!({"name": "t", "finalizers": [finalizer], "ownerReferences": [{"uid": "u", "name": finalizer}]});
        thing(json!({"metadata": metadata, "spec": {"list": [list], "free": {"a": {"b": 1}}}}))
    };
    let mut created = config("x/a", "l");
    track_update(None, &mut created, schemas.at(root), &writer("one", 0));
    let want = json!({
        "f:metadata": {
            "f:finalizers": {".": {}, "v:\"x/a\"": {}},
            "f:ownerReferences": {".": {}, "k:{\"uid\":\"u\"}": {}}
        },
        "f:spec": {".": {}, "f:free": {".": {}, "f:a": {".": {}, "f:b": {}}}, "f:list": {}}
    });
    assert_eq!(owned(&created, "one"), want);
    let mut other = config("x/b", "l");
    other.remove(&["metadata", "ownerReferences"]);
    let both = apply(Some(&created), &other, schemas.at(root), &writer("two", 0), false).unwrap().object;
    assert_eq!(both.finalizers(), ["x/a", "x/b"]);
    let mut unknown = config("x/b", "l");
    unknown.set(&["metadata", "golden"], 1);
    let refused = apply(None, &unknown, schemas.at(root), &writer("two", 0), false).unwrap_err();
    assert!(refused.to_string().ends_with(": .metadata.golden: field not declared in schema"), "{refused}");
}

/// A configuration over a few fields.
fn any_config() -> impl Strategy<Value = Value> {
    let item = ("[a-c]", prop::option::of("[x-y]"));
    // Empty containers print as absent, so that only canonical objects could be compared.
    let items = prop::collection::btree_map(item.0, item.1, 1..3).prop_map(|items| {
        let items = items.into_iter().map(|(name, image)| {
            image.map_or_else(|| json!({"name": name}), |image| json!({"name": name, "image": image}))
        });
        items.collect::<Vec<_>>()
    });
    let data = prop::collection::btree_map("[a-c]", "[x-z]", 1..3);
    let tags = prop::collection::btree_set("[a-c]", 1..3);
    (items, data, tags, 0..3).prop_map(|(items, data, tags, replicas)| json!({"spec": {"items": items, "tags": tags, "replicas": replicas}, "data": data}))
}

proptest! {
    #[test]
    fn applying_twice_changes_nothing(first in any_config(), second in any_config(), config in any_config()) {
        let (schemas, root) = schema();
        let live = applied(None, first, "one", true).unwrap();
        let live = applied(Some(&live), second, "two", true).unwrap();
        let once = applied(Some(&live), config.clone(), "one", true).unwrap();
        let twice = apply(Some(&once), &thing(config), schemas.at(root), &writer("one", 7), true).unwrap();
        prop_assert!(!twice.changed);
        prop_assert_eq!(twice.object, once);
    }

    #[test]
    fn disjoint_owners_commute(data in prop::collection::btree_map("[a-c]", "[x-z]", 1..3), other in prop::collection::btree_map("[d-f]", "[x-z]", 1..3)) {
        let (data, other) = (json!({"data": data}), json!({"data": other}));
        let both = |a: (&Value, &str), b: (&Value, &str)| {
            let live = applied(None, a.0.clone(), a.1, false).unwrap();
            applied(Some(&live), b.0.clone(), b.1, false).unwrap()
        };
        let (ab, ba) = (both((&data, "one"), (&other, "two")), both((&other, "two"), (&data, "one")));
        prop_assert_eq!(ab.get(&["data"]), ba.get(&["data"]));
        prop_assert_eq!(owned(&ab, "one"), owned(&ba, "one"));
        prop_assert_eq!(owned(&ab, "two"), owned(&ba, "two"));
    }

    #[test]
    fn what_nobody_applies_any_more_vanishes(first in any_config(), second in any_config()) {
        let live = applied(None, first, "one", true).unwrap();
        let live = applied(Some(&live), second, "two", true).unwrap();
        let live = applied(Some(&live), json!({}), "one", true).unwrap();
        let live = applied(Some(&live), json!({}), "two", true).unwrap();
        prop_assert_eq!(live.get(&["metadata", "managedFields"]), None);
        prop_assert_eq!(live.get(&["data"]), None);
    }

    #[test]
    fn nothing_that_a_client_sends_makes_it_panic(live in any_fields(), config in any_fields(), entries in any_json(), force in any::<bool>()) {
        let (schemas, root) = schema();
        let mut live = thing(live);
        live.set_metadata("managedFields", entries);
        let _ = apply(Some(&live), &thing(config.clone()), schemas.at(root), &writer("m", 0), force);
        let mut new = thing(config);
        track_update(Some(&live), &mut new, schemas.at(root), &writer("m", 0));
        track_update(None, &mut live, schemas.at(root), &writer("m", 0));
    }
}

/// Any JSON that has some of the names of the schema and of `managedFields`.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        "[a-b]|FieldsV1|Update|Apply|v1".prop_map(Value::from)
    ];
    let name = "items|name|port|tags|labels|replicas|manager|operation|fieldsType|fieldsV1|f:a|f:data|k:\\{\\}|v:1|\\.";
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn any_fields() -> impl Strategy<Value = Value> {
    prop::collection::vec(("spec|data|status|metadata", any_json()), 0..4)
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
}
