//! Rules for storage classes, CSI drivers and what these tell: nodes, capacities, attachments.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use crate::kinds::core::persistent_volume_claim::{access_modes, volume_source};
use crate::kinds::pods::resources;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{labels, naming, tree};
use crate::quantity::Quantity;

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    if at.text().len() > 63 {
        errors.too_long(at, 63);
    }
    for why in naming::subdomain(&at.text().to_lowercase()) {
        errors.invalid(at, &why);
    }
}

/// A `StorageClass`.
pub(crate) fn class(class: &Node<'_, '_>, errors: &mut Errors) {
    let provisioner = class.field("provisioner");
    if errors.require_text(&provisioner) {
        errors.invalid_all(&provisioner, naming::qualified_name(&provisioner.text().to_lowercase()));
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
    // Upstream begins with as many empty places as there are terms, and compares with them, too.
    let mut places = vec![BTreeMap::new(); at.list().len()];
    for term in at.items() {
        let mut place = BTreeMap::new();
        let expressions = term.field("matchLabelExpressions");
        for requirement in expressions.items() {
            let (key, values) = (requirement.field("key"), requirement.field("values"));
            let mut set = BTreeSet::new();
            if values.is_empty() {
                errors.required(&values, "");
            }
            for value in values.items() {
                if !set.insert(value.text()) {
                    errors.duplicate(&value);
                }
            }
            labels::label_name(&key, errors);
            if place.insert(key.text(), set).is_some() {
                errors.duplicate(&key);
            }
        }
        for _ in places.iter().filter(|known| **known == place) {
            errors.duplicate_value(&expressions, "");
        }
        places.push(place);
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
    let spec = driver.field("spec");
    errors.none_or_one_of(&spec.field("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"]);
    let requests = spec.field("tokenRequests");
    token_requests(&requests, errors);
    let modes = spec.field("volumeLifecycleModes");
    for mode in modes.items() {
        if !matches!(mode.text(), "Persistent" | "Ephemeral") {
            errors.push(crate::FieldError::not_supported(&modes.path(), mode.text(), &["Persistent", "Ephemeral"]));
        }
    }
    let seconds = spec.field("nodeAllocatableUpdatePeriodSeconds");
    if seconds.integer().is_some_and(|seconds| seconds < 10) {
        errors.invalid(&seconds, "must be greater than or equal to 10 seconds");
    }
    let hidden = spec.field("serviceAccountTokenInSecrets");
    if hidden.is_set() && requests.is_empty() {
        errors.invalid(&hidden, "serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
}

/// The tokens that a driver gets, each for another audience.
fn token_requests(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for request in at.items() {
        let (audience, seconds) = (request.field("audience"), request.field("expirationSeconds"));
        if !seen.insert(audience.text()) {
            errors.push(crate::FieldError::duplicate(&audience.path(), audience.text()));
            continue;
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

/// The most characters of the name that a driver has for a node.
const LONGEST_NODE_ID: usize = 256;

/// A `CSINode`.
pub(crate) fn csi_node(node: &Node<'_, '_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    let spec = node.field("spec");
    for driver in spec.field("drivers").items() {
        let (name, id) = (driver.field("name"), driver.field("nodeID"));
        csi_driver_name(&name, errors);
        if errors.require_text(&id) && id.text().len() > LONGEST_NODE_ID {
            errors.invalid(&id, &format!("must be {LONGEST_NODE_ID} characters or less"));
        }
        let allocatable = driver.field("allocatable");
        errors.non_negative(&allocatable.field("count"));
        if !names.insert(name.text()) {
            errors.push(crate::FieldError::duplicate(&name.path(), name.text()));
        }
        topology_keys(&driver, errors);
    }
}

/// The keys are told of as if they were the driver.
fn topology_keys(driver: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for key in driver.field("topologyKeys").texts() {
        if key.is_empty() {
            errors.required(driver, "");
        }
        if !seen.insert(key) {
            errors.duplicate_value(driver, key);
        }
        for why in naming::qualified_name(key) {
            errors.invalid_value(driver, key, &why);
        }
    }
}

/// What a `CSINode` says of a driver stays, but for how many volumes it has room for. Upstream's rules for a change hold
/// those for a node once more.
pub(crate) fn csi_node_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    const STAYS: [&str; 3] = ["name", "nodeID", "topologyKeys"];
    csi_node(new, errors);
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (drivers, had) = (spec.field("drivers"), before.field("drivers"));
    for had in had.items() {
        for now in drivers.items().filter(|now| now.field("name").text() == had.field("name").text()) {
            if STAYS.iter().any(|key| !now.field(key).is_same(&had.field(key))) {
                let [name, id, keys] = STAYS.map(|key| now.field(key).shown());
                let shown = Shown::fields([
                    ("Name", name),
                    ("NodeID", id),
                    ("TopologyKeys", keys),
                    ("Allocatable", Value::Null),
                ]);
                errors.invalid_shown(&drivers, &shown, IMMUTABLE);
            }
        }
    }
}

/// A `VolumeAttachment`.
pub(crate) fn attachment(attachment: &Node<'_, '_>, errors: &mut Errors) {
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
pub(crate) fn new_attachment(attachment: &Node<'_, '_>, errors: &mut Errors) {
    let spec = attachment.field("spec");
    let attacher = spec.field("attacher");
    if !attacher.text().is_empty() {
        csi_driver_name(&attacher, errors);
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
pub(crate) fn attachment_status(status: &Node<'_, '_>, errors: &mut Errors) {
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

/// The status of a `VolumeAttachment`.
pub(crate) fn attachment_status_change(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    attachment(new, errors);
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
    labels::selector(&capacity.field("nodeTopology"), errors);
    let class = capacity.field("storageClassName");
    for why in naming::subdomain(class.text()) {
        errors.invalid_value(&class, class.text(), &why);
    }
    let quantity = capacity.field("capacity");
    if resources::parse(&quantity).is_some_and(|q| q < Quantity::zero()) {
        errors.invalid(&quantity, tree::NOT_NEGATIVE);
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
    if errors.require_text(&driver) {
        errors.invalid_all(&driver, naming::qualified_name(&driver.text().to_lowercase()));
    }
    let given = class.field("parameters");
    parameters(&given, errors);
    if given.is_empty() {
        errors.required(&given, "must contain at least one key/value pair");
    }
}

/// What may not change in a `VolumeAttributesClass`.
pub(crate) fn attributes_class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["driverName", "parameters"] {
        errors.immutable(&new.field(key), &old.field(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(rule: fn(&Node<'_, '_>, &mut Errors), object: Value, want: &[&str]) {
        let mut errors = Errors::default();
        rule(&Node::root(object.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn each_place_is_named_once() {
        let zone = json!({"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]});
        let class =
            |terms: Value| json!({"provisioner": "p", "volumeBindingMode": "Immediate", "allowedTopologies": terms});
        check(super::class, class(json!([zone])), &[]);
        let twice = ["allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\""];
        check(super::class, class(json!([zone, zone])), &twice);
        check(super::class, class(json!([{}])), &["allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\""]);
    }

    #[test]
    fn the_keys_of_a_driver_are_told_of_as_the_driver() {
        let node = json!({"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["a", "a", ""]}]}});
        let empty = naming::qualified_name("");
        check(
            csi_node,
            node,
            &[
                "spec.drivers[0]: Duplicate value: \"a\"",
                "spec.drivers[0]: Required value",
                &format!("spec.drivers[0]: Invalid value: \"\": {}", empty[0]),
                &format!("spec.drivers[0]: Invalid value: \"\": {}", empty[1]),
            ],
        );
    }

    #[test]
    fn tokens_in_secrets_need_tokens() {
        let driver = json!({"spec": {"serviceAccountTokenInSecrets": true}});
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        check(super::driver, driver, &[&format!("spec.serviceAccountTokenInSecrets: Invalid value: true: {why}")]);
    }

    #[test]
    fn an_attachment_is_of_one_volume() {
        let spec =
            json!({"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p", "inlineVolumeSpec": {}}});
        let want = ["spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName"];
        check(attachment, json!({"spec": spec}), &want);
    }
}
