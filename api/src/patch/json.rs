//! JSON Patch (RFC 6902), bounded in operations, growth and depth.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::go::{json_type, parse};
use super::{MAX_DEPTH, MAX_OPERATIONS, PatchError, deeper_than};

/// All `copy` operations of one patch together may copy this many bytes of JSON (upstream's limit for request bodies).
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON patch.
pub fn json_patch(doc: Value, patch: &[u8]) -> Result<Value, PatchError> {
    let operations = decode(patch)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut patched = doc;
    let mut copied = 0;
    for (index, operation) in operations.iter().enumerate() {
        let rejected = |why: String| PatchError::Rejected { operation: index, why };
        let operation = parse_operation(operation).map_err(rejected)?;
        let operation = replace_as_add(&patched, in_place(&patched, operation));
        check_growth(&patched, &operation, &mut copied).map_err(rejected)?;
        match finds_absent(&patched, &operation) {
            Some(true) => continue,
            Some(false) => return Err(PatchError::TestFailed { operation: index }),
            None => {}
        }
        let applied = json_patch::patch_unsafe(&mut patched, std::slice::from_ref(&operation));
        applied.map_err(|error| match error.kind {
            PatchErrorKind::TestFailed => PatchError::TestFailed { operation: index },
            // An operation that fails has changed nothing.
            kind => rejected(refusal(&patched, &operation).unwrap_or_else(|| kind.to_string())),
        })?;
    }
    Ok(patched)
}

/// Why an operation does not apply, in the words of the library that the reference uses.
fn refusal(doc: &Value, operation: &PatchOperation) -> Option<String> {
    let holder = |path: &PointerBuf| {
        let parent = path.parent().and_then(|parent| doc.pointer(parent.as_str()));
        parent.filter(|parent| parent.is_object() || parent.is_array())
    };
    let (name, path) = match operation {
        PatchOperation::Add(op) => ("add", &op.path),
        PatchOperation::Remove(op) => ("remove", &op.path),
        PatchOperation::Replace(op) => ("replace", &op.path),
        PatchOperation::Move(op) => ("move", &op.path),
        PatchOperation::Copy(op) => ("copy", &op.path),
        PatchOperation::Test(_) => return None,
    };
    let unfit = format!("{name} operation does not apply: doc is missing");
    let from = match operation {
        PatchOperation::Move(op) => Some(&op.from),
        PatchOperation::Copy(op) => Some(&op.from),
        _ => None,
    };
    if let Some(from) = from {
        return Some(match (holder(from), doc.pointer(from.as_str()), holder(path)) {
            (None, ..) => format!("{unfit} from path: {from}: missing value"),
            (_, Some(_), None) => format!("{unfit} destination path: {path}: missing value"),
            (_, Some(_), Some(into)) => failure(into, name, path),
            (Some(out), None, _) => failure(out, name, from),
        });
    }
    Some(match (holder(path), name) {
        (None, "replace") => format!("{unfit} path: {path}: missing value"),
        (None, _) => format!("{unfit} path: {:?}: missing value", path.as_str()),
        (Some(_), "replace") => format!("{unfit} key: {path}: missing value"),
        (Some(holder), _) => failure(holder, name, path),
    })
}

/// Why an element cannot be put or taken where its list or object is there.
fn failure(holder: &Value, name: &str, path: &PointerBuf) -> String {
    let key = path.last().map(|token| token.decoded().into_owned()).unwrap_or_default();
    let why = match (holder, key.parse::<i64>()) {
        (Value::Array(_), Ok(index)) => format!("Unable to access invalid index: {index}: invalid index referenced"),
        (Value::Array(_), Err(_)) => format!("strconv.Atoi: parsing {key:?}: invalid syntax"),
        _ => format!("Unable to {name} nonexistent key: {key}: missing value"),
    };
    format!("error in {name} for path: '{path}': {why}")
}

