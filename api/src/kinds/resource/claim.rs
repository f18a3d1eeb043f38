//! ResourceClaims: what is asked for; `claim_status` has what is given (upstream:
//! `pkg/registry/resource/resourceclaim`).

use jiff::Timestamp;
use serde_json::Value;

use super::shared::{self, MOST, MOST_CHOICES, MOST_TAINTS, RequestNames};
use super::{claim_status, shown};
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::fill::{self, default_zero, each, object_at, text};
use crate::kinds::rules::tree::{Errors, Fields, IMMUTABLE, Node};
use crate::kinds::rules::{lists, naming};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{age, list};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    cells: &[Row(cells)],
    default,
    fill_status: Some(|_| {}),
    prepare_status: claim_status::prepare,
    validate_new,
    validate_change,
    validate_status: claim_status::change,
    status_metadata: &[],
    rechecks: (1, 1),
    delete_returns_object: true,
    ..Kind::namespaced("resourceclaims", "ResourceClaim")
};

fn default(object: &mut Object) {
    default_devices(fill::object(object.root_mut(), "spec"));
    fill::object(object.root_mut(), "status");
}

pub(crate) fn default_devices(spec: &mut Fields) {
    let devices = fill::object(spec, "devices");
    each(devices, "requests", |request| {
        if let Some(exactly) = object_at(request, "exactly") {
            default_device_request(exactly);
        }
        each(request, "firstAvailable", default_device_request);
    });
}

fn default_device_request(request: &mut Fields) {
    default_zero(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        default_zero(request, "count", 1);
    }
    each(request, "tolerations", |toleration| default_zero(toleration, "operator", "Equal"));
}

/// A new `ResourceClaim`.
fn validate_new(claim: &Node<'_, '_>, errors: &mut Errors) {
    let spec = claim.field("spec");
    devices(&spec.field("devices"), errors);
}

/// The spec of a `ResourceClaim` never changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if !new.is_same(&old) {
        errors.invalid_shown(&new, &shown::claim_spec(&new), IMMUTABLE);
    }
}

pub(crate) fn devices(at: &Node<'_, '_>, errors: &mut Errors) {
    let names = RequestNames::of(at);
    lists::distinct(&at.field("requests"), MOST, lists::name_of, errors, request);
    lists::bounded(&at.field("constraints"), MOST, errors, |constraint, errors| {
        names.check_all(&constraint.field("requests"), errors);
        let (same, distinct) = (constraint.field("matchAttribute"), constraint.field("distinctAttribute"));
        match (same.is_set(), distinct.is_set()) {
            (true, _) => shared::fully_qualified(&same, errors),
            (false, true) => shared::fully_qualified(&distinct, errors),
            (false, false) => errors.required(
                constraint,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            ),
        }
    });
    lists::bounded(&at.field("config"), MOST, errors, |config, errors| {
        names.check_all(&config.field("requests"), errors);
        shared::configuration(config, true, errors);
    });
}

fn request(at: &Node<'_, '_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    shared::label(&at.field("name"), errors);
    let (exactly, choices) = (at.field("exactly"), at.field("firstAvailable"));
    match (exactly.is_set(), !choices.is_empty()) {
        (false, false) => errors.required(at, ONE),
        (true, true) => errors.invalid_value(at, Value::Null, &format!("{ONE}, but multiple fields are set")),
        (true, false) => exact_request(&exactly, errors),
        (false, true) => lists::distinct(&choices, MOST_CHOICES, lists::name_of, errors, |choice, errors| {
            shared::label(&choice.field("name"), errors);
            exact_request(choice, errors);
        }),
    }
}

fn exact_request(at: &Node<'_, '_>, errors: &mut Errors) {
    let (class, mode, count) = (at.field("deviceClassName"), at.field("allocationMode"), at.field("count"));
    if errors.require_text(&class) {
        errors.invalid_all(&class, naming::subdomain(class.text()));
    }
    lists::bounded(&at.field("selectors"), MOST, errors, shared::selector);
    match mode.text() {
        "All" if count.number() != 0 => {
            errors.invalid(&count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count.number() <= 0 => {
            errors.invalid_value(&count, count.number(), "must be greater than zero");
        }
        "All" | "ExactCount" => {}
        _ => errors.one_of(&mode, &["All", "ExactCount"]),
    }
    lists::bounded(&at.field("tolerations"), MOST_TAINTS, errors, shared::toleration);
}

fn cells(claim: &Object, now: Timestamp) -> Vec<Value> {
    let allocated = claim.get(&["status", "allocation"]).is_some_and(|allocation| !allocation.is_null());
    let reserved = !list(claim, &["status", "reservedFor"]).is_empty();
    let states = [
        ("deleted", claim.is_being_deleted()),
        ("allocated", allocated),
        ("reserved", allocated && reserved),
        ("pending", !allocated && !claim.is_being_deleted()),
    ];
    let states: Vec<&str> = states.into_iter().filter(|(_, holds)| *holds).map(|(state, _)| state).collect();
    vec![claim.name().into(), states.join(",").into(), age(claim, now).into()]
}
