//! Strategic merges: fixed cases, and properties against naive models.

use super::*;
use crate::patch::any::{any_json, any_object};
use crate::schema::{PatchStrategy, Schema, SchemaId, Schemas};
use proptest::prelude::*;
use serde_json::json;

/// A schema whose field `list` merges by `name` (recursively), `values` as a set, `whole` is replaced.
fn schema() -> (Schemas, SchemaId) {
    let mut schemas = Schemas::new();
    let root = schemas.add(Schema::default());
    let strategy = |merge: bool, key: Option<&str>| PatchStrategy {
        merge,
        replace: !merge,
        merge_key: key.map(str::to_owned),
        ..PatchStrategy::default()
    };
    let field = |patch: PatchStrategy| Schema { patch, items: Some(root), ..Schema::default() };
    let list = schemas.add(field(strategy(true, Some("name"))));
    let values = schemas.add(field(strategy(true, None)));
    let whole = schemas.add(field(strategy(false, None)));
    let map = schemas.add(Schema { additional: Some(root), ..Schema::default() });
    let fields =
        [("list", list), ("a", list), ("values", values), ("b", values), ("whole", whole), ("map", map), ("c", root)];
    schemas.get_mut(root).properties =
        fields.into_iter().map(|(name, id)| (crate::resource::Text::from(name), id)).collect();
    (schemas, root)
}

fn merge(doc: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (schemas, root) = schema();
    strategic_merge(doc.clone(), patch.to_string().as_bytes(), schemas.at(root))
}

#[test]
fn merges_as_the_reference_does() {
    let named = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let cases = [
        (
            "a new element comes first",
            json!({"list": named(&["a", "b"])}),
            json!({"list": named(&["c"])}),
            json!({"list": named(&["c", "a", "b"])}),
        ),
        (
            "an element merges in place",
            json!({"list": [{"name": "a", "x": 1}, {"name": "b"}]}),
            json!({"list": [{"name": "a", "y": 2}]}),
            json!({"list": [{"name": "a", "x": 1, "y": 2}, {"name": "b"}]}),
        ),
        (
            "new elements follow those they follow in the patch",
            json!({"list": named(&["x", "y"])}),
            json!({"list": named(&["y", "z"])}),
            json!({"list": named(&["x", "y", "z"])}),
        ),
        (
            "an element is deleted",
            json!({"list": named(&["a", "b"])}),
            json!({"list": [{"name": "a", "$patch": "delete"}]}),
            json!({"list": named(&["b"])}),
        ),
        (
            "a list is replaced",
            json!({"list": named(&["a", "b"])}),
            json!({"list": [{"name": "q"}, {"$patch": "replace"}]}),
            json!({"list": named(&["q"])}),
        ),
        (
            "a list is ordered",
            json!({"list": named(&["a", "b", "c"])}),
            json!({"$setElementOrder/list": named(&["c", "a"])}),
            json!({"list": named(&["b", "c", "a"])}),
        ),
        (
            "a map is replaced",
            json!({"map": {"a": {"x": 1}}}),
            json!({"map": {"$patch": "replace", "b": {}}}),
            json!({"map": {"b": {}}}),
        ),
        ("a map is emptied", json!({"map": {"a": {"x": 1}}}), json!({"map": {"$patch": "delete"}}), json!({"map": {}})),
        (
            "keys are retained",
            json!({"c": {"x": 1, "y": 2}}),
            json!({"c": {"$retainKeys": ["y", "z"], "z": 3}}),
            json!({"c": {"y": 2, "z": 3}}),
        ),
        ("null removes", json!({"c": {"x": 1}, "list": []}), json!({"c": {"x": null}, "list": null}), json!({"c": {}})),
        (
            "null of what is absent is dropped",
            json!({}),
            json!({"c": {"x": null, "y": {"z": null}}}),
            json!({"c": {"y": {}}}),
        ),
        (
            "primitives merge as a set",
            json!({"values": [1, 2]}),
            json!({"values": [3, 2]}),
            json!({"values": [3, 1, 2]}),
        ),
        (
            "primitives are deleted",
            json!({"values": [1, 2]}),
            json!({"$deleteFromPrimitiveList/values": [1, 9]}),
            json!({"values": [2]}),
        ),
        ("atomic lists are replaced", json!({"whole": [1, 2]}), json!({"whole": [3]}), json!({"whole": [3]})),
        (
            "directives of new lists vanish",
            json!({}),
            json!({"list": [{"name": "a", "$patch": "delete"}, {"name": "b"}]}),
            json!({"list": named(&["b"])}),
        ),
        ("other types replace", json!({"c": {"x": 1}}), json!({"c": 5}), json!({"c": 5})),
    ];
    for (name, doc, patch, want) in cases {
        assert_eq!(merge(&doc, &patch), Ok(want), "{name}");
    }
}

