//! Gives stored roles and bindings back what the defaults have and they lack. Nothing is ever taken away.

use api::Object;
use serde_json::{Map, Value};

use crate::authz::{Rule, covers};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Whether [`complete`] would change the stored object.
pub(super) fn lacks_something(stored: &Object, wanted: &Object) -> bool {
    let mut completed = stored.clone();
    complete(&mut completed, wanted);
    completed != *stored
}

/// Adds the wanted labels, annotations, rules and subjects that are missing.
pub(super) fn complete(stored: &mut Object, wanted: &Object) {
    let is_policy = wanted.annotation(AUTOUPDATE).is_some();
    if !is_policy || stored.annotation(AUTOUPDATE) == Some("false") {
        return;
    }
    for map in ["labels", "annotations"] {
        let mut missing = wanted.get(&["metadata", map]).and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
        missing.retain(|key, _| stored.get(&["metadata", map, key]).is_none());
        missing.into_iter().for_each(|(key, value)| stored.set(&["metadata", map, &key], value));
    }
    let owned = Rule::read_all(stored.get(&["rules"]));
    add(stored, wanted, "rules", |rule| !covers(&owned, &Rule::read(rule)));
    let subjects = stored.get(&["subjects"]).and_then(Value::as_array).cloned().unwrap_or_default();
    add(stored, wanted, "subjects", |subject| !subjects.contains(subject));
}

fn add(stored: &mut Object, wanted: &Object, list: &str, is_missing: impl Fn(&Value) -> bool) {
    let items = wanted.get(&[list]).and_then(Value::as_array).into_iter().flatten();
    let missing: Vec<Value> = items.filter(|item| is_missing(item)).cloned().collect();
    if missing.is_empty() {
        return;
    }
    let mut all = stored.get(&[list]).and_then(Value::as_array).cloned().unwrap_or_default();
    all.extend(missing);
    stored.set(&[list], all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(autoupdate: &str, rules: &Value) -> Object {
        let annotations = json!({AUTOUPDATE: autoupdate});
        Object::from_value(json!({"metadata": {"name": "a", "annotations": annotations}, "rules": rules})).unwrap()
    }

    #[test]
    fn missing_rules_come_back_and_others_stay() {
        let get = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let list = json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]});
        let mut stored = role("true", &json!([list]));
        let wanted = role("true", &json!([get]));
        assert!(lacks_something(&stored, &wanted));
        complete(&mut stored, &wanted);
        assert_eq!(stored.get(&["rules"]), Some(&json!([list, get])));
        assert!(!lacks_something(&stored, &wanted));
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let wanted = role("true", &json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        assert!(!lacks_something(&role("false", &json!([])), &wanted));
    }
}
