//! VolumeAttachments (upstream: `pkg/registry/storage/volumeattachment`).

use serde_json::Value;

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::volumes::claim_spec::access_modes;
use crate::kinds::pods::volumes::drivers;
use crate::kinds::pods::volumes::persistent::volume_source;
use crate::kinds::rules::fill::{self, default_pointer};
use crate::kinds::rules::naming;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Fields, IMMUTABLE, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Flag, Name, Text};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    cells: &[
        Name,
        Text(&["spec", "attacher"]),
        Text(&["spec", "source", "persistentVolumeName"]),
        Text(&["spec", "nodeName"]),
        Flag(&["status", "attached"], false),
        Age,
    ],
    default,
    fill_status: Some(fill_status),
    validate,
    validate_new,
    validate_change,
    validate_status,
    status_metadata: &[],
    rechecks: (1, 0),
    unconditional_update: false,
    delete_returns_object: true,
    ..Kind::cluster("volumeattachments", "VolumeAttachment")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    if let Some(inline) = fill::object(spec, "source").get_mut("inlineVolumeSpec").and_then(Value::as_object_mut) {
        drivers::volume_drivers(inline);
    }
}

/// The parts of an attachment's status that are always shown.
fn fill_status(status: &mut Fields) {
    default_pointer(status, "attached", false);
}

fn validate(attachment: &Node<'_, '_>, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let spec = attachment.field("spec");
    errors.require_text(&spec.field("attacher"));
    let (source, node) = (spec.field("source"), spec.field("nodeName"));
    let (inline, name) = (source.field("inlineVolumeSpec"), source.field("persistentVolumeName"));
    match (inline.is_set(), name.is_set()) {
        (false, false) => errors.required(&source, ONE),
        (true, true) => errors.forbidden(&source, ONE),
        (false, true) if name.text().is_empty() => {
            errors.required(&name, "must specify non empty persistentVolumeName");
        }
        (false, true) => {}
        (true, false) => inline_volume(&inline, errors),
    }
    for why in naming::subdomain(node.text()) {
        errors.invalid_value(&node, node.text(), &why);
    }
    attachment_status(&attachment.field("status"), errors);
}

/// A new `VolumeAttachment` also names its driver and volume properly.
fn validate_new(attachment: &Node<'_, '_>, errors: &mut Errors) {
    let spec = attachment.field("spec");
    let attacher = spec.field("attacher");
    if !attacher.text().is_empty() {
        naming::csi_driver_name(&attacher, errors);
    }
    let source = spec.field("source");
    let volume = source.field("persistentVolumeName");
    if volume.is_set() {
        errors.invalid_all(&volume, naming::subdomain(volume.text()));
    }
}

/// A volume that no PersistentVolume stands for is one of a driver.
fn inline_volume(spec: &Node<'_, '_>, errors: &mut Errors) {
    const NOT_HERE: &str = "may not be specified in the context of inline volumes";
    for key in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
        let field = spec.field(key);
        if field.is_set() && !(key == "storageClassName" && field.text().is_empty()) {
            errors.forbidden(&field, NOT_HERE);
        }
    }
    if spec.field("csi").is_unset() {
        errors.required(&spec.field("csi"), "has to be specified in the context of inline volumes");
    }
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        errors.required(&modes, "");
    }
    access_modes(&modes, errors);
    let (reclaim, mode) = (spec.field("persistentVolumeReclaimPolicy"), spec.field("volumeMode"));
    if !matches!(reclaim.text(), "" | "Retain") {
        errors.forbidden(&reclaim, "may only be Retain in the context of inline volumes");
    }
    if !matches!(mode.text(), "" | "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&mode, why);
    }
    volume_source(spec, "", errors);
}

/// What drivers tell of an attachment is not long.
fn attachment_status(status: &Node<'_, '_>, errors: &mut Errors) {
    const METADATA: usize = 256 * 1024;
    const MESSAGE: usize = 1024;
    let metadata = status.field("attachmentMetadata");
    let size: usize = metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum();
    if size > METADATA {
        errors.too_long(&metadata, METADATA);
    }
    for key in ["attachError", "detachError"] {
        let error = status.field(key);
        let (message, code) = (error.field("message"), error.field("errorCode"));
        // Upstream tells the limit of the metadata.
        if message.text().len() > MESSAGE {
            errors.too_long(&message, METADATA);
        }
        if code.number() < 0 {
            errors.invalid(&code, "must be between 0 and 2147483647, inclusive");
        }
    }
}

/// The spec of an attachment never changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if !new.is_same(&old) {
        let source = new.field("source");
        let named = Shown::fields([
            ("PersistentVolumeName", source.field("persistentVolumeName").shown()),
            ("InlineVolumeSpec", source.field("inlineVolumeSpec").shown()),
        ]);
        let text = |key: &str| Shown::Leaf(new.field(key).text().into());
        let shown =
            Shown::nested(vec![("Attacher", text("attacher")), ("Source", named), ("NodeName", text("nodeName"))]);
        errors.invalid_shown(&new, &shown, IMMUTABLE);
    }
}

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    validate(new, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;
    use serde_json::json;

    #[test]
    fn an_attachment_is_of_one_volume() {
        let spec =
            json!({"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p", "inlineVolumeSpec": {}}});
        let want = ["spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName"];
        check_rule(validate, json!({"spec": spec}), &want);
    }
}
