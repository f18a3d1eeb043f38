//! Parameters of operations: the table of them, and which stand at a path rather than at each of its operations.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("../../data/parameters.txt");

/// What lists and watches can be asked for (`ListOptions`).
pub(super) const LIST: [&str; 10] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
pub(super) const DELETE_COLLECTION: [&str; 13] = [
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
pub(super) const DELETE: [&str; 5] = [
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
pub(super) const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
pub(super) const PATCH: [&str; 4] = ["dryRun", "patch.fieldManager", "fieldValidation", "force"];

fn table() -> &'static HashMap<&'static str, &'static str> {
    static LINES: OnceLock<HashMap<&str, &str>> = OnceLock::new();
    LINES.get_or_init(|| TABLE.lines().filter_map(|line| line.split_once(' ')).collect())
}

/// The parameter at a key of the table.
pub(super) fn named(key: &str) -> Option<Value> {
    serde_json::from_str(table().get(key)?).ok()
}

/// All parameters whose keys begin like this.
pub(super) fn with_prefix(prefix: &str) -> Vec<Value> {
    let mut keys: Vec<&str> = table().keys().filter(|key| key.starts_with(prefix)).copied().collect();
    keys.sort_unstable();
    keys.into_iter().filter_map(named).collect()
}

/// The name of an object, in the path.
pub(super) fn name_of(kind: &str) -> Value {
    json!({
        "name": "name", "in": "path", "description": format!("name of the {kind}"), "required": true,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

/// Moves what all operations of a path have to the path itself, where `shared` already stands. Both are sorted by name and kind.
pub(super) fn hoist(item: &mut Map<String, Value>, mut shared: Vec<Value>) {
    let lists: Vec<&Vec<Value>> = item.values().map(list).collect();
    let common: Vec<Value> = match lists.split_first() {
        Some((first, rest)) => first.iter().filter(|one| rest.iter().all(|list| list.contains(one))).cloned().collect(),
        None => Vec::new(),
    };
    for operation in item.values_mut().filter_map(Value::as_object_mut) {
        let Some(Value::Array(mut own)) = operation.remove("parameters") else { continue };
        own.retain(|one| !common.contains(one));
        sort(&mut own);
        if !own.is_empty() {
            operation.insert("parameters".into(), own.into());
        }
    }
    shared.extend(common);
    sort(&mut shared);
    item.insert("parameters".into(), shared.into());
}

fn list(operation: &Value) -> &Vec<Value> {
    static NONE: Vec<Value> = Vec::new();
    operation.get("parameters").and_then(Value::as_array).unwrap_or(&NONE)
}

fn sort(parameters: &mut [Value]) {
    let key = |one: &Value| [&one["name"], &one["in"]].map(|part| part.as_str().unwrap_or("").to_owned());
    parameters.sort_by_cached_key(key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_operations_of_a_path_have_stands_at_the_path() {
        let named = |names: &[&str]| -> Value { names.iter().map(|name| json!({"name": name})).collect() };
        let mut item = Map::new();
        item.insert("get".into(), json!({"parameters": named(&["b", "a"])}));
        item.insert("put".into(), json!({"parameters": named(&["a", "d", "c"])}));
        hoist(&mut item, vec![json!({"name": "pretty"}), json!({"name": "namespace"})]);
        assert_eq!(item["parameters"], named(&["a", "namespace", "pretty"]));
        assert_eq!(item["get"]["parameters"], named(&["b"]));
        assert_eq!(item["put"]["parameters"], named(&["c", "d"]));
    }
}
