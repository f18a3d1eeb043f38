//! LeaseCandidates, for coordinated leader election (upstream: `pkg/registry/coordination/leasecandidate`; KEP-4355).

use std::cmp::Ordering;

use cel::SemanticVersion;

use super::lease::{self, OLDEST};
use crate::kinds::kind::Kind;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{fill, naming};

pub(crate) const KIND: Kind = Kind {
    default: fill::with_spec,
    validate,
    validate_change,
    validate_name,
    create_on_update: true,
    unconditional_update: false,
    ..Kind::namespaced("leasecandidates", "LeaseCandidate")
};

/// The name of a `LeaseCandidate`, which may be more than a domain.
fn validate_name(name: &str, _prefix: bool) -> Vec<String> {
    naming::config_map_key(name)
}

fn validate(candidate: &Node<'_, '_>, errors: &mut Errors) {
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
    lease::strategy(&chosen, errors);
}

/// A candidate stays one for the same lease.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec").field("leaseName"), &old.field("spec").field("leaseName"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_spec;
    use serde_json::json;

    #[test]
    fn a_candidate_is_not_older_than_what_it_emulates() {
        let spec = |binary: &str, emulated: &str| json!({"leaseName": "l", "strategy": OLDEST, "binaryVersion": binary, "emulationVersion": emulated});
        check_spec(validate, spec("1.36.0", "1.35.0"), &[]);
        let want =
            ["spec.binaryVersion: Invalid value: \"1.34.0\": must be greater than or equal to `emulationVersion`"];
        check_spec(validate, spec("1.34.0", "1.35.0"), &want);
        check_spec(
            validate,
            spec("v1", "1.35.0"),
            &[
                "spec.binaryVersion: Invalid value: \"v1\": must be a valid semantic version",
                "spec.binaryVersion: Required value: must be specified when `strategy` is 'OldestEmulationVersion'",
            ],
        );
    }
}
