//! CSIDrivers (upstream: `pkg/registry/storage/csidriver`).

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::{self, default_pointer, is_zero};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::object::Object;
use crate::strategy::{WriteContext, content_changed};
use crate::table::cell::Cell::{Age, By, Flag, Joined, Name};
use crate::table::cell::{NONE, UNSET, list, or, text};

pub(crate) const KIND: Kind = Kind {
    cells: &[
        Name,
        Flag(&["spec", "attachRequired"], true),
        Flag(&["spec", "podInfoOnMount"], false),
        Flag(&["spec", "storageCapacity"], false),
        By(audiences),
        Flag(&["spec", "requiresRepublish"], false),
        Joined(&["spec", "volumeLifecycleModes"], NONE),
        Age,
    ],
    default,
    prepare_update,
    validate,
    validate_change,
    unconditional_update: false,
    delete_returns_object: true,
    ..Kind::cluster("csidrivers", "CSIDriver")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_pointer(spec, "attachRequired", true);
    default_pointer(spec, "podInfoOnMount", false);
    default_pointer(spec, "storageCapacity", false);
    default_pointer(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default_pointer(spec, "requiresRepublish", false);
    default_pointer(spec, "seLinuxMount", false);
    if is_zero(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}

/// Only changes of a `CSIDriver` are counted, not its creation.
fn prepare_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if content_changed(new, old) {
        new.set_metadata("generation", old.generation() + 1);
    }
}

fn validate(driver: &Node<'_, '_>, errors: &mut Errors) {
    let spec = driver.field("spec");
    errors.none_or_one_of(&spec.field("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"]);
    let requests = spec.field("tokenRequests");
    token_requests(&requests, errors);
    let modes = spec.field("volumeLifecycleModes");
    for mode in modes.items() {
        if !matches!(mode.text(), "Persistent" | "Ephemeral") {
            errors.push(crate::FieldError::not_supported(&modes.path(), mode.text(), &["Persistent", "Ephemeral"]));
        }
    }
    let seconds = spec.field("nodeAllocatableUpdatePeriodSeconds");
    if seconds.integer().is_some_and(|seconds| seconds < 10) {
        errors.invalid(&seconds, "must be greater than or equal to 10 seconds");
    }
    let hidden = spec.field("serviceAccountTokenInSecrets");
    if hidden.is_set() && requests.is_empty() {
        errors.invalid(&hidden, "serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
}

/// The tokens that a driver gets, each for another audience.
fn token_requests(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for request in at.items() {
        let (audience, seconds) = (request.field("audience"), request.field("expirationSeconds"));
        if !seen.insert(audience.text()) {
            errors.push(crate::FieldError::duplicate(&audience.path(), audience.text()));
            continue;
        }
        if seconds.is_set() && seconds.number() < 600 {
            errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds.number() > 1 << 32 {
            errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

/// What may not change in a `CSIDriver`.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    // Upstream's path has another name than the field.
    let attach = new.field("attachedRequired");
    if new.field("attachRequired").value() != old.field("attachRequired").value() {
        errors.invalid_value(&attach, new.field("attachRequired").shown(), IMMUTABLE);
    }
    errors.immutable(&new.field("volumeLifecycleModes"), &old.field("volumeLifecycleModes"));
}

fn audiences(driver: &Object) -> Value {
    let requests = list(driver, &["spec", "tokenRequests"]).iter().map(|request| text(request, "audience"));
    or(&requests.collect::<Vec<_>>().join(","), UNSET).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;

    #[test]
    fn tokens_in_secrets_need_tokens() {
        let driver = json!({"spec": {"serviceAccountTokenInSecrets": true}});
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        check_rule(
            super::validate,
            driver,
            &[&format!("spec.serviceAccountTokenInSecrets: Invalid value: true: {why}")],
        );
    }
}
