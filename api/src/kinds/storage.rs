//! Rules for claims, volumes and storage classes.

use std::collections::HashSet;

use serde_json::Value;

use super::dump::{self, Shown};
use super::resources;
use super::rules;
use super::tree::{Errors, IMMUTABLE, Node};
use super::{meta, volume_paths, volume_sources};
use crate::quantity::Quantity;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const CLAIM_IMMUTABLE: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// A `PersistentVolumeClaim`.
pub(crate) fn claim(claim: &Node<'_, '_>, errors: &mut Errors) {
    claim_spec(&claim.field("spec"), errors);
}

/// The spec of a claim, also of one made from a template.
pub(crate) fn claim_spec(spec: &Node<'_, '_>, errors: &mut Errors) {
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        errors.required(&modes, "at least 1 access mode is required");
    }
    access_modes(&modes, errors);
    meta::selector(&spec.field("selector"), errors);
    let resources = spec.field("resources");
    let requests = resources.field("requests");
    match requests.map().and_then(|map| map.get("storage")) {
        None => errors.required(&resources.key("storage"), ""),
        Some(_) => {
            let storage = requests.key("storage");
            // Upstream names the place without `requests`.
            positive_quantity(&storage, &resources.key("storage"), errors);
        }
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.field(key);
        if !class.text().is_empty() {
            errors.invalid_all(&class, rules::subdomain(class.text()));
        }
    }
    errors.none_or_one_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
    for key in ["dataSource", "dataSourceRef"] {
        data_source(&spec.field(key), errors);
    }
    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    let other_namespace = !reference.field("namespace").text().is_empty();
    if source.is_set() && reference.is_set() && (other_namespace || source.value() != reference.value()) {
        let why = if other_namespace {
            "may not be specified when dataSourceRef.namespace is specified"
        } else {
            "must match dataSourceRef"
        };
        errors.invalid_value(spec, source.path().to_string(), why);
    }
}

fn access_modes(modes: &Node<'_, '_>, errors: &mut Errors) {
    let (mut once, mut others) = (false, false);
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.text()) {
            errors.push(crate::FieldError::not_supported(&modes.path(), mode.text(), &ACCESS_MODES));
        }
        once |= mode.text() == "ReadWriteOncePod";
        others |= mode.text() != "ReadWriteOncePod";
    }
    if once && others {
        errors.forbidden(modes, "may not use ReadWriteOncePod with other access modes");
    }
}

fn positive_quantity(at: &Node<'_, '_>, shown_at: &Node<'_, '_>, errors: &mut Errors) {
    let Some(quantity) = resources::parse(at) else { return };
    if quantity <= Quantity::zero() {
        errors.invalid_value(shown_at, at.shown(), "must be greater than zero");
    }
}

fn data_source(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    errors.require_text(&at.field("name"));
    let kind = at.field("kind");
    errors.require_text(&kind);
    let group = at.field("apiGroup");
    if group.text().is_empty() && kind.text() != "PersistentVolumeClaim" {
        errors.invalid_value(at, kind.text(), "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.text().is_empty() {
        errors.invalid_all(&group, rules::subdomain(group.text()));
    }
}

/// What may not change in a claim.
pub(crate) fn claim_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let bound = old.field("status").field("phase").text() == "Bound";
    let mut may_change = vec!["volumeName"];
    if !old_spec.field("volumeName").text().is_empty() {
        may_change.clear();
    }
    if bound {
        may_change.extend(["resources", "volumeAttributesClassName"]);
    }
    if old_spec.field("storageClassName").is_unset() {
        may_change.push("storageClassName");
    }
    if differs_beside(&new_spec, &old_spec, &may_change) {
        let text = dump::difference(&dump::claim_spec(&old_spec), &dump::claim_spec(&new_spec));
        errors.forbidden(&new_spec, &format!("{CLAIM_IMMUTABLE}\n{text}"));
    }
    let (resources, old_resources) = (new_spec.field("resources"), old_spec.field("resources"));
    let (requests, old_requests) = (resources.field("requests"), old_resources.field("requests"));
    let storage = requests.field("storage");
    if let (Some(wanted), Some(had)) =
        (super::resources::parse(&storage), super::resources::parse(&old_requests.field("storage")))
        && bound
        && wanted < had
        && new.field("status").field("capacity").is_set()
    {
        errors.forbidden(&requests.field("storage"), "field can not be less than status.capacity");
    }
}

