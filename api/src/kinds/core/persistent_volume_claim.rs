//! Rules for claims, volumes and storage classes.

use serde_json::Value;

use super::pod::update;
use crate::kinds::pods::resources;
use crate::kinds::pods::volumes::{paths, sources};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{labels, naming, shown};
use crate::kinds::storage::volume_attachment;
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
    labels::selector(&spec.field("selector"), errors);
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
            errors.invalid_all(&class, naming::subdomain(class.text()));
        }
    }
    errors.none_or_one_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
    for key in ["dataSource", "dataSourceRef"] {
        data_source(&spec.field(key), errors);
    }

    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    let namespace = reference.field("namespace");
    if !namespace.text().is_empty() {
        errors.invalid_all(&namespace, naming::label(namespace.text()));
    }
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

/// Access modes of a claim or volume.
pub(crate) fn access_modes(modes: &Node<'_, '_>, errors: &mut Errors) {
    let (mut once, mut others) = (false, false);
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.text()) {
            errors.push(crate::FieldError::not_supported(&modes.path(), mode.text(), &ACCESS_MODES));
        }
        once |= mode.text() == "ReadWriteOncePod";
        others |= mode.text() != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode.text());
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
        errors.invalid_all(&group, naming::subdomain(group.text()));
    }
}

/// What may not change in a claim.
pub(crate) fn claim_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    storage_class_annotation(new, old, errors);
    let bound = new.field("status").field("phase").text() == "Bound";
    let compared = with_what_may_change(&spec, &before, old, bound);
    if Some(&compared) != before.value() {
        let path = spec.path();
        let text =
            shown::difference(&shown::claim_spec(&before), &shown::claim_spec(&Node::at(&path, Some(&compared))));
        errors.forbidden(&spec, &format!("{CLAIM_IMMUTABLE}\n{text}"));
    }
    let status = old.field("status");
    size_change(&spec, &before, &status.field("capacity"), errors);
    let mode = spec.field("volumeMode");
    if mode.value() != before.field("volumeMode").value() {
        let path = crate::Path::new("volumeMode");
        errors.push(crate::FieldError::invalid(&path, mode.shown(), IMMUTABLE));
    }
    attributes_class_kept(&spec.field("volumeAttributesClassName"), &before.field("volumeAttributesClassName"), errors);
}

/// The new spec with the old values of all that may change: what then still differs may not.
fn with_what_may_change(new: &Node<'_, '_>, old: &Node<'_, '_>, claim: &Node<'_, '_>, bound: bool) -> Value {
    let mut spec = new.shown();
    let mut keep = |key: &str, value: Option<&Value>| update::restore(&mut spec, key, value);
    if old.field("volumeName").text().is_empty() {
        keep("volumeName", old.field("volumeName").value());
    }
    let metadata = claim.field("metadata");
    let annotations = metadata.field("annotations");
    let annotated = annotations.map().and_then(|map| map.get(CLASS_ANNOTATION)).and_then(Value::as_str);
    let (class, had) = (new.field("storageClassName"), old.field("storageClassName"));
    if had.is_unset() && class.is_set() && annotated.is_none_or(|annotated| annotated == class.text()) {
        keep("storageClassName", None);
    }
    if bound && new.field("volumeAttributesClassName").is_set() {
        keep("volumeAttributesClassName", old.field("volumeAttributesClassName").value());
    }
    if let (true, Some(requests)) = (bound, spec.pointer_mut("/resources/requests")) {
        let had = old.value().and_then(|old| old.pointer("/resources/requests/storage"));
        update::restore(requests, "storage", had);
    }
    spec
}

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The class of a claim was once an annotation, which stays unless the field says the same.
fn storage_class_annotation(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let of = |claim: &Node<'_, '_>| {
        let metadata = claim.field("metadata");
        let annotations = metadata.field("annotations");
        annotations.map().and_then(|map| map.get(CLASS_ANNOTATION)).and_then(Value::as_str).map(str::to_owned)
    };
    let (now, had) = (of(new), of(old));
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let class = spec.field("storageClassName");
    let upgraded = had.as_deref().is_some_and(|had| class.is_set() && class.text() == had)
        && before.field("storageClassName").is_unset()
        && now.as_ref().is_none_or(|now| Some(now) == had.as_ref());
    if !upgraded && now.as_deref().unwrap_or("") != had.as_deref().unwrap_or("") {
        let path = crate::Path::new("metadata").child("annotations").child(CLASS_ANNOTATION);
        errors.push(crate::FieldError::invalid(&path, now.unwrap_or_default(), IMMUTABLE));
    }
}

