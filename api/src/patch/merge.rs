//! JSON Merge Patch (RFC 7386).

use serde_json::Value;

use super::go::{json_type, parse};
use super::{MAX_DEPTH, PatchError, deeper_than};

/// Applies a merge patch: members of `null` are removed, objects merge, everything else replaces.
pub fn merge_patch(doc: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = parse(patch).map_err(|why| PatchError::Malformed(format!("error decoding patch: {why}")))?;
    match &patch {
        Value::Object(_) => {}
        Value::Null => return Err(PatchError::Malformed("Invalid JSON Patch".to_owned())),
        other => {
            let found = json_type(other);
            return Err(PatchError::Malformed(format!(
                "error decoding patch: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            )));
        }
    }
    if deeper_than(&patch, MAX_DEPTH) {
        return Err(PatchError::Malformed("error decoding patch: json: exceeded max depth".to_owned()));
    }
    let mut merged = doc.clone();
    json_patch::merge(&mut merged, &patch);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    /// Any JSON value of a few levels.
    pub(in crate::patch) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-d]|name|\\$patch|\\$retainKeys|\\$setElementOrder/a", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// Any JSON object.
    pub(in crate::patch) fn any_object() -> impl Strategy<Value = Value> {
        prop::collection::vec(("[a-d]", any_json()), 0..4)
            .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>()))
    }

    fn merge(doc: &Value, patch: &Value) -> Value {
        merge_patch(doc, patch.to_string().as_bytes()).expect("an object")
    }

    #[test]
    fn bad_patches_say_what_the_reference_says() {
        let cases = [
            ("{", "error decoding patch: unexpected end of JSON input"),
            ("[]", "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
            ("null", "Invalid JSON Patch"),
        ];
        for (patch, want) in cases {
            assert_eq!(merge_patch(&json!({}), patch.as_bytes()), Err(PatchError::Malformed(want.to_owned())));
        }
    }

    #[test]
    fn a_patch_that_nests_too_deep_is_refused() {
        let patch = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        assert!(merge_patch(&json!({}), patch.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn the_empty_patch_changes_nothing(doc in any_object()) {
            prop_assert_eq!(merge(&doc, &json!({})), doc);
        }

        #[test]
        fn patching_twice_is_patching_once(doc in any_object(), patch in any_object()) {
            let once = merge(&doc, &patch);
            prop_assert_eq!(merge(&once, &patch), once);
        }
    }
}

#[cfg(test)]
pub(super) use tests::{any_json, any_object};
