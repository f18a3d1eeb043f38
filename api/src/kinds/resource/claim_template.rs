//! ResourceClaimTemplates (upstream: `pkg/registry/resource/resourceclaimtemplate`).

use super::{claim, shown};
use crate::kinds::kind::Kind;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{fill, labels};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Name};

pub(crate) const KIND: Kind = Kind {
    cells: &[Name, Age],
    default,
    validate_new,
    validate_change,
    rechecks: (1, 1),
    delete_returns_object: true,
    ..Kind::namespaced("resourceclaimtemplates", "ResourceClaimTemplate")
};

fn default(object: &mut Object) {
    let outer = fill::object(object.root_mut(), "spec");
    fill::object(outer, "metadata");
    claim::default_devices(fill::object(outer, "spec"));
}

/// A new `ResourceClaimTemplate`.
fn validate_new(template: &Node<'_, '_>, errors: &mut Errors) {
    let outer = template.field("spec");
    let metadata = outer.field("metadata");
    labels::annotations(&metadata.field("annotations"), errors);
    labels::labels(&metadata.field("labels"), errors);
    let spec = outer.field("spec");
    claim::devices(&spec.field("devices"), errors);
}

/// The spec of a `ResourceClaimTemplate` never changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if !new.is_same(&old) {
        errors.invalid_shown(&new, &shown::claim_template_spec(&new), IMMUTABLE);
    }
}
