//! PersistentVolumes (upstream: `pkg/registry/core/persistentvolume`).

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::shown;
use crate::kinds::pods::volumes::persistent::{self, VOLUME_SOURCES};
use crate::kinds::pods::volumes::warn::GONE;
use crate::kinds::pods::volumes::{claim_spec, drivers};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, object_at};
use crate::kinds::rules::shown::Shape::{List, Pointer};
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{self, Errors, IMMUTABLE, Node};
use crate::kinds::rules::{self, doubts, naming, node_selector};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::Row;
use crate::table::cell::{UNSET, age, list, or, plain, text};

pub(crate) const KIND: Kind = Kind {
    short_names: &["pv"],
    subresources: &[Sub::STATUS],
    cells: &[Row(cells)],
    default,
    prepare_create,
    prepare_status,
    validate,
    validate_change,
    warn,
    rechecks: (2, 0),
    delete_returns_object: true,
    ..Kind::cluster("persistentvolumes", "PersistentVolume")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_pointer(spec, "volumeMode", "Filesystem");
    if let Some(path) = object_at(spec, "hostPath") {
        default_pointer(path, "type", "");
    }
    drivers::volume_drivers(spec);
    default_zero(fill::object(object.root_mut(), "status"), "phase", "Pending");
}

/// A new volume is not yet available.
fn prepare_create(ctx: &WriteContext<'_>, new: &mut Object) {
    let now = naming::time(ctx.now);
    new.set(&["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
}

/// A volume's phase change is dated by the server unless the controller dates it.
fn prepare_status(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
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

fn validate(volume: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (volume.field("metadata"), volume.field("spec"));
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        errors.required(&modes, "");
    }
    claim_spec::access_modes(&modes, errors);
    capacity(&spec.field("capacity"), errors);
    persistent::volume_source(&spec, metadata.field("name").text(), errors);
    let reclaim = spec.field("persistentVolumeReclaimPolicy");
    if !reclaim.text().is_empty() {
        errors.one_of(&reclaim, &["Delete", "Recycle", "Retain"]);
    }
    let affinity = spec.field("nodeAffinity");
    let required = affinity.field("required");
    if required.is_set() {
        node_selector::node_selector(&required, errors);
    } else if affinity.is_set() {
        errors.required(&required, "must specify required node constraints");
    }
    let path = spec.field("hostPath").field("path").text();
    if !path.is_empty() && persistent::is_root(path) && reclaim.text() == "Recycle" {
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

fn capacity(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.required(at, "");
    }
    let entries = at.map().map_or(0, serde_json::Map::len);
    if at.field("storage").is_unset() || entries > 1 {
        errors.not_supported(at, &["storage"]);
    }
    for (_, quantity) in at.entries() {
        claim_spec::basic_quantity(&quantity, errors);
        claim_spec::positive_quantity(&quantity, &quantity, errors);
    }
}

/// What may not change in a volume.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    // Upstream's rules for a change hold those for a volume once more.
    validate(new, errors);
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let mut compared = new_spec.shown();
    // A secret for growing may come later.
    let late = "/csi/controllerExpandSecretRef";
    if old_spec.value().is_some_and(|old| old.get("csi").is_some() && old.pointer(late).is_none())
        && let Some(csi) = compared.get_mut("csi")
    {
        tree::restore(csi, "controllerExpandSecretRef", None);
    }
    if VOLUME_SOURCES.into_iter().chain(["csi"]).any(|key| compared.get(key) != old_spec.field(key).value()) {
        let path = new_spec.path();
        let shown = shown::volume_source(&Node::at(&path, Some(&compared)));
        let text = rules::shown::difference(&shown::volume_source(&old_spec), &shown);
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
        let shown = shown_affinity(&affinity);
        let why = "field is immutable, except for updating from beta label to GA";
        errors.invalid_shown(&Node::at(&path, affinity.value()), &shown, why);
    }
    if old_spec.field("volumeAttributesClassName").is_set() && new_spec.field("volumeAttributesClassName").is_unset() {
        let class = new_spec.field("volumeAttributesClassName");
        errors.forbidden(&class, "update from non-nil value to nil is forbidden");
    }
}

/// Where a PersistentVolume can be used; `null` for anywhere.
fn shown_affinity(at: &Node<'_, '_>) -> Shown {
    const AFFINITY: Table = &[(
        "Required",
        "required",
        Pointer(&[("NodeSelectorTerms", "nodeSelectorTerms", List(node_selector::SHOWN_TERM))]),
    )];
    if at.is_unset() { Shown::Leaf(Value::Null) } else { Shown::of(at.value(), AFFINITY) }
}

fn warn(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    claim_spec::warn_class_annotation(new, texts);
    let spec = new.field("spec");
    let reclaim = spec.field("persistentVolumeReclaimPolicy");
    if reclaim.text() == "Recycle" {
        texts.push(format!(
            "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            reclaim.path()
        ));
    }
    let affinity = spec.field("nodeAffinity");
    doubts::node_selector_terms(&affinity.field("required").field("nodeSelectorTerms"), texts);
    for (field, shown, text) in GONE {
        // Upstream passes these two over.
        if !matches!(field, "flocker" | "quobyte") && spec.field(field).is_set() {
            texts.push(format!("{}: {text}", spec.field(shown).path()));
        }
    }
}

/// Access modes in short, in a fixed order.
pub(crate) fn short_modes(modes: &[Value]) -> String {
    let known =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let given = known.into_iter().filter(|(mode, _)| modes.iter().any(|given| given == mode));
    given.map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

pub(crate) fn class_of(object: &Object) -> &str {
    object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object.text(&["spec", "storageClassName"]))
}

pub(crate) fn phase(object: &Object) -> &str {
    if object.is_being_deleted() { "Terminating" } else { object.text(&["status", "phase"]) }
}

fn cells(volume: &Object, now: Timestamp) -> Vec<Value> {
    let claim = match volume.get(&["spec", "claimRef"]).filter(|claim| !claim.is_null()) {
        Some(claim) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
        None => String::new(),
    };
    vec![
        volume.name().into(),
        or(&plain(volume.get(&["spec", "capacity", "storage"])), "0").into(),
        short_modes(list(volume, &["spec", "accessModes"])).into(),
        volume.text(&["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(volume).into(),
        claim.into(),
        class_of(volume).into(),
        or(volume.text(&["spec", "volumeAttributesClassName"]), UNSET).into(),
        volume.text(&["status", "reason"]).into(),
        age(volume, now).into(),
        or(volume.text(&["spec", "volumeMode"]), UNSET).into(),
    ]
}
