//! JSON Merge Patch (RFC 7386).

use serde_json::Value;

use super::go::{json_type, parse};
use super::{MAX_DEPTH, PatchError, deeper_than};

/// Applies a merge patch: members of `null` are removed, objects merge, everything else replaces.
pub fn merge_patch(doc: Value, patch: &[u8]) -> Result<Value, PatchError> {
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
    let mut merged = doc;
    json_patch::merge(&mut merged, &patch);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::any::any_object;
    use proptest::prelude::*;
    use serde_json::json;

    fn merge(doc: &Value, patch: &Value) -> Value {
        merge_patch(doc.clone(), patch.to_string().as_bytes()).expect("an object")
    }

    #[test]
    fn bad_patches_say_what_the_reference_says() {
        let cases = [
            ("{", "error decoding patch: unexpected end of JSON input"),
            ("[]", "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
            ("null", "Invalid JSON Patch"),
        ];
        for (patch, want) in cases {
            assert_eq!(merge_patch(json!({}), patch.as_bytes()), Err(PatchError::Malformed(want.to_owned())));
        }
    }

    #[test]
    fn a_patch_that_nests_too_deep_is_refused() {
        let patch = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        assert!(merge_patch(json!({}), patch.as_bytes()).is_err());
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
