//! CSIStorageCapacities (upstream: `pkg/registry/storage/csistoragecapacity`).

use crate::kinds::kind::Kind;
use crate::kinds::rules::tree::{self, Errors, Node};
use crate::kinds::rules::{labels, naming, quantities};
use crate::quantity::Quantity;

pub(crate) const KIND: Kind = Kind {
    validate,
    validate_change,
    rechecks: (1, 1),
    unconditional_update: false,
    ..Kind::namespaced("csistoragecapacities", "CSIStorageCapacity")
};

fn validate(capacity: &Node<'_, '_>, errors: &mut Errors) {
    labels::selector(&capacity.field("nodeTopology"), errors);
    let class = capacity.field("storageClassName");
    for why in naming::subdomain(class.text()) {
        errors.invalid_value(&class, class.text(), &why);
    }
    let quantity = capacity.field("capacity");
    if quantities::parse(&quantity).is_some_and(|q| q < Quantity::zero()) {
        errors.invalid(&quantity, tree::NOT_NEGATIVE);
    }
}

/// What may not change in a `CSIStorageCapacity`.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["nodeTopology", "storageClassName"] {
        errors.immutable(&new.field(key), &old.field(key));
    }
}
