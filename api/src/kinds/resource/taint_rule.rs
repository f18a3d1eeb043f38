//! DeviceTaintRules (upstream: `pkg/registry/resource/devicetaintrule`).

use super::shared;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::naming::{self, csi_driver_name};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{conditions, fill};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    has_generation: true,
    default: fill::with_spec,
    validate_new,
    validate_change,
    validate_status,
    delete_returns_object: true,
    ..Kind::cluster("devicetaintrules", "DeviceTaintRule")
};

/// A new `DeviceTaintRule`.
fn validate_new(rule: &Node<'_, '_>, errors: &mut Errors) {
    let spec = rule.field("spec");
    taint_selector(&spec.field("deviceSelector"), errors);
    shared::taint(&spec.field("taint"), errors);
}

/// A changed `DeviceTaintRule`: an effect that nobody knows any more may stay.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let spec = new.field("spec");
    taint_selector(&spec.field("deviceSelector"), errors);
    let taint = spec.field("taint");
    shared::taint_without_effect(&taint, errors);
    if taint.field("effect").text() != old.field("spec").field("taint").field("effect").text() {
        shared::effect(&taint.field("effect"), errors);
    }
}

fn taint_selector(at: &Node<'_, '_>, errors: &mut Errors) {
    let (driver, pool, device) = (at.field("driver"), at.field("pool"), at.field("device"));
    if driver.is_set() {
        csi_driver_name(&driver, errors);
    }
    if pool.is_set() {
        shared::pool_name(&pool, errors);
    }
    if device.is_set() {
        errors.invalid_all(&device, naming::label(device.text()));
    }
}

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    const MOST_CONDITIONS: usize = 8;
    let status = new.field("status");
    let conditions = status.field("conditions");
    conditions::conditions(&conditions, errors);
    if conditions.list().len() > MOST_CONDITIONS {
        errors.too_many(&conditions, conditions.list().len(), MOST_CONDITIONS);
    }
}
