//! DeviceClasses (upstream: `pkg/registry/resource/deviceclass`).

use super::shared::{self, MOST};
use crate::kinds::kind::Kind;
use crate::kinds::pods::resources;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{fill, lists};
use crate::table::cell::Cell::{Age, Name};

pub(crate) const KIND: Kind = Kind {
    has_generation: true,
    cells: &[Name, Age],
    default: fill::with_spec,
    validate_new,
    validate_change,
    rechecks: (1, 1),
    delete_returns_object: true,
    ..Kind::cluster("deviceclasses", "DeviceClass")
};

/// A new `DeviceClass`.
fn validate_new(class: &Node<'_, '_>, errors: &mut Errors) {
    let spec = class.field("spec");
    class_spec(&spec, None, errors);
}

/// A changed `DeviceClass`: expressions and parameters that stay as they are stay allowed.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    class_spec(&new.field("spec"), Some(&old.field("spec")), errors);
}

fn class_spec(spec: &Node<'_, '_>, old: Option<&Node<'_, '_>>, errors: &mut Errors) {
    let is_new = |list: &str| old.is_none_or(|old| !spec.field(list).is_same(&old.field(list)));
    if is_new("selectors") {
        lists::bounded(&spec.field("selectors"), MOST, errors, shared::selector);
    }
    let new_config = is_new("config");
    lists::bounded(&spec.field("config"), MOST, errors, |config, errors| {
        shared::configuration(config, new_config, errors)
    });
    let extended = spec.field("extendedResourceName");
    if extended.is_set() && !resources::is_extended(extended.text()) {
        errors.invalid(&extended, "must be a valid extended resource name");
    }
}