/// The operations, each known to be an object whose `op`, `path` and `from` are text where they are given.
fn decode(patch: &[u8]) -> Result<Vec<Value>, PatchError> {
    let malformed = |why: String| PatchError::Malformed(format!("error decoding patch: {why}"));
    let operations = match parse(patch).map_err(malformed)? {
        Value::Array(operations) => operations,
        Value::Null => Vec::new(),
        other => {
            let found = json_type(&other);
            return Err(malformed(format!(
                "json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
            )));
        }
    };
    for operation in &operations {
        let Value::Object(fields) = operation else {
            let found = json_type(operation);
            return Err(malformed(format!(
                "json: cannot unmarshal {found} into Go value of type handlers.jsonPatchOp"
            )));
        };
        for field in ["op", "path", "from"] {
            let Some(value) = fields.get(field).filter(|value| !value.is_string() && !value.is_null()) else {
                continue;
            };
            let found = json_type(value);
            return Err(malformed(format!(
                "json: cannot unmarshal {found} into Go struct field jsonPatchOp.{field} of type string"
            )));
        }
    }
    Ok(operations)
}

fn parse_operation(operation: &Value) -> Result<PatchOperation, String> {
    let mut operation = operation.clone();
    if let Value::Object(fields) = &mut operation {
        // The reference takes an absent value for null.
        if matches!(fields.get("op").and_then(Value::as_str), Some("add" | "replace" | "test")) {
            fields.entry("value").or_insert(Value::Null);
        }
    }
    serde_json::from_value(operation).map_err(|error| error.to_string())
}

/// The operation with its indices counted from the start: the reference takes `-1` for the last element of a list, and
/// in `add` for the place after it.
fn in_place(doc: &Value, mut operation: PatchOperation) -> PatchOperation {
    match &mut operation {
        PatchOperation::Add(op) => count_from_start(doc, &mut op.path, 1),
        PatchOperation::Remove(op) => count_from_start(doc, &mut op.path, 0),
        PatchOperation::Replace(op) => count_from_start(doc, &mut op.path, 0),
        PatchOperation::Test(op) => count_from_start(doc, &mut op.path, 0),
        PatchOperation::Copy(op) => {
            count_from_start(doc, &mut op.from, 0);
            count_from_start(doc, &mut op.path, 1);
        }
        PatchOperation::Move(op) => {
            count_from_start(doc, &mut op.from, 0);
            // What moves within a list has left it when its new place is counted.
            let within = op.from.parent() == op.path.parent();
            count_from_start(doc, &mut op.path, usize::from(!within));
        }
    }
    operation
}

/// Replaces negative indices of a path; the last step may be `beyond` the end of its list.
fn count_from_start(doc: &Value, path: &mut PointerBuf, beyond: usize) {
    if !path.as_str().contains("/-") {
        return;
    }
    let (mut at, mut counted) = (Some(doc), PointerBuf::new());
    let last = path.count() - 1;
    for (step, token) in path.tokens().enumerate() {
        match at {
            Some(Value::Array(list)) => {
                let length = list.len() + if step == last { beyond } else { 0 };
                let back = token.encoded().strip_prefix('-').and_then(|digits| digits.parse::<usize>().ok());
                let index = back.filter(|back| *back > 0).and_then(|back| length.checked_sub(back));
                at = index.or_else(|| token.encoded().parse().ok()).and_then(|index: usize| list.get(index));
                match index {
                    Some(index) => counted.push_back(index),
                    None => counted.push_back(token),
                }
            }
            other => {
                at = other.and_then(|value| value.get(token.decoded().as_ref()));
                counted.push_back(token);
            }
        }
    }
    *path = counted;
}

/// Replacing a member that is not there adds it, as in the reference.
fn replace_as_add(doc: &Value, operation: PatchOperation) -> PatchOperation {
    let PatchOperation::Replace(replace) = operation else { return operation };
    let parent = replace.path.parent().and_then(|parent| doc.pointer(parent.as_str()));
    if parent.is_some_and(Value::is_object) && doc.pointer(replace.path.as_str()).is_none() {
        return PatchOperation::Add(AddOperation { path: replace.path, value: replace.value });
    }
    PatchOperation::Replace(replace)
}

