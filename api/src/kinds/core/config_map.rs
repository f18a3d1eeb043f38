//! ConfigMaps, and what their data has in common with that of Secrets (upstream: `pkg/registry/core/configmap`).

use serde_json::{Map, Value};

use crate::kinds::kind::Kind;
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell;
use crate::table::cell::Cell::{Age, By, Name};

pub(crate) const KIND: Kind = Kind {
    short_names: &["cm"],
    cells: &[Name, By(size), Age],
    validate,
    validate_change,
    rechecks: (1, 1),
    ..Kind::namespaced("configmaps", "ConfigMap")
};

/// The most that a ConfigMap or Secret may hold.
pub(crate) const MAX_DATA: usize = 1024 * 1024;
const WHEN_IMMUTABLE: &str = "field is immutable when `immutable` is set";

fn validate(map: &Node<'_, '_>, errors: &mut Errors) {
    let (data, binary) = (map.field("data"), map.field("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for why in naming::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        if binary.map().is_some_and(|map| map.contains_key(key)) {
            errors.invalid_value(&value, key, "duplicate of key present in binaryData");
        }
        size += value.text().len();
    }
    for (key, value) in binary.entries() {
        for why in naming::config_map_key(key) {
            errors.invalid_value(&value, key, &why);
        }
        size += decoded_length(value.text());
    }
    too_much_data(size, errors);
}

/// Upstream names no field here, which prints as an empty index.
fn too_much_data(size: usize, errors: &mut Errors) {
    if size > MAX_DATA {
        errors.push(crate::FieldError::too_long(&crate::Path::default().key(""), MAX_DATA));
    }
}

pub(crate) fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

/// What may not change in a `ConfigMap`.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    frozen(new, old, &["data", "binaryData"], errors);
}

pub(crate) fn frozen(new: &Node<'_, '_>, old: &Node<'_, '_>, keys: &[&str], errors: &mut Errors) {
    if !old.field("immutable").is_true() {
        return;
    }
    if !new.field("immutable").is_true() {
        errors.forbidden(&new.field("immutable"), WHEN_IMMUTABLE);
    }
    let empty = Map::new();
    for key in keys {
        let (new, old) = (new.field(key), old.field(key));
        if new.map().unwrap_or(&empty) != old.map().unwrap_or(&empty) {
            errors.forbidden(&new, WHEN_IMMUTABLE);
        }
    }
}

fn size(map: &Object) -> Value {
    (cell::count(map, &["data"]) + cell::count(map, &["binaryData"])).into()
}
