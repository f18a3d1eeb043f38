//! Filling in defaults: what counts as absent, and objects made on the way (upstream: `SetDefaults_*`).

use serde_json::{Map, Value};

use super::tree::Fields;
use crate::object::Object;

/// The object at `key`, made when absent.
pub(crate) fn object<'m>(fields: &'m mut Fields, key: &str) -> &'m mut Fields {
    if !fields.get(key).is_some_and(Value::is_object) {
        fields.insert(key.to_owned(), Value::Object(Map::new()));
    }
    match fields.get_mut(key) {
        Some(Value::Object(inner)) => inner,
        _ => unreachable!("an object was inserted just above"),
    }
}

/// The object at `key`, if there is one.
pub(crate) fn object_at<'m>(fields: &'m mut Fields, key: &str) -> Option<&'m mut Fields> {
    fields.get_mut(key)?.as_object_mut()
}

/// Calls `visit` for every object in the list at `key`.
pub(crate) fn each(fields: &mut Fields, key: &str, mut visit: impl FnMut(&mut Fields)) {
    let list = fields.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut).for_each(&mut visit);
}

/// The text at `key`, `""` when absent.
pub(crate) fn text<'m>(fields: &'m Fields, key: &str) -> &'m str {
    fields.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Whether `key` is absent or null: how Go sees an unset pointer.
pub(crate) fn is_unset(fields: &Fields, key: &str) -> bool {
    fields.get(key).is_none_or(Value::is_null)
}

/// Whether `key` is absent or has Go's zero value.
pub(crate) fn is_zero(fields: &Fields, key: &str) -> bool {
    match fields.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(Value::Bool(flag)) => !flag,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(inner)) => inner.is_empty(),
    }
}

/// Sets a pointer field that is not given.
pub(crate) fn default_pointer(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    if is_unset(fields, key) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Sets a value field that is not given or zero.
pub(crate) fn default_zero(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    if is_zero(fields, key) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Defaults of kinds whose spec is shown even when empty.
pub(crate) fn with_spec(object: &mut Object) {
    self::object(object.root_mut(), "spec");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_zero_is_given_for_a_pointer_and_unset_for_a_value() {
        let mut value = json!({"n": 0});
        let fields = value.as_object_mut().expect("an object");
        default_pointer(fields, "n", 7);
        assert_eq!(fields["n"], 0);
        default_zero(fields, "n", 7);
        assert_eq!(fields["n"], 7);
    }
}