/// A claim that asked for too much may ask for less, but not for less than it has.
fn size_change(new: &Node<'_, '_>, old: &Node<'_, '_>, capacity: &Node<'_, '_>, errors: &mut Errors) {
    let (resources, before) = (new.field("resources"), old.field("resources"));
    let (requests, had) = (resources.field("requests"), before.field("requests"));
    let size = |at: &Node<'_, '_>| resources::parse(&at.field("storage")).unwrap_or_else(Quantity::zero);
    let now = size(&requests);
    if now < size(&had) && now <= size(capacity) {
        errors.forbidden(&requests.field("storage"), "field can not be less than status.capacity");
    }
}

/// A class of attributes may change to another one only.
fn attributes_class_kept(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    if old.is_set() && new.is_unset() {
        errors.forbidden(new, "update from non-nil value to nil is forbidden");
    } else if old.is_set() && new.text().is_empty() && new.value() != old.value() {
        errors.forbidden(new, "update from non-nil value to an empty string is forbidden");
    }
}

/// The `status` of a claim.
pub(crate) fn claim_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    const RESIZES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let status = new.field("status");
    for (_, quantity) in status.field("capacity").entries() {
        basic_quantity(&quantity, errors);
    }
    // Upstream's path lacks the last letters of the field.
    let resizes = status.field("allocatedResourceStatus");
    for (name, state) in status.field("allocatedResourceStatuses").entries() {
        resource_of_claim(name, &resizes, errors);
        if !RESIZES.contains(&state.text()) {
            errors.push(crate::FieldError::not_supported(&resizes.path(), name, &RESIZES));
        }
    }
    let allocated = status.field("allocatedResources");
    for (name, quantity) in allocated.entries() {
        if resource_of_claim(name, &allocated, errors) {
            basic_quantity(&quantity, errors);
        }
    }
}

fn basic_quantity(at: &Node<'_, '_>, errors: &mut Errors) {
    if let Some(quantity) = resources::parse(at).filter(|quantity| quantity.value() < 0) {
        errors.invalid_value(at, quantity.value(), "must be a valid resource quantity");
    }
}

/// Claims have storage, and what drivers name.
fn resource_of_claim(name: &str, at: &Node<'_, '_>, errors: &mut Errors) -> bool {
    let wrong = naming::qualified_name(name);
    let known = !resources::is_native(name) || name == "storage";
    if wrong.is_empty() && !known {
        errors.push(crate::FieldError::not_supported(&at.path(), name, &["storage"]));
    }
    let fine = wrong.is_empty() && known;
    for why in wrong {
        errors.invalid_value(at, name, &why);
    }
    fine
}

