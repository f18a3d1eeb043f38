//! PersistentVolumeClaims (upstream: `pkg/registry/core/persistentvolumeclaim`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::persistent_volume;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::volumes::claim_spec;
use crate::kinds::pods::{self, resources};
use crate::kinds::rules::fill::{object, text};
use crate::kinds::rules::tree::{self, Errors, IMMUTABLE, Node};
use crate::kinds::rules::{naming, quantities, shown};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::Row;
use crate::table::cell::{UNSET, age, list, or, plain};

pub(crate) const KIND: Kind = Kind {
    short_names: &["pvc"],
    subresources: &[Sub::STATUS],
    cells: &[Row(cells)],
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_change,
    validate_status,
    warn,
    rechecks: (1, 1),
    delete_returns_object: true,
    ..Kind::namespaced("persistentvolumeclaims", "PersistentVolumeClaim")
};

fn default(object: &mut Object) {
    claim_spec::default_claim(object.root_mut());
}

/// A new claim is unbound; its two data source fields say the same.
fn prepare_create(_ctx: &WriteContext<'_>, new: &mut Object) {
    new.set(&["status"], json!({"phase": "Pending"}));
    drop_data_sources(new, None);
    mirror_data_source(new);
}

/// As [`prepare_create`], on update.
fn prepare_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
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

const CLAIM_IMMUTABLE: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn validate(claim: &Node<'_, '_>, errors: &mut Errors) {
    claim_spec::validate(&claim.field("spec"), errors);
}

/// What may not change in a claim.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    storage_class_annotation(new, old, errors);
    let bound = new.field("status").field("phase").text() == "Bound";
    let compared = with_what_may_change(&spec, &before, old, bound);
    if Some(&compared) != before.value() {
        let path = spec.path();
        let text = shown::difference(
            &pods::shown::claim_spec(&before),
            &pods::shown::claim_spec(&Node::at(&path, Some(&compared))),
        );
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
    let mut keep = |key: &str, value: Option<&Value>| tree::restore(&mut spec, key, value);
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
        tree::restore(requests, "storage", had);
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
    let size = |at: &Node<'_, '_>| quantities::parse(&at.field("storage")).unwrap_or_else(Quantity::zero);
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
fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    const RESIZES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let status = new.field("status");
    for (_, quantity) in status.field("capacity").entries() {
        claim_spec::basic_quantity(&quantity, errors);
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
            claim_spec::basic_quantity(&quantity, errors);
        }
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

fn warn(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    claim_spec::warn_class_annotation(new, texts);
    claim_spec::warn(&new.field("spec"), texts);
}

fn cells(claim: &Object, now: Timestamp) -> Vec<Value> {
    let bound = claim.text(&["spec", "volumeName"]);
    let (capacity, modes) = match bound {
        "" => (String::new(), String::new()),
        _ => (
            or(&plain(claim.get(&["status", "capacity", "storage"])), "0").to_owned(),
            persistent_volume::short_modes(list(claim, &["status", "accessModes"])),
        ),
    };
    vec![
        claim.name().into(),
        persistent_volume::phase(claim).into(),
        bound.into(),
        capacity.into(),
        modes.into(),
        persistent_volume::class_of(claim).into(),
        or(claim.text(&["spec", "volumeAttributesClassName"]), UNSET).into(),
        age(claim, now).into(),
        or(claim.text(&["spec", "volumeMode"]), UNSET).into(),
    ]
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

    #[test]
    fn sizes_are_whole() {
        let claim = json!({"metadata": {}, "spec": {"resources": {"requests": {"storage": "1500m"}}}});
        let mut texts = Vec::new();
        super::warn(&Node::root(claim.as_object().expect("an object")), None, &mut texts);
        assert_eq!(
            texts,
            ["spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer"]
        );
    }
}