/// Whether two objects differ in a field that is not in `ignored`.
pub(crate) fn differs_beside(new: &Node<'_, '_>, old: &Node<'_, '_>, ignored: &[&str]) -> bool {
    let keys = new.map().into_iter().chain(old.map()).flatten().map(|(key, _)| key.as_str());
    keys.filter(|key| !ignored.contains(key)).any(|key| new.field(key).value() != old.field(key).value())
}

/// Every key that names a PersistentVolume's source, in upstream's order.
const VOLUME_SOURCES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
];

/// A `PersistentVolume`.
pub(crate) fn volume(volume: &Node<'_, '_>, errors: &mut Errors) {
    let spec = volume.field("spec");
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        errors.required(&modes, "");
    }
    access_modes(&modes, errors);
    capacity(&spec.field("capacity"), errors);
    volume_source(&spec, errors);
    let reclaim = spec.field("persistentVolumeReclaimPolicy");
    if !reclaim.text().is_empty() {
        errors.one_of(&reclaim, &["Delete", "Recycle", "Retain"]);
    }
    let affinity = spec.field("nodeAffinity");
    if affinity.is_set() {
        let required = affinity.field("required");
        if required.is_set() {
            meta::node_selector(&required, errors);
        } else {
            errors.required(&required, "must specify required node constraints");
        }
    } else if spec.field("local").is_set() {
        errors.required(&affinity, "Local volume requires node affinity");
    }
    if spec.field("hostPath").field("path").text().trim_end_matches('/').is_empty()
        && spec.field("hostPath").field("path").is_set()
        && reclaim.text() == "Recycle"
    {
        errors.forbidden(&reclaim, "may not be 'recycle' for a hostPath mount of '/'");
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.field(key);
        if !class.text().is_empty() {
            errors.invalid_all(&class, rules::subdomain(class.text()));
        }
    }
    errors.none_or_one_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
}

fn capacity(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.required(at, "");
    }
    let entries = at.map().map_or(0, serde_json::Map::len);
    if at.field("storage").is_unset() || entries > 1 {
        errors.not_supported(at, &["storage"]);
    }
    for (_, quantity) in at.entries() {
        positive_quantity(&quantity, &quantity, errors);
    }
}

fn volume_source(spec: &Node<'_, '_>, errors: &mut Errors) {
    let mut found = false;
    for key in VOLUME_SOURCES.into_iter().chain(["csi"]) {
        let source = spec.field(key);
        if source.is_unset() {
            continue;
        }
        if found {
            errors.forbidden(&source, "may not specify more than 1 volume type");
        } else if key == "csi" {
            csi_driver_name(&source.field("driver"), errors);
            errors.require_text(&source.field("volumeHandle"));
        } else if key == "local" {
            if errors.require_text(&source.field("path")) {
                volume_paths::no_back_steps(&source.field("path"), errors);
            }
        } else {
            volume_sources::shared(spec, key, volume_sources::Holder::PersistentVolume, errors);
        }
        found = true;
    }
    if !found {
        errors.required(spec, "must specify a volume type");
    }
}

/// What may not change in a volume.
pub(crate) fn volume_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    // Upstream's rules for a change hold those for a volume once more.
    volume(new, errors);
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    if VOLUME_SOURCES.into_iter().chain(["csi"]).any(|key| new_spec.field(key).value() != old_spec.field(key).value()) {
        let text = dump::difference(&dump::volume_source(&old_spec), &dump::volume_source(&new_spec));
        let path = new_spec.field("persistentvolumesource");
        errors.forbidden(&path, &format!("spec.persistentvolumesource is immutable after creation\n{text}"));
    }
    if new_spec.field("volumeMode").value() != old_spec.field("volumeMode").value() {
        let mode = new_spec.field("volumeMode");
        let path = crate::Path::new("volumeMode");
        errors.push(crate::FieldError::invalid(&path, mode.shown(), IMMUTABLE));
    }
    if old_spec.field("nodeAffinity").is_set() {
        let (new_affinity, old_affinity) = (new_spec.field("nodeAffinity"), old_spec.field("nodeAffinity"));
        if new_affinity.value() != old_affinity.value() {
            errors.invalid(&new_affinity, "field is immutable, except for updating from beta label to GA");
        }
    }
}

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
}

/// The spec of an attachment never changes.
pub(crate) fn attachment_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if new.value() != old.value() {
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
