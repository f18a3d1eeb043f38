//! PersistentVolumeClaims and PersistentVolumes: defaults and preparation.

use serde_json::{Value, json};

use super::tree::{Fields, default_pointer, default_zero, object, object_at, text};
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
    let spec = super::tree::object(object.root_mut(), "spec");
    default_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_pointer(spec, "volumeMode", "Filesystem");
    if let Some(path) = object_at(spec, "hostPath") {
        default_pointer(path, "type", "");
    }
    super::pod_defaults::volume_drivers(spec);
    default_zero(super::tree::object(object.root_mut(), "status"), "phase", "Pending");
}

/// A new claim is unbound; its two data source fields say the same.
pub(crate) fn prepare_claim(_ctx: &WriteContext<'_>, new: &mut Object) {
    new.set(&["status"], json!({"phase": "Pending"}));
    mirror_data_source(new);
}

/// As [`prepare_claim`], on update.
pub(crate) fn prepare_claim_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if old.get(&["spec", "dataSource"]).is_none() && old.get(&["spec", "dataSourceRef"]).is_none() {
        return;
    }
    mirror_data_source(new);
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
    let now = super::rules::time(ctx.now);
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
        new.set(&time, super::rules::time(ctx.now));
    }
}
