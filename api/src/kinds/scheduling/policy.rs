//! How the pods of a group are placed: what `PodGroup`s and the templates of `Workload`s share (upstream:
//! `pkg/apis/scheduling/validation`, and the rules that are declared at the fields of `v1alpha2`).

use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::union;

/// A `PodGroupSchedulingPolicy`: one by one, or all together.
pub(super) fn policy(at: &Node<'_, '_>, errors: &mut Errors) {
    union::exactly_one(at, &["basic", "gang"], errors);
    let gang = at.field("gang");
    if !gang.is_set() {
        return;
    }
    let least = gang.field("minCount");
    match least.number() {
        0 => errors.required(&least, ""),
        1.. => {}
        _ => errors.invalid(&least, "must be greater than or equal to 1"),
    }
}

/// A DNS label that must be given.
pub(super) fn label(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(at) {
        errors.invalid_all(at, naming::label(at.text()));
    }
}

/// A DNS subdomain that must be given.
pub(super) fn subdomain(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(at) {
        errors.invalid_all(at, naming::subdomain(at.text()));
    }
}

/// A part of a path that must be given.
pub(super) fn path_segment(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(at) {
        errors.invalid_all(at, naming::path_segment_name(at.text(), false));
    }
}