#[test]
fn contradictions_are_told_in_the_words_of_the_reference() {
    let doc = json!({"list": [{"name": "a"}], "c": {"x": 1}, "values": [1]});
    let cases = [
        (json!({"list": [{"image": "x"}]}), "map: map[image:x] does not contain declared merge key: name"),
        (json!({"c": {"$patch": "explode"}}), "unknown patch type: explode in map: map[$patch:explode]"),
        (json!({"c": {"$retainKeys": ["y"], "z": 1}}), "invalid patch format of retainKeys"),
        (json!({"$deleteFromPrimitiveList/values": 1}), "invalid patch format of primitive list"),
        (json!({"list": [{"$patch": "merge"}]}), "merging lists cannot yet be specified in the patch"),
        (json!({"values": ["x"]}), "list element types are not identical: [int64 string]"),
    ];
    for (patch, want) in cases {
        assert_eq!(merge(&doc, &patch), Err(PatchError::Directive(want.to_owned())), "{patch}");
    }
}

/// A list of objects with distinct names, as a model: name to value.
fn keyed() -> impl Strategy<Value = std::collections::BTreeMap<String, i64>> {
    prop::collection::btree_map("[a-f]", 0_i64..5, 0..6)
}

fn as_list(model: &std::collections::BTreeMap<String, i64>) -> Value {
    model.iter().map(|(name, value)| json!({"name": name, "x": value})).collect::<Vec<_>>().into()
}

proptest! {
    #[test]
    fn keyed_lists_merge_as_maps(server in keyed(), patch in keyed(), gone in prop::collection::btree_set("[a-f]", 0..3)) {
        let mut elements = as_list(&patch).as_array().cloned().unwrap_or_default();
        elements.extend(gone.iter().filter(|name| !patch.contains_key(*name)).map(|name| json!({"name": name, "$patch": "delete"})));
        let merged = merge(&json!({"list": as_list(&server)}), &json!({"list": elements})).unwrap();
        let mut want = server;
        want.retain(|name, _| !gone.contains(name));
        want.extend(patch);
        let mut got = merged["list"].as_array().cloned().unwrap_or_default();
        got.sort_by_key(|element| element["name"].to_string());
        prop_assert_eq!(Value::from(got), as_list(&want));
    }

    #[test]
    fn plain_objects_merge_as_merge_patches_do(doc in prop::collection::btree_map("[d-h]", 0..5, 0..5), patch in prop::collection::btree_map("[d-h]", prop::option::of(0..5), 0..5)) {
        let (doc, patch) = (json!(doc), json!(patch));
        prop_assert_eq!(merge(&doc, &patch).unwrap(), crate::patch::merge_patch(doc.clone(), patch.to_string().as_bytes()).unwrap());
    }

    #[test]
    fn the_empty_patch_changes_nothing(doc in any_object()) {
        prop_assert_eq!(merge(&doc, &json!({})), Ok(doc));
    }

    #[test]
    fn never_panics(doc in any_json(), patch in any_json()) {
        let _ = merge(&doc, &patch);
    }
}
