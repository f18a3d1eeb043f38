//! Leases (upstream: `pkg/registry/coordination/lease`).

use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{fill, naming};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::{Age, Name, Text};

pub(crate) const KIND: Kind = Kind {
    cells: &[Name, Text(&["spec", "holderIdentity"]), Age],
    default: fill::with_spec,
    prepare_create,
    prepare_update,
    validate,
    create_on_update: true,
    unconditional_update: false,
    ..Kind::namespaced("leases", "Lease")
};

/// As [`prepare_update`], of a new lease.
fn prepare_create(ctx: &WriteContext<'_>, new: &mut Object) {
    prepare_update(ctx, new, &Object::default());
}

/// Strategy and wish of a holder do not count where elections are not coordinated by the server, as here; those that are
/// there stay.
fn prepare_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    for field in ["strategy", "preferredHolder"] {
        if old.get(&["spec", field]).is_none_or(Value::is_null) {
            new.remove(&["spec", field]);
        }
    }
}

/// The one strategy that Kubernetes itself defines.
pub(crate) const OLDEST: &str = "OldestEmulationVersion";

fn validate(lease: &Node<'_, '_>, errors: &mut Errors) {
    let spec = lease.field("spec");
    let duration = spec.field("leaseDurationSeconds");
    if duration.integer().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&duration, "must be greater than 0");
    }
    errors.non_negative(&spec.field("leaseTransitions"));
    let (chosen, preferred) = (spec.field("strategy"), spec.field("preferredHolder"));
    if chosen.is_set() {
        strategy(&chosen, errors);
    }
    if !preferred.text().is_empty() && chosen.text().is_empty() {
        errors.forbidden(&preferred, "may only be specified if `strategy` is defined");
    }
}

/// How a holder is chosen. Upstream names the field twice in the path.
pub(crate) fn strategy(at: &Node<'_, '_>, errors: &mut Errors) {
    let name = at.text();
    let path = at.field("strategy");
    if name.contains('/') {
        for why in naming::qualified_name(name) {
            errors.invalid_value(&path, name, &why);
        }
    } else if name != OLDEST {
        errors.push(crate::FieldError::not_supported(&path.path(), name, &[OLDEST]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_spec;
    use serde_json::json;

    #[test]
    fn a_strategy_is_a_known_or_a_qualified_name() {
        check_spec(validate, json!({"strategy": "example.com/mine", "preferredHolder": "a"}), &[]);
        check_spec(
            validate,
            json!({"strategy": "Newest", "leaseDurationSeconds": 0}),
            &[
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.strategy.strategy: Unsupported value: \"Newest\": supported values: \"OldestEmulationVersion\"",
            ],
        );
        let want = ["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"];
        check_spec(validate, json!({"preferredHolder": "a"}), &want);
    }
}
