//! Nothing is on its way out, nothing belongs to what is gone, and nothing lies where there is no place.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::{self, Objects};

pub(super) fn complaints(objects: &Objects) -> Vec<String> {
    let uids: BTreeSet<&str> = objects.values().map(objects::uid).collect();
    objects.iter().flat_map(|(key, object)| complaint(key, object, objects, &uids)).collect()
}

fn complaint(key: &str, object: &Value, all: &Objects, uids: &BTreeSet<&str>) -> Option<String> {
    if objects::is_going(object) {
        return Some(format!("{key} is still going: {}", object["metadata"]["finalizers"]));
    }
    let namespace = objects::namespace(object);
    if !namespace.is_empty() && !all.contains_key(&format!("namespaces/{namespace}")) {
        return Some(format!("{key} is in no namespace"));
    }
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let lost = owners.into_iter().flatten().find(|owner| !uids.contains(objects::text(owner, "/uid")))?;
    Some(format!("{key} belongs to {} {}, which is gone", lost["kind"], lost["name"]))
}
