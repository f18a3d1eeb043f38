//! PodDisruptionBudgets (upstream: `pkg/registry/policy/poddisruptionbudget`).

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::workload;
use crate::kinds::rules::fill::{self, default_pointer};
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{self, Errors, Node};
use crate::kinds::rules::{labels, numbers};
use crate::table::cell::Cell::{Age, Name, Number, Plain};

pub(crate) const KIND: Kind = Kind {
    short_names: &["pdb"],
    subresources: &[Sub::STATUS],
    has_generation: true,
    cells: &[
        Name,
        Plain(&["spec", "minAvailable"], "N/A"),
        Plain(&["spec", "maxUnavailable"], "N/A"),
        Number(&["status", "disruptionsAllowed"]),
        Age,
    ],
    default: fill::with_spec,
    fill_status: Some(fill_status),
    validate,
    validate_status,
    rechecks: (0, 0),
    unconditional_update: false,
    ..Kind::namespaced("poddisruptionbudgets", "PodDisruptionBudget")
};

/// The parts of a disruption budget's status that are always shown.
fn fill_status(status: &mut tree::Fields) {
    for count in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        default_pointer(status, count, 0);
    }
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let (least, most) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
    if least.is_set() && most.is_set() {
        let shown = Shown::fields([
            ("MinAvailable", least.shown()),
            ("Selector", spec.field("selector").shown()),
            ("MaxUnavailable", most.shown()),
            ("UnhealthyPodEvictionPolicy", spec.field("unhealthyPodEvictionPolicy").shown()),
        ]);
        errors.invalid_shown(&spec, &shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for amount in [&least, &most] {
        numbers::count_or_percent(amount, errors);
        numbers::not_more_than_all(amount, errors);
    }
    labels::selector(&spec.field("selector"), errors);
    errors.none_or_one_of(&spec.field("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
}

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    workload::counts(
        &new.field("status"),
        &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"],
        errors,
    );
}
