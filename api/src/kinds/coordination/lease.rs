//! Rules for leases, and for those who would hold one.

use std::cmp::Ordering;

use cel::SemanticVersion;

use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};

/// The one strategy that Kubernetes itself defines.
const OLDEST: &str = "OldestEmulationVersion";

/// A `Lease`.
pub(crate) fn lease(lease: &Node<'_, '_>, errors: &mut Errors) {
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
fn strategy(at: &Node<'_, '_>, errors: &mut Errors) {
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

/// The name of a `LeaseCandidate`, which may be more than a domain.
pub(crate) fn candidate_name(name: &str, _prefix: bool) -> Vec<String> {
    naming::config_map_key(name)
}

/// A `LeaseCandidate`.
pub(crate) fn candidate(candidate: &Node<'_, '_>, errors: &mut Errors) {
    let spec = candidate.field("spec");
    errors.require_text(&spec.field("leaseName"));
    let mut version = |field: &str| {
        let at = spec.field(field);
        let read = SemanticVersion::parse(at.text());
        if read.is_none() && !at.text().is_empty() {
            errors.invalid(&at, "must be a valid semantic version");
        }
        read
    };
    let (emulated, binary) = (version("emulationVersion"), version("binaryVersion"));
    if let (Some(emulated), Some(binary)) = (&emulated, &binary)
        && binary.compare(emulated) == Ordering::Less
    {
        errors.invalid(&spec.field("binaryVersion"), "must be greater than or equal to `emulationVersion`");
    }
    // The one strategy; older versions of the API have a list of them.
    let chosen = spec.field("strategy");
    if chosen.text().is_empty() {
        errors.required(&chosen, "");
        return;
    }
    if chosen.text() == OLDEST {
        for (read, field) in [(&binary, "binaryVersion"), (&emulated, "emulationVersion")] {
            if read.is_none() {
                let why = "must be specified when `strategy` is 'OldestEmulationVersion'";
                errors.required(&spec.field(field), why);
            }
        }
    }
    strategy(&chosen, errors);
}

/// A candidate stays one for the same lease.
pub(crate) fn candidate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec").field("leaseName"), &old.field("spec").field("leaseName"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(rule: fn(&Node<'_, '_>, &mut Errors), spec: Value, want: &[&str]) {
        let object = json!({"spec": spec});
        let mut errors = Errors::default();
        rule(&Node::root(object.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_strategy_is_a_known_or_a_qualified_name() {
        check(lease, json!({"strategy": "example.com/mine", "preferredHolder": "a"}), &[]);
        check(
            lease,
            json!({"strategy": "Newest", "leaseDurationSeconds": 0}),
            &[
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.strategy.strategy: Unsupported value: \"Newest\": supported values: \"OldestEmulationVersion\"",
            ],
        );
        let want = ["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"];
        check(lease, json!({"preferredHolder": "a"}), &want);
    }

    #[test]
    fn a_candidate_is_not_older_than_what_it_emulates() {
        let spec = |binary: &str, emulated: &str| json!({"leaseName": "l", "strategy": OLDEST, "binaryVersion": binary, "emulationVersion": emulated});
        check(candidate, spec("1.36.0", "1.35.0"), &[]);
        let want =
            ["spec.binaryVersion: Invalid value: \"1.34.0\": must be greater than or equal to `emulationVersion`"];
        check(candidate, spec("1.34.0", "1.35.0"), &want);
        check(
            candidate,
            spec("v1", "1.35.0"),
            &[
                "spec.binaryVersion: Invalid value: \"v1\": must be a valid semantic version",
                "spec.binaryVersion: Required value: must be specified when `strategy` is 'OldestEmulationVersion'",
            ],
        );
    }
}
