//! PersistentVolumeClaims and PersistentVolumes: defaults and preparation.

use serde_json::{Value, json};

use super::pods::defaults;
use super::rules::{naming, tree};
use crate::kinds::rules::tree::{Fields, default_pointer, default_zero, object, object_at, text};
use crate::object::Object;
use crate::strategy::WriteContext;

/// Defaults of a `PersistentVolumeClaim`.
pub(crate) fn claim(object: &mut Object) {
    default_claim(object.root_mut());
}

/// As [`claim`], for a claim inside another object.
pub(crate) fn default_claim(claim: &mut Fields) {
    object(claim, "metadata");
    default_spec(object(claim, "spec"));
    default_zero(object(claim, "status"), "phase", "Pending");
}

/// Defaults of a claim's spec.
pub(crate) fn default_spec(spec: &mut Fields) {
    object(spec, "resources");
    default_pointer(spec, "volumeMode", "Filesystem");
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = object_at(spec, key) {
            default_pointer(source, "apiGroup", Value::Null);
        }
    }
}

/// Defaults of a `PersistentVolume`.
pub(crate) fn volume(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_pointer(spec, "volumeMode", "Filesystem");
    if let Some(path) = object_at(spec, "hostPath") {
        default_pointer(path, "type", "");
    }
    defaults::volume_drivers(spec);
    default_zero(tree::object(object.root_mut(), "status"), "phase", "Pending");
}

/// A new claim is unbound; its two data source fields say the same.
pub(crate) fn prepare_claim(_ctx: &WriteContext<'_>, new: &mut Object) {
    new.set(&["status"], json!({"phase": "Pending"}));
    drop_data_sources(new, None);
    mirror_data_source(new);
}

/// As [`prepare_claim`], on update.
pub(crate) fn prepare_claim_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    drop_data_sources(new, Some(old));
    if old.get(&["spec", "dataSource"]).is_none() && old.get(&["spec", "dataSourceRef"]).is_none() {
        return;
    }
    mirror_data_source(new);
}

/// Unless the claim had it before, a reference into another namespace is behind a gate that is off, and the older field
/// names nothing but claims and snapshots.
fn drop_data_sources(new: &mut Object, old: Option<&Object>) {
    let had = |key: &str| old.and_then(|old| old.get(&["spec", key])).is_some_and(Value::is_object);
    let spec = object(new.root_mut(), "spec");
    let elsewhere = spec.get("dataSourceRef").and_then(|reference| reference.get("namespace")).and_then(Value::as_str);
    if elsewhere.is_some_and(|namespace| !namespace.is_empty()) && !had("dataSourceRef") {
        spec.remove("dataSourceRef");
    }
    if had("dataSource") || spec.get("dataSourceRef").is_some_and(Value::is_object) {
        return;
    }
    let known = spec.get("dataSource").and_then(Value::as_object).is_some_and(|source| {
        [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")]
            .contains(&(text(source, "apiGroup"), text(source, "kind")))
    });
    if !known {
        spec.remove("dataSource");
    }
}

fn mirror_data_source(new: &mut Object) {
    let spec = object(new.root_mut(), "spec");
    let source = spec.get("dataSource").filter(|v| v.is_object()).cloned();
    let reference = spec.get("dataSourceRef").filter(|v| v.is_object()).cloned();
    match (source, reference) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(Value::Object(reference))) if text(&reference, "namespace").is_empty() => {
            let shown = ["apiGroup", "kind", "name"]
                .into_iter()
                .filter_map(|key| Some((key.to_owned(), reference.get(key)?.clone())));
            spec.insert("dataSource".to_owned(), Value::Object(shown.collect()));
        }
        _ => {}
    }
}

/// A new volume is not yet available.
pub(crate) fn prepare_volume(ctx: &WriteContext<'_>, new: &mut Object) {
    let now = naming::time(ctx.now);
    new.set(&["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
}

/// A volume's phase change is dated by the server unless the controller dates it.
pub(crate) fn prepare_volume_status(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let (phase, time) = (["status", "phase"], ["status", "lastPhaseTransitionTime"]);
    let dated = new.get(&time).filter(|t| !t.is_null()).is_some();
    if new.text(&phase) == old.text(&phase) {
        if !dated && let Some(old_time) = old.get(&time).cloned() {
            new.set(&time, old_time);
        }
    } else if !dated || new.get(&time) == old.get(&time) {
        new.set(&time, naming::time(ctx.now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_sources_are_dropped_unless_they_were_there() {
        let claim = json!({"apiGroup": null, "kind": "PersistentVolumeClaim", "name": "c"});
        let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
        let other = json!({"apiGroup": "example.com", "kind": "Backup", "name": "b"});
        let elsewhere = json!({"apiGroup": "example.com", "kind": "Backup", "name": "b", "namespace": "ns"});
        let cases = [
            (json!({"dataSource": claim}), None, json!({"dataSource": claim})),
            (json!({"dataSource": snapshot}), None, json!({"dataSource": snapshot})),
            (json!({"dataSource": other}), None, json!({})),
            (json!({"dataSource": other}), Some(json!({"dataSource": other})), json!({"dataSource": other})),
            (json!({"dataSource": other}), Some(json!({})), json!({})),
            (
                json!({"dataSource": other, "dataSourceRef": other}),
                None,
                json!({"dataSource": other, "dataSourceRef": other}),
            ),
            (json!({"dataSourceRef": elsewhere}), None, json!({})),
            (
                json!({"dataSourceRef": elsewhere}),
                Some(json!({"dataSourceRef": elsewhere})),
                json!({"dataSourceRef": elsewhere}),
            ),
        ];
        let object = |spec: &Value| Object::from_value(json!({"spec": spec})).expect("an object");
        for (spec, old, want) in cases {
            let mut new = object(&spec);
            drop_data_sources(&mut new, old.as_ref().map(object).as_ref());
            assert_eq!(new.root()["spec"], want, "{spec} over {old:?}");
        }
    }
}
