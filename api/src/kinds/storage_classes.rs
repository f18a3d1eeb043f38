//! Rules for storage classes, CSI drivers and what these tell: nodes, capacities, attachments.

use std::collections::HashSet;

use serde_json::Value;

use super::dump::Shown;
use super::storage::{access_modes, volume_source};
use super::tree::{Errors, IMMUTABLE, Node};
use super::{meta, resources, rules};
use crate::quantity::Quantity;

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    if at.text().len() > 63 {
        errors.too_long(at, 63);
    }
    for why in rules::subdomain(&at.text().to_lowercase()) {
        errors.invalid(at, &why);
    }
}

/// A `StorageClass`.
pub(crate) fn class(class: &Node<'_, '_>, errors: &mut Errors) {
    let provisioner = class.field("provisioner");
    if errors.require_text(&provisioner) {
        errors.invalid_all(&provisioner, rules::qualified_name(&provisioner.text().to_lowercase()));
    }
    parameters(&class.field("parameters"), errors);
    errors.none_or_one_of(&class.field("reclaimPolicy"), &["Delete", "Retain"]);
    let binding = class.field("volumeBindingMode");
    if binding.is_unset() {
        errors.required(&binding, "");
    } else {
        errors.one_of(&binding, &["Immediate", "WaitForFirstConsumer"]);
    }
    topologies(&class.field("allowedTopologies"), errors);
}

/// Where volumes of a class may be: each place once, by keys named once, with values named once.
fn topologies(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for term in at.items() {
        let mut places = std::collections::BTreeMap::new();
        for requirement in term.field("matchLabelExpressions").items() {
            let (key, values) = (requirement.field("key"), requirement.field("values"));
            let mut set = std::collections::BTreeSet::new();
            if values.is_empty() {
                errors.required(&values, "");
            }
            for value in values.items() {
                if !set.insert(value.text()) {
                    errors.duplicate(&value);
                }
            }
            meta::label_name(&key, errors);
            if places.insert(key.text(), set).is_some() {
                errors.duplicate(&key);
            }
        }
        if !seen.insert(places) {
            errors.duplicate_value(&term.field("matchLabelExpressions"), "");
        }
    }
}

fn parameters(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.map().is_some_and(|map| map.len() > 512) {
        errors.too_long(at, 512);
        return;
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.invalid_value(at, key, "field can not be empty.");
        }
        size += key.len() + value.text().len();
    }
    if size > 256 * 1024 {
        errors.too_long(at, 256 * 1024);
    }
}

/// What may not change in a `StorageClass`.
pub(crate) fn class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        errors.immutable(&new.field(key), &old.field(key));
    }
}

/// A `CSIDriver`.
pub(crate) fn driver(driver: &Node<'_, '_>, errors: &mut Errors) {
    csi_driver_name(&driver.field("metadata").field("name"), errors);
    let spec = driver.field("spec");
    for key in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        let flag = spec.field(key);
        if flag.is_unset() {
            errors.required(&flag, "");
        }
    }
    let modes = spec.field("volumeLifecycleModes");
    for mode in modes.items() {
        if !matches!(mode.text(), "Persistent" | "Ephemeral") {
            errors.push(crate::FieldError::not_supported(&modes.path(), mode.text(), &["Persistent", "Ephemeral"]));
        }
    }
    errors.none_or_one_of(&spec.field("fsGroupPolicy"), &["ReadWriteOnceWithFSType", "File", "None"]);
    token_requests(&spec.field("tokenRequests"), errors);
    let seconds = spec.field("nodeAllocatableUpdatePeriodSeconds");
    if seconds.integer().is_some_and(|seconds| seconds < 10) {
        errors.invalid(&seconds, "must be greater than or equal to 10 seconds");
    }
}

