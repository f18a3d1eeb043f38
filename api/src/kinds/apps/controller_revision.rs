//! ControllerRevisions: snapshots of templates (upstream: `apps.ControllerRevision`).

use crate::kinds::rules::fill::default_pointer;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, NOT_NEGATIVE, Node};
use crate::object::Object;

/// Defaults of a `ControllerRevision`, whose revision is always shown.
pub(crate) fn default(object: &mut Object) {
    default_pointer(object.root_mut(), "revision", 0);
}

/// A `ControllerRevision`.
pub(crate) fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let (revision, data) = (object.field("revision"), object.field("data"));
    if revision.number() < 0 {
        errors.invalid(&revision, NOT_NEGATIVE);
    }
    if data.is_unset() {
        errors.required(&data, "data is mandatory");
    }
}

/// The data of a revision never changes.
pub(crate) fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("data"), old.field("data"));
    if new.value() != old.value() {
        errors.invalid(&new, IMMUTABLE);
    }
}
