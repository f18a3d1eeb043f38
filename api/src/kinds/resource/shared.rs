//! What claims, classes and slices of devices share (upstream: `pkg/apis/resource/validation`).

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::kinds::rules::naming::{self, csi_driver_name};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, lists};

/// The most requests, constraints, configurations and selectors of a claim or class.
pub(crate) const MOST: usize = 32;
/// The most choices of a request.
pub(crate) const MOST_CHOICES: usize = 8;
/// The most tolerations of a request, and taints of a device.
pub(crate) const MOST_TAINTS: usize = 16;
/// The longest expression.
const LONGEST_EXPRESSION: usize = 10 * 1024;
/// The most bytes of parameters that only a driver understands.
const MOST_PARAMETERS: usize = 10 * 1024;

const ONE_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest \
                           separated by '/'";
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// The requests of a claim that others can refer to, as `request` or `request/choice`.
pub(crate) struct RequestNames<'v>(HashSet<(&'v str, Option<&'v str>)>);

impl<'v> RequestNames<'v> {
    /// Those of `spec.devices`.
    pub(crate) fn of(devices: &Node<'_, 'v>) -> Self {
        let mut names = HashSet::new();
        for request in devices.field("requests").items() {
            let name = request.field("name").text();
            names.insert((name, None));
            for choice in request.field("firstAvailable").items() {
                names.insert((name, Some(choice.field("name").text())));
            }
        }
        Self(names)
    }

    /// Refuses a reference to a request that is not there.
    pub(crate) fn check(&self, at: &Node<'_, '_>, errors: &mut Errors) {
        let parts: Vec<&str> = at.text().split('/').collect();
        if parts.len() > 2 {
            errors.invalid_value(at, at.text(), ONE_REQUEST);
            return;
        }
        for part in &parts {
            for why in naming::label(part) {
                errors.invalid_value(at, *part, &why);
            }
        }
        if !self.0.iter().any(|(name, choice)| parts.first() == Some(name) && parts.get(1) == choice.as_ref()) {
            errors.invalid_value(at, at.text(), ONE_REQUEST);
        }
    }

    /// A list of such references.
    pub(crate) fn check_all(&self, at: &Node<'_, '_>, errors: &mut Errors) {
        lists::distinct(at, MOST, lists::text_of, errors, |name, errors| self.check(name, errors));
    }
}

/// A DNS label; an empty one is refused as such.
pub(crate) fn label(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(at) {
        errors.invalid_all(at, naming::label(at.text()));
    }
}

/// A toleration of a device's taint.
pub(crate) fn toleration(at: &Node<'_, '_>, errors: &mut Errors) {
    let (key, operator, value) = (at.field("key"), at.field("operator"), at.field("value"));
    if !key.text().is_empty() {
        labels::label_name(&key, errors);
    }
    match operator.text() {
        "Exists" if !value.text().is_empty() => errors.invalid(&value, "must be empty for operator `Exists`"),
        "Exists" => {}
        "Equal" => errors.invalid_all(&value, naming::label_value(value.text())),
        "" => errors.required(&operator, ""),
        _ => errors.one_of(&operator, &["Equal", "Exists"]),
    }
    let effect = at.field("effect");
    if !effect.text().is_empty() {
        errors.one_of(&effect, &EFFECTS);
    }
}

/// A taint of a device.
pub(crate) fn taint(at: &Node<'_, '_>, errors: &mut Errors) {
    taint_without_effect(at, errors);
    effect(&at.field("effect"), errors);
}

pub(crate) fn taint_without_effect(at: &Node<'_, '_>, errors: &mut Errors) {
    labels::label_name(&at.field("key"), errors);
    let value = at.field("value");
    errors.invalid_all(&value, naming::label_value(value.text()));
}

pub(crate) fn effect(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(at) {
        errors.one_of(at, &EFFECTS);
    }
}

pub(crate) fn selector(at: &Node<'_, '_>, errors: &mut Errors) {
    let cel = at.field("cel");
    if cel.is_unset() {
        errors.required(&cel, "");
        return;
    }
    let expression = cel.field("expression");
    if expression.text().len() > LONGEST_EXPRESSION {
        errors.too_long(&expression, LONGEST_EXPRESSION);
        return;
    }
    if let Err(why) = crate::expression::compile_device_selector(expression.text()) {
        errors.invalid_value(&expression, expression.text(), &why);
    }
}

