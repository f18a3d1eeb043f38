//! The strategic merge patch that turns the status the API has into the one it should have (upstream: PatchPodStatus of
//! pkg/util/pod).
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

pub(crate) use super::conditions::OWNED;
pub(crate) use super::containers::SCHEME;

/// The patch body, or `None` when nothing changed. It carries the uid, so that it never reaches a namesake.
pub(crate) fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let old = fields(old);
    let new = fields(new);
    let mut changes = Map::new();
    for (key, value) in &new {
        if old.get(key) == Some(value) {
            continue;
        }
        match key.as_str() {
            "conditions" => {
                let changed = changed_conditions(old.get(key), value);
                if !changed.is_empty() {
                    changes.insert(key.clone(), Value::Array(changed));
                }
            }
            "podIPs" | "hostIPs" => {
                changes.insert(key.clone(), replace(value));
            }
            _ => {
                changes.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key) && !is_others(key)) {
        changes.insert(key.clone(), Value::Null);
    }
    if changes.is_empty() {
        return None;
    }
    Some(json!({ "metadata": { "uid": uid }, "status": changes }))
}

/// Status fields that other components write.
fn is_others(key: &str) -> bool {
    matches!(
        key,
        "nominatedNodeName"
            | "resourceClaimStatuses"
            | "extendedResourceClaimStatus"
            | "resize"
            | "nodeAllocatableResourceClaimStatuses"
    )
}

fn fields(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn changed_conditions(old: Option<&Value>, new: &Value) -> Vec<Value> {
    let old = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let new = new.as_array().map(Vec::as_slice).unwrap_or_default();
    let mine = new.iter().filter(|condition| condition["type"].as_str().is_some_and(|kind| OWNED.contains(&kind)));
    let kind = |condition: &Value| condition["type"].as_str().map(str::to_owned);
    let is_over = |old: &&Value| {
        kind(old).is_some_and(|kind| OWNED.contains(&kind.as_str()))
            && !new.iter().any(|new| new["type"] == old["type"])
    };
    let over = old.iter().filter(is_over).map(|old| json!({ "type": old["type"], "$patch": "delete" }));
    mine.filter(|condition| !old.contains(condition))
        .map(|condition| {
            let mut condition = condition.clone();
            for gone in ["reason", "message"] {
                if condition.get(gone).is_none() {
                    condition[gone] = Value::Null;
                }
            }
            condition
        })
        .chain(over)
        .collect()
}

fn replace(list: &Value) -> Value {
    let mut entries = vec![json!({ "$patch": "replace" })];
    entries.extend(list.as_array().into_iter().flatten().cloned());
    Value::Array(entries)
}