/// The tokens that a driver gets, each for another audience.
fn token_requests(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for request in at.items() {
        let (audience, seconds) = (request.field("audience"), request.field("expirationSeconds"));
        if !seen.insert(audience.text()) {
            errors.push(crate::FieldError::duplicate(&audience.path(), audience.text()));
        }
        if seconds.is_set() && seconds.number() < 600 {
            errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds.number() > 1 << 32 {
            errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

/// What may not change in a `CSIDriver`.
pub(crate) fn driver_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    // Upstream's path has another name than the field.
    let attach = new.field("attachedRequired");
    if new.field("attachRequired").value() != old.field("attachRequired").value() {
        errors.invalid_value(&attach, new.field("attachRequired").shown(), IMMUTABLE);
    }
    errors.immutable(&new.field("volumeLifecycleModes"), &old.field("volumeLifecycleModes"));
}

/// A `CSINode`.
pub(crate) fn csi_node(node: &Node<'_, '_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    let spec = node.field("spec");
    for driver in spec.field("drivers").items() {
        let (name, id) = (driver.field("name"), driver.field("nodeID"));
        csi_driver_name(&name, errors);
        if errors.require_text(&id) && id.text().len() > 192 {
            errors.invalid(&id, "must be 192 characters or less");
        }
        if !name.text().is_empty() && !names.insert(name.text()) {
            errors.duplicate(&name);
        }
        let allocatable = driver.field("allocatable");
        errors.non_negative(&allocatable.field("count"));
        for key in driver.field("topologyKeys").items() {
            if key.text().is_empty() {
                errors.required(&key, "");
            } else {
                errors.invalid_all(&key, rules::qualified_name(key.text()));
            }
        }
    }
}

/// What a `CSINode` says of a driver stays. Upstream's rules for a change hold those for a node once more.
pub(crate) fn csi_node_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    const DRIVER: [&str; 4] = ["name", "nodeID", "topologyKeys", "allocatable"];
    csi_node(new, errors);
    let (spec, before) = (new.field("spec"), old.field("spec"));
    for had in before.field("drivers").items() {
        for now in spec.field("drivers").items() {
            if now.field("name").text() == had.field("name").text() && !now.is_same(&had) {
                let path = crate::Path::new("CSINodeDriver");
                let [name, id, keys, allocatable] = DRIVER.map(|key| now.field(key).shown());
                let count = Shown::fields([("Count", now.field("allocatable").field("count").shown())]);
                let allocatable = if allocatable.is_null() { Shown::Leaf(Value::Null) } else { count };
                let shown = Shown::nested(vec![
                    ("Name", Shown::Leaf(name)),
                    ("NodeID", Shown::Leaf(id)),
                    ("TopologyKeys", Shown::Leaf(keys)),
                    ("Allocatable", allocatable),
                ]);
                errors.invalid_shown(&Node::at(&path, None), &shown, IMMUTABLE);
            }
        }
    }
}

/// A `VolumeAttachment`.
pub(crate) fn attachment(attachment: &Node<'_, '_>, errors: &mut Errors) {
    let spec = attachment.field("spec");
    let attacher = spec.field("attacher");
    if errors.require_text(&attacher) {
        csi_driver_name(&attacher, errors);
    }
    let (source, node) = (spec.field("source"), spec.field("nodeName"));
    let (inline, name) = (source.field("inlineVolumeSpec"), source.field("persistentVolumeName"));
    match (inline.is_set(), name.is_set()) {
        (false, false) => {
            errors.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        }
        (true, true) => {
            errors.invalid(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        }
        (false, true) if name.text().is_empty() => {
            errors.required(&name, "must specify non empty persistentVolumeName")
        }
        _ => {}
    }
    for why in rules::subdomain(node.text()) {
        errors.invalid_value(&node, node.text(), &why);
    }
    if inline.is_set() {
        inline_volume(&inline, errors);
    }
    attachment_status(&attachment.field("status"), errors);
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
    for (key, _) in metadata.entries().filter(|(key, _)| key.is_empty()) {
        errors.invalid_value(&metadata, key, "field can not be empty.");
    }
    if size > METADATA {
        errors.too_long(&metadata, METADATA);
    }
    for key in ["attachError", "detachError"] {
        let message = status.field(key).field("message").text().len();
        if message > MESSAGE {
            errors.too_long(&status.field(key).field("message"), MESSAGE);
        }
    }
}

/// The spec of an attachment never changes.
pub(crate) fn attachment_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
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

/// A `CSIStorageCapacity`.
pub(crate) fn storage_capacity(capacity: &Node<'_, '_>, errors: &mut Errors) {
    let class = capacity.field("storageClassName");
    for why in rules::subdomain(class.text()) {
        errors.invalid_value(&class, class.text(), &why);
    }
    meta::selector(&capacity.field("nodeTopology"), errors);
    for key in ["capacity", "maximumVolumeSize"] {
        let quantity = capacity.field(key);
        if resources::parse(&quantity).is_some_and(|q| q < Quantity::zero()) {
            errors.invalid(&quantity, super::tree::NOT_NEGATIVE);
        }
    }
}

/// What may not change in a `CSIStorageCapacity`.
pub(crate) fn storage_capacity_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["nodeTopology", "storageClassName"] {
        errors.immutable(&new.field(key), &old.field(key));
    }
}

/// A `VolumeAttributesClass`.
pub(crate) fn attributes_class(class: &Node<'_, '_>, errors: &mut Errors) {
    let driver = class.field("driverName");
    csi_driver_name(&driver, errors);
    let given = class.field("parameters");
    if given.map().is_none_or(serde_json::Map::is_empty) && driver.value().is_some_and(Value::is_string) {
        errors.required(&given, "must contain at least one key/value pair");
    } else {
        parameters(&given, errors);
    }
}

/// What may not change in a `VolumeAttributesClass`.
pub(crate) fn attributes_class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["driverName", "parameters"] {
        errors.immutable(&new.field(key), &old.field(key));
    }
}
