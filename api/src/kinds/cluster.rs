//! Cluster-wide kinds: storage, scheduling, flow control, certificates, runtime classes, devices: defaults.

use serde_json::{Value, json};

use super::pods::defaults;
use super::rules::{naming, tree};
use crate::kinds::rules::tree::{Fields, default_pointer, default_zero, each, is_unset, is_zero, object_at, text};
use crate::object::Object;
use crate::strategy::{WriteContext, content_changed};

/// Defaults of a `StorageClass`.
pub(crate) fn storage_class(object: &mut Object) {
    let root = object.root_mut();
    default_pointer(root, "reclaimPolicy", "Delete");
    default_pointer(root, "volumeBindingMode", "Immediate");
}

/// Defaults of a `CSIDriver`.
pub(crate) fn csi_driver(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_pointer(spec, "attachRequired", true);
    default_pointer(spec, "podInfoOnMount", false);
    default_pointer(spec, "storageCapacity", false);
    default_pointer(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default_pointer(spec, "requiresRepublish", false);
    default_pointer(spec, "seLinuxMount", false);
    if is_zero(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}

/// Only changes of a `CSIDriver` are counted, not its creation.
pub(crate) fn prepare_csi_driver_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if content_changed(new, old) {
        new.set_metadata("generation", old.generation() + 1);
    }
}

/// Defaults of a `VolumeAttachment`.
pub(crate) fn volume_attachment(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    if let Some(inline) = tree::object(spec, "source").get_mut("inlineVolumeSpec").and_then(Value::as_object_mut) {
        defaults::volume_drivers(inline);
    }
}

/// The parts of an attachment's status that are always shown.
pub(crate) fn volume_attachment_status(status: &mut Fields) {
    default_pointer(status, "attached", false);
}

/// Defaults of a `PriorityClass`.
pub(crate) fn priority_class(object: &mut Object) {
    let root = object.root_mut();
    default_pointer(root, "preemptionPolicy", "PreemptLowerPriority");
    default_pointer(root, "value", 0);
}

/// Defaults of a `FlowSchema`.
pub(crate) fn flow_schema(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_zero(spec, "matchingPrecedence", 1000);
    tree::object(spec, "priorityLevelConfiguration");
    tree::object(object.root_mut(), "status");
}

/// Defaults of a `PriorityLevelConfiguration`.
pub(crate) fn priority_level(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    if let Some(exempt) = object_at(spec, "exempt") {
        default_pointer(exempt, "nominalConcurrencyShares", 0);
        default_pointer(exempt, "lendablePercent", 0);
    }
    if let Some(limited) = object_at(spec, "limited") {
        default_pointer(limited, "nominalConcurrencyShares", 30);
        default_pointer(limited, "lendablePercent", 0);
        let response = tree::object(limited, "limitResponse");
        if let Some(queuing) = object_at(response, "queuing") {
            default_zero(queuing, "handSize", 8);
            default_zero(queuing, "queues", 64);
            default_zero(queuing, "queueLengthLimit", 50);
        }
    }
    tree::object(object.root_mut(), "status");
}

/// Defaults of a `CertificateSigningRequest`.
pub(crate) fn signing_request(object: &mut Object) {
    tree::object(object.root_mut(), "spec");
    tree::object(object.root_mut(), "status");
}

/// A request carries who made it; nobody can say otherwise.
pub(crate) fn prepare_signing_request(ctx: &WriteContext<'_>, new: &mut Object) {
    let spec = tree::object(new.root_mut(), "spec");
    for key in ["username", "uid", "groups", "extra"] {
        spec.remove(key);
    }
    let user = ctx.user;
    for (key, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            spec.insert(key.to_owned(), value.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        let extra: Fields = user.extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
        spec.insert("extra".to_owned(), Value::Object(extra));
    }
}

/// The spec of a signing request never changes.
pub(crate) fn prepare_signing_request_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if let Some(spec) = old.get(&["spec"]).cloned() {
        new.set(&["spec"], spec);
    }
}

/// Conditions are dated by the server where the client does not date them; an approval leaves the certificate alone.
pub(crate) fn prepare_signing_request_status(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let now = naming::time(ctx.now);
    if ctx.subresource == "approval" {
        match old.get(&["status", "certificate"]).cloned() {
            Some(certificate) => new.set(&["status", "certificate"], certificate),
            None => drop(new.remove(&["status", "certificate"])),
        }
    }
    let before = old.get(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let status = tree::object(new.root_mut(), "status");
    if ctx.subresource == "status" {
        for kind in ["Approved", "Denied"] {
            keep_conditions(status, &before, kind);
        }
    }
    each(status, "conditions", |condition| {
        default_pointer(condition, "lastUpdateTime", now.as_str());
        let same = before
            .iter()
            .find(|had| had.get("type") == condition.get("type") && had.get("status") == condition.get("status"));
        let since = same.and_then(|had| had.get("lastTransitionTime")).filter(|time| !time.is_null()).cloned();
        default_pointer(condition, "lastTransitionTime", since.unwrap_or_else(|| now.as_str().into()));
    });
}

/// Puts conditions of a type back as they were, where there are as many as before.
fn keep_conditions(status: &mut Fields, before: &[Value], kind: &str) {
    let is_kind = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some(kind);
    let had: Vec<&Value> = before.iter().filter(is_kind).collect();
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else { return };
    if conditions.iter().filter(is_kind).count() != had.len() {
        return;
    }
    let mut had = had.into_iter();
    for condition in conditions.iter_mut().filter(|condition| is_kind(&&**condition)) {
        if let Some(had) = had.next() {
            *condition = had.clone();
        }
    }
}

/// Strategy and wish of a holder do not count where elections are not coordinated by the server, as here; those that are
/// there stay.
pub(crate) fn prepare_lease_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    for field in ["strategy", "preferredHolder"] {
        if old.get(&["spec", field]).is_none_or(Value::is_null) {
            new.remove(&["spec", field]);
        }
    }
}

/// As [`prepare_lease_update`], of a new lease.
pub(crate) fn prepare_lease(ctx: &WriteContext<'_>, new: &mut Object) {
    prepare_lease_update(ctx, new, &Object::default());
}

/// Defaults of a `ResourceClaim`.
pub(crate) fn resource_claim(object: &mut Object) {
    default_devices(tree::object(object.root_mut(), "spec"));
    tree::object(object.root_mut(), "status");
}

/// Defaults of a `ResourceClaimTemplate`.
pub(crate) fn resource_claim_template(object: &mut Object) {
    let outer = tree::object(object.root_mut(), "spec");
    tree::object(outer, "metadata");
    default_devices(tree::object(outer, "spec"));
}

fn default_devices(spec: &mut Fields) {
    let devices = tree::object(spec, "devices");
    each(devices, "requests", |request| {
        if let Some(exactly) = object_at(request, "exactly") {
            default_device_request(exactly);
        }
        each(request, "firstAvailable", default_device_request);
    });
}

fn default_device_request(request: &mut Fields) {
    default_zero(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        default_zero(request, "count", 1);
    }
    each(request, "tolerations", |toleration| default_zero(toleration, "operator", "Equal"));
}

/// Defaults of a `ResourceSlice`.
pub(crate) fn resource_slice(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    let pool = tree::object(spec, "pool");
    default_pointer(pool, "name", "");
    default_pointer(pool, "generation", 0);
    default_pointer(pool, "resourceSliceCount", 0);
    default_pointer(spec, "driver", "");
}

/// Defaults of kinds whose spec is shown even when empty.
pub(crate) fn with_spec(object: &mut Object) {
    tree::object(object.root_mut(), "spec");
}

/// Defaults of a `RuntimeClass`, whose handler is always shown.
pub(crate) fn runtime_class(object: &mut Object) {
    if is_unset(object.root(), "handler") {
        object.root_mut().insert("handler".to_owned(), "".into());
    }
}