/// What a driver is told; `is_new` where it was not stored before.
pub(crate) fn configuration(at: &Node<'_, '_>, is_new: bool, errors: &mut Errors) {
    let opaque = at.field("opaque");
    if opaque.is_unset() {
        errors.required(&opaque, "");
        return;
    }
    csi_driver_name(&opaque.field("driver"), errors);
    raw(&opaque.field("parameters"), is_new, errors);
}

/// An object that is not looked into, but is not large.
pub(crate) fn raw(at: &Node<'_, '_>, is_new: bool, errors: &mut Errors) {
    match at.value() {
        None => errors.required(at, ""),
        Some(value) if is_new && value.to_string().len() > MOST_PARAMETERS => errors.too_long(at, MOST_PARAMETERS),
        Some(Value::Object(_)) => {}
        Some(_) => errors.invalid_value(at, "<value omitted>", "must be a valid JSON object"),
    }
}

/// The name of a pool of devices: subdomains joined by slashes.
pub(crate) fn pool_name(at: &Node<'_, '_>, errors: &mut Errors) {
    if !errors.require_text(at) {
        return;
    }
    if at.text().len() > 253 {
        errors.too_long(at, 253);
    }
    for part in at.text().split('/') {
        for why in naming::subdomain(part) {
            errors.invalid_value(at, part, &why);
        }
    }
}

/// Conditions that a driver sets before a pod is bound, and those that tell that it cannot be.
pub(crate) fn binding_conditions(at: &Node<'_, '_>, errors: &mut Errors) {
    const MOST_CONDITIONS: usize = 4;
    let (good, bad) = (at.field("bindingConditions"), at.field("bindingFailureConditions"));
    for list in [&good, &bad] {
        lists::bounded(list, MOST_CONDITIONS, errors, labels::label_name);
    }
    let wanted: BTreeSet<&str> = good.texts().collect();
    for list in [&good, &bad] {
        let mut seen = HashSet::new();
        for condition in list.items() {
            if !seen.insert(condition.text()) {
                errors.duplicate(&condition);
            }
        }
    }
    for condition in bad.items().filter(|condition| wanted.contains(condition.text())) {
        errors.invalid(&condition, "bindingFailureConditions must not overlap with bindingConditions");
    }
    if good.is_empty() && !bad.is_empty() {
        errors.invalid(&good, "bindingConditions are required to use bindingFailureConditions");
    }
    if bad.is_empty() && !good.is_empty() {
        errors.invalid(&bad, "bindingFailureConditions are required to use bindingConditions");
    }
}

/// The name of an attribute or capacity: an identifier, after a driver's domain or not.
pub(crate) fn qualified(name: &str, at: &Node<'_, '_>, errors: &mut Errors) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(id, at, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid_value(at, "", "the domain must not be empty");
            } else {
                domain_of_driver(domain, at, errors);
            }
            if id.is_empty() {
                errors.invalid_value(at, "", "the name must not be empty");
            } else {
                identifier(id, at, errors);
            }
        }
        _ => errors.invalid_value(at, name, "must not contain more than one slash"),
    }
}

fn domain_of_driver(domain: &str, at: &Node<'_, '_>, errors: &mut Errors) {
    if domain.len() > 63 {
        errors.too_long(at, 63);
    }
    for why in naming::subdomain(&domain.to_lowercase()) {
        errors.invalid_value(at, domain, &why);
    }
}

fn identifier(id: &str, at: &Node<'_, '_>, errors: &mut Errors) {
    const LONGEST: usize = 32;
    if id.len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
    for why in crate::names::c_identifier(id) {
        errors.invalid_value(at, id, &why);
    }
}

pub(crate) fn fully_qualified(at: &Node<'_, '_>, errors: &mut Errors) {
    qualified(at.text(), at, errors);
    if !at.text().contains('/') {
        errors.invalid(at, "a fully qualified name must be a domain and a name separated by a slash");
    }
}
