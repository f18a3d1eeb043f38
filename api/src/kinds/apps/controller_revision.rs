//! ControllerRevisions: snapshots of templates (upstream: `apps.ControllerRevision`).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::default_pointer;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, NOT_NEGATIVE, Node};
use crate::object::Object;
use crate::table::cell::{NONE, age, list, number, text};

pub(crate) const KIND: Kind = Kind {
    cells: Some(cells),
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

fn cells(revision: &Object, now: Timestamp) -> Vec<Value> {
    let owners = list(revision, &["metadata", "ownerReferences"]);
    let controller = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    let controller = controller.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let group = text(owner, "apiVersion").split_once('/').map_or("", |(group, _)| group);
            let kind = if group.is_empty() {
                text(owner, "kind").to_owned()
            } else {
                format!("{}.{group}", text(owner, "kind"))
            };
            format!("{}/{}", kind.to_lowercase(), text(owner, "name"))
        },
    );
    vec![revision.name().into(), controller.into(), number(revision, &["revision"]).into(), age(revision, now).into()]
}
