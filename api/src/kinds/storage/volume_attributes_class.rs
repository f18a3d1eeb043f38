//! VolumeAttributesClasses (upstream: `pkg/registry/storage/volumeattributesclass`; KEP-3751).

use serde_json::Value;

use super::storage_class;
use crate::kinds::kind::Kind;
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, By, Text};

pub(crate) const KIND: Kind = Kind {
    short_names: &["vac"],
    cells: &[By(marked_name), Text(&["driverName"]), Age],
    validate,
    validate_change,
    rechecks: (1, 1),
    delete_returns_object: true,
    ..Kind::cluster("volumeattributesclasses", "VolumeAttributesClass")
};

fn validate(class: &Node<'_, '_>, errors: &mut Errors) {
    let driver = class.field("driverName");
    if errors.require_text(&driver) {
        errors.invalid_all(&driver, naming::qualified_name(&driver.text().to_lowercase()));
    }
    let given = class.field("parameters");
    storage_class::parameters(&given, errors);
    if given.is_empty() {
        errors.required(&given, "must contain at least one key/value pair");
    }
}

/// What may not change in a `VolumeAttributesClass`.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["driverName", "parameters"] {
        errors.immutable(&new.field(key), &old.field(key));
    }
}

fn marked_name(class: &Object) -> Value {
    storage_class::default_marked(class, &["storageclass.kubernetes.io/is-default-class"])
}
