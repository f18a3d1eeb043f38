//! The spec of a claim, in PersistentVolumeClaims and in templates of them (upstream:
//! `core.PersistentVolumeClaimSpec`).

use serde_json::Value;

use crate::kinds::rules::doubts::fraction;
use crate::kinds::rules::fill::{default_pointer, default_zero, object, object_at};
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{labels, naming, quantities};
use crate::quantity::Quantity;

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The storage class of a claim or volume was once an annotation.
pub(crate) fn warn_class_annotation(new: &Node<'_, '_>, texts: &mut Vec<String>) {
    let metadata = new.field("metadata");
    let annotations = metadata.field("annotations");
    if annotations.map().is_some_and(|map| map.contains_key(CLASS_ANNOTATION)) {
        texts.push(format!(
            "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
}

/// The size of a claim is whole bytes.
pub(crate) fn warn(spec: &Node<'_, '_>, texts: &mut Vec<String>) {
    let resources = spec.field("resources");
    for list in ["requests", "limits"] {
        let list = resources.field(list);
        let storage = list.key("storage");
        fraction(&storage, &storage, texts);
    }
}

/// Defaults of a claim inside another object.
pub(crate) fn default_claim(claim: &mut Fields) {
    object(claim, "metadata");
    default(object(claim, "spec"));
    default_zero(object(claim, "status"), "phase", "Pending");
}

/// Defaults of a claim's spec.
pub(crate) fn default(spec: &mut Fields) {
    object(spec, "resources");
    default_pointer(spec, "volumeMode", "Filesystem");
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = object_at(spec, key) {
            default_pointer(source, "apiGroup", Value::Null);
        }
    }
}

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The spec of a claim, also of one made from a template.
pub(crate) fn validate(spec: &Node<'_, '_>, errors: &mut Errors) {
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

pub(crate) fn positive_quantity(at: &Node<'_, '_>, shown_at: &Node<'_, '_>, errors: &mut Errors) {
    let Some(quantity) = quantities::parse(at) else { return };
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

pub(crate) fn basic_quantity(at: &Node<'_, '_>, errors: &mut Errors) {
    if let Some(quantity) = quantities::parse(at).filter(|quantity| quantity.value() < 0) {
        errors.invalid_value(at, quantity.value(), "must be a valid resource quantity");
    }
}
