//! ControllerRevisions: snapshots of templates (upstream: `apps.ControllerRevision`).

use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::default_pointer;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, NOT_NEGATIVE, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, By, Name, Number};
use crate::table::cell::{NONE, list, text};

pub(crate) const KIND: Kind = Kind {
    cells: &[Name, By(controller), Number(&["revision"]), Age],
    default,
    validate,
    validate_change,
    rechecks: (1, 1),
    ..Kind::namespaced("controllerrevisions", "ControllerRevision")
};

/// Defaults of a `ControllerRevision`, whose revision is always shown.
fn default(object: &mut Object) {
    default_pointer(object.root_mut(), "revision", 0);
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let (revision, data) = (object.field("revision"), object.field("data"));
    if revision.number() < 0 {
        errors.invalid(&revision, NOT_NEGATIVE);
    }
    if data.is_unset() {
        errors.required(&data, "data is mandatory");
    }
}

/// The data of a revision never changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("data"), old.field("data"));
    if new.value() != old.value() {
        errors.invalid(&new, IMMUTABLE);
    }
}

/// The object that the revision belongs to.
fn controller(revision: &Object) -> Value {
    let owners = list(revision, &["metadata", "ownerReferences"]);
    let Some(owner) = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true))) else {
        return NONE.into();
    };
    let kind = text(owner, "kind").to_lowercase();
    let (dot, group) = text(owner, "apiVersion").split_once('/').map_or(("", ""), |(group, _)| (".", group));
    format!("{kind}{dot}{}/{}", group.to_lowercase(), text(owner, "name")).into()
}