/// Refuses operations that would make the document nest too deep or grow by copying.
fn check_growth(doc: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), String> {
    let (steps, from) = match operation {
        PatchOperation::Copy(op) => (op.path.count(), &op.from),
        PatchOperation::Move(op) => (op.path.count(), &op.from),
        PatchOperation::Add(op) => return check_depth(&op.value, op.path.count()),
        PatchOperation::Replace(op) => return check_depth(&op.value, op.path.count()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    let Some(source) = doc.pointer(from.as_str()) else { return Ok(()) };
    // Values only get deeper when they move down.
    if steps > from.count() {
        check_depth(source, steps)?;
    }
    if matches!(operation, PatchOperation::Copy(_)) {
        *copied += source.to_string().len();
        if *copied > MAX_COPIED {
            return Err(format!("copies more than {MAX_COPIED} bytes"));
        }
    }
    Ok(())
}

fn check_depth(value: &Value, above: usize) -> Result<(), String> {
    if above > MAX_DEPTH || deeper_than(value, MAX_DEPTH - above) {
        return Err(format!("nests deeper than {MAX_DEPTH} levels"));
    }
    Ok(())
}

/// Whether a test passes that is about a member which is not there: one for null does, as in the reference.
fn finds_absent(doc: &Value, operation: &PatchOperation) -> Option<bool> {
    let PatchOperation::Test(test) = operation else { return None };
    let parent = doc.pointer(test.path.parent()?.as_str())?;
    let absent = parent.is_object() && doc.pointer(test.path.as_str()).is_none();
    absent.then_some(test.value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::any::any_json;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(doc: &Value, patch: &Value) -> Result<Value, PatchError> {
        json_patch(doc.clone(), patch.to_string().as_bytes())
    }

    #[test]
    fn operations_apply_in_order() {
        let patch = json!([
            {"op": "test", "path": "/a", "value": 1},
            {"op": "add", "path": "/l/-", "value": 3},
            {"op": "move", "from": "/a", "path": "/b"},
            {"op": "test", "path": "/a", "value": null},
            {"op": "replace", "path": "/l/0", "value": 9},
            {"op": "replace", "path": "/c", "value": 7},
        ]);
        assert_eq!(patched(&json!({"a": 1, "l": [1, 2]}), &patch), Ok(json!({"b": 1, "c": 7, "l": [9, 2, 3]})));
    }

    #[test]
    fn negative_indices_count_from_the_end() {
        let doc = json!({"l": [1, {"a": 2}, 3]});
        let cases = [
            (json!([{"op": "remove", "path": "/l/-1"}]), json!([1, {"a": 2}])),
            (json!([{"op": "add", "path": "/l/-1", "value": 4}]), json!([1, {"a": 2}, 3, 4])),
            (json!([{"op": "add", "path": "/l/-4", "value": 0}]), json!([0, 1, {"a": 2}, 3])),
            (json!([{"op": "replace", "path": "/l/-2/a", "value": 9}]), json!([1, {"a": 9}, 3])),
            (json!([{"op": "test", "path": "/l/-3", "value": 1}]), json!([1, {"a": 2}, 3])),
            (json!([{"op": "move", "from": "/l/0", "path": "/l/-1"}]), json!([{"a": 2}, 3, 1])),
            (json!([{"op": "copy", "from": "/l/-1", "path": "/l/-1"}]), json!([1, {"a": 2}, 3, 3])),
        ];
        for (patch, want) in cases {
            assert_eq!(patched(&doc, &patch).map(|doc| doc["l"].clone()), Ok(want), "{patch}");
        }
        for path in ["/l/-4", "/l/-0", "/l/--1"] {
            let patch = json!([{"op": "remove", "path": path}]);
            assert!(matches!(patched(&doc, &patch), Err(PatchError::Rejected { .. })), "{path}");
        }
    }

    #[test]
    fn failing_operations_are_rejected_with_their_number() {
        let doc = json!({"a": 1});
        let patches = [
            json!([{"op": "test", "path": "/none/b", "value": 2}]),
            json!([{"op": "remove", "path": "/none"}]),
            json!([{"op": "explode", "path": "/a"}]),
            json!([{"op": "add", "value": 1}]),
            json!([{"op": "remove", "path": ""}]),
        ];
        for patch in patches {
            let refused = patched(&doc, &patch);
            assert!(matches!(refused, Err(PatchError::Rejected { operation: 0, .. })), "{patch}: {refused:?}");
        }
    }

    #[test]
    fn what_does_not_apply_is_said_in_the_words_of_the_reference() {
        let doc = json!({"a": 1, "l": [1]});
        let cases = [
            (
                json!({"op": "add", "path": "/m/k", "value": 1}),
                "add operation does not apply: doc is missing path: \"/m/k\": missing value",
            ),
            (
                json!({"op": "remove", "path": "/m/k"}),
                "remove operation does not apply: doc is missing path: \"/m/k\": missing value",
            ),
            (
                json!({"op": "remove", "path": "/k"}),
                "error in remove for path: '/k': Unable to remove nonexistent key: k: missing value",
            ),
            (
                json!({"op": "replace", "path": "/m/k", "value": 1}),
                "replace operation does not apply: doc is missing path: /m/k: missing value",
            ),
            (
                json!({"op": "add", "path": "/l/7", "value": 1}),
                "error in add for path: '/l/7': Unable to access invalid index: 7: invalid index referenced",
            ),
            (
                json!({"op": "copy", "from": "/m/k", "path": "/b"}),
                "copy operation does not apply: doc is missing from path: /m/k: missing value",
            ),
        ];
        for (operation, want) in cases {
            let refused = patched(&doc, &json!([operation])).unwrap_err();
            assert_eq!(refused, PatchError::Rejected { operation: 0, why: want.to_owned() }, "{operation}");
        }
    }

    #[test]
    fn tests_that_fail_are_told_from_other_failures() {
        for test in [json!({"op": "test", "path": "/a", "value": 2}), json!({"op": "test", "path": "/b", "value": 2})] {
            let refused = patched(&json!({"a": 1}), &json!([{"op": "add", "path": "/c", "value": 1}, test]));
            assert_eq!(refused, Err(PatchError::TestFailed { operation: 1 }), "{test}");
        }
    }

    #[test]
    fn a_patch_that_is_no_list_is_malformed() {
        let want = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
        assert_eq!(patched(&json!({}), &json!({"op": "add"})), Err(PatchError::Malformed(want.to_owned())));
    }

    #[test]
    fn more_operations_than_allowed_are_refused() {
        let patch = Value::from(vec![json!({"op": "add", "path": "/a", "value": 1}); MAX_OPERATIONS + 1]);
        assert_eq!(patched(&json!({}), &patch), Err(PatchError::TooManyOperations(MAX_OPERATIONS + 1)));
    }

    #[test]
    fn copying_cannot_grow_the_document_without_bound() {
        let mut patch = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(100)]})];
        patch.extend(vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 200]);
        assert!(matches!(patched(&json!({}), &patch.into()), Err(PatchError::Rejected { .. })));
    }

    #[test]
    fn copying_cannot_nest_the_document_without_bound() {
        let mut patch = vec![json!({"op": "add", "path": "/a", "value": {}})];
        patch.extend((1..300).map(|depth| json!({"op": "copy", "from": "/a", "path": "/a".repeat(depth)})));
        assert!(patched(&json!({}), &patch.into()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(doc in any_json(), patch in any_json()) {
            let _ = patched(&doc, &patch);
        }

        #[test]
        fn operations_never_panic(doc in any_json(), op in "add|remove|replace|move|copy|test", path in "(/[a-d0-2-]){0,3}",
                                  from in "(/[a-d0-2-]){0,3}", value in any_json()) {
            let _ = patched(&doc, &json!([{"op": op, "path": path, "from": from, "value": value}]));
        }
    }
}