/// Whether two objects differ in a field that is not in `ignored`.
pub(crate) fn differs_beside(new: &Node<'_, '_>, old: &Node<'_, '_>, ignored: &[&str]) -> bool {
    let keys = new.map().into_iter().chain(old.map()).flatten().map(|(key, _)| key.as_str());
    keys.filter(|key| !ignored.contains(key)).any(|key| !new.field(key).is_same(&old.field(key)))
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
    let (metadata, spec) = (volume.field("metadata"), volume.field("spec"));
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        errors.required(&modes, "");
    }
    access_modes(&modes, errors);
    capacity(&spec.field("capacity"), errors);
    volume_source(&spec, metadata.field("name").text(), errors);
    let reclaim = spec.field("persistentVolumeReclaimPolicy");
    if !reclaim.text().is_empty() {
        errors.one_of(&reclaim, &["Delete", "Recycle", "Retain"]);
    }
    let affinity = spec.field("nodeAffinity");
    let required = affinity.field("required");
    if required.is_set() {
        labels::node_selector(&required, errors);
    } else if affinity.is_set() {
        errors.required(&required, "must specify required node constraints");
    }
    let path = spec.field("hostPath").field("path").text();
    if !path.is_empty() && is_root(path) && reclaim.text() == "Recycle" {
        errors.forbidden(&reclaim, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = spec.field("storageClassName");
    if !class.text().is_empty() {
        errors.invalid_all(&class, naming::subdomain(class.text()));
    }
    errors.none_or_one_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
    let attributes = spec.field("volumeAttributesClassName");
    if attributes.is_set() {
        if attributes.text().is_empty() {
            errors.required(&attributes, "an empty string is disallowed");
        } else {
            errors.invalid_all(&attributes, naming::subdomain(attributes.text()));
        }
        if spec.field("csi").is_unset() {
            errors.required(&spec.field("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

/// Whether a path is the root by another spelling.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
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
        basic_quantity(&quantity, errors);
        positive_quantity(&quantity, &quantity, errors);
    }
}

/// The one source of a volume.
pub(crate) fn volume_source(spec: &Node<'_, '_>, name: &str, errors: &mut Errors) {
    let mut found = false;
    for key in VOLUME_SOURCES.into_iter().chain(["csi"]) {
        let source = spec.field(key);
        if source.is_unset() {
            continue;
        }
        // Upstream counts no other source before this one.
        if found && key != "flexVolume" {
            sources::one_more(spec, key, errors);
        } else {
            one_volume_source(spec, key, name, errors);
        }
        found = true;
    }
    if !found {
        errors.required(spec, "must specify a volume type");
    }
}

fn one_volume_source(spec: &Node<'_, '_>, key: &str, name: &str, errors: &mut Errors) {
    let source = spec.field(key);
    match key {
        "csi" => {
            volume_attachment::csi_driver_name(&source.field("driver"), errors);
            errors.require_text(&source.field("volumeHandle"));
            for secret in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                secret_reference(&source.field(secret), errors);
            }
        }
        "local" => {
            if errors.require_text(&source.field("path")) {
                paths::no_back_steps(&source.field("path"), errors);
            }
            if spec.field("nodeAffinity").is_unset() {
                errors.required(&spec.field("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        _ => {
            sources::shared(spec, key, sources::Holder::PersistentVolume, errors);
            if source.field("initiatorName").is_set() {
                let path = source.field("targetportal").path();
                let portal = Node::at(&path, source.field("targetPortal").value());
                sources::short_portal(&portal, name, &source, errors);
            }
        }
    }
}

/// A secret in any namespace.
fn secret_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    let (name, namespace) = (at.field("name"), at.field("namespace"));
    if errors.require_text(&name) {
        errors.invalid_all(&name, naming::subdomain(name.text()));
    }
    if errors.require_text(&namespace) {
        errors.invalid_all(&namespace, naming::label(namespace.text()));
    }
}

/// What may not change in a volume.
pub(crate) fn volume_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    // Upstream's rules for a change hold those for a volume once more.
    volume(new, errors);
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let mut compared = new_spec.shown();
    // A secret for growing may come later.
    let late = "/csi/controllerExpandSecretRef";
    if old_spec.value().is_some_and(|old| old.get("csi").is_some() && old.pointer(late).is_none())
        && let Some(csi) = compared.get_mut("csi")
    {
        update::restore(csi, "controllerExpandSecretRef", None);
    }
    if VOLUME_SOURCES.into_iter().chain(["csi"]).any(|key| compared.get(key) != old_spec.field(key).value()) {
        let path = new_spec.path();
        let shown = shown::volume_source(&Node::at(&path, Some(&compared)));
        let text = shown::difference(&shown::volume_source(&old_spec), &shown);
        let path = new_spec.field("persistentvolumesource");
        errors.forbidden(&path, &format!("spec.persistentvolumesource is immutable after creation\n{text}"));
    }
    // Upstream's paths of these two leave the spec out.
    let mode = new_spec.field("volumeMode");
    if mode.value() != old_spec.field("volumeMode").value() {
        let path = crate::Path::new("volumeMode");
        errors.push(crate::FieldError::invalid(&path, mode.shown(), IMMUTABLE));
    }
    let (affinity, had) = (new_spec.field("nodeAffinity"), old_spec.field("nodeAffinity"));
    if had.is_set() && !affinity.is_same(&had) {
        let path = crate::Path::new("nodeAffinity");
        let shown = shown::volume_affinity(&affinity);
        let why = "field is immutable, except for updating from beta label to GA";
        errors.invalid_shown(&Node::at(&path, affinity.value()), &shown, why);
    }
    if old_spec.field("volumeAttributesClassName").is_set() && new_spec.field("volumeAttributesClassName").is_unset() {
        let class = new_spec.field("volumeAttributesClassName");
        errors.forbidden(&class, "update from non-nil value to nil is forbidden");
    }
}
