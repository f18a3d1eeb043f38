//! Rules for devices: what claims ask for, what classes select, which taints there are.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::kinds::pods::resources;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{labels, naming, shown};
use crate::kinds::storage::volume_attachment::csi_driver_name;

/// The most requests, constraints, configurations and selectors of a claim or class.
const MOST: usize = 32;
/// The most choices of a request.
const MOST_CHOICES: usize = 8;
/// The most tolerations of a request, and taints of a device.
pub(crate) const MOST_TAINTS: usize = 16;
/// The longest expression.
const LONGEST_EXPRESSION: usize = 10 * 1024;
/// The most bytes of parameters that only a driver understands.
const MOST_PARAMETERS: usize = 10 * 1024;

const ONE_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest \
                           separated by '/'";
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// A list with at most `most` elements, each by its own rule; a longer one is not looked at.
pub(crate) fn bounded(at: &Node<'_, '_>, most: usize, errors: &mut Errors, rule: impl Fn(&Node<'_, '_>, &mut Errors)) {
    let count = at.list().len();
    if count > most {
        errors.too_many(at, count, most);
        return;
    }
    for item in at.items() {
        rule(&item, errors);
    }
}

/// As [`bounded`], and no two elements may have the same key.
pub(crate) fn distinct(
    at: &Node<'_, '_>,
    most: usize,
    key: fn(&Node<'_, '_>) -> String,
    errors: &mut Errors,
    rule: impl Fn(&Node<'_, '_>, &mut Errors),
) {
    bounded(at, most, errors, rule);
    if at.list().len() > most {
        return;
    }
    let mut seen = HashSet::new();
    for item in at.items() {
        let key = key(&item);
        if !seen.insert(key.clone()) {
            errors.duplicate_value(&item, key);
        }
    }
}

pub(crate) fn name_of(at: &Node<'_, '_>) -> String {
    at.field("name").text().to_owned()
}

fn text_of(at: &Node<'_, '_>) -> String {
    at.text().to_owned()
}

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
        distinct(at, MOST, text_of, errors, |name, errors| self.check(name, errors));
    }
}

/// A new `ResourceClaim`.
pub(crate) fn claim(claim: &Node<'_, '_>, errors: &mut Errors) {
    let spec = claim.field("spec");
    devices(&spec.field("devices"), errors);
}

/// A new `ResourceClaimTemplate`.
pub(crate) fn claim_template(template: &Node<'_, '_>, errors: &mut Errors) {
    let outer = template.field("spec");
    let metadata = outer.field("metadata");
    labels::annotations(&metadata.field("annotations"), errors);
    labels::labels(&metadata.field("labels"), errors);
    let spec = outer.field("spec");
    devices(&spec.field("devices"), errors);
}

/// The spec of a `ResourceClaim` never changes.
pub(crate) fn claim_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if !new.is_same(&old) {
        errors.invalid_shown(&new, &shown::resource_claim_spec(&new), IMMUTABLE);
    }
}

/// The spec of a `ResourceClaimTemplate` never changes.
pub(crate) fn claim_template_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if !new.is_same(&old) {
        errors.invalid_shown(&new, &shown::resource_claim_template_spec(&new), IMMUTABLE);
    }
}

fn devices(at: &Node<'_, '_>, errors: &mut Errors) {
    let names = RequestNames::of(at);
    distinct(&at.field("requests"), MOST, name_of, errors, request);
    bounded(&at.field("constraints"), MOST, errors, |constraint, errors| {
        names.check_all(&constraint.field("requests"), errors);
        let (same, distinct) = (constraint.field("matchAttribute"), constraint.field("distinctAttribute"));
        match (same.is_set(), distinct.is_set()) {
            (true, _) => fully_qualified(&same, errors),
            (false, true) => fully_qualified(&distinct, errors),
            (false, false) => errors.required(
                constraint,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            ),
        }
    });
    bounded(&at.field("config"), MOST, errors, |config, errors| {
        names.check_all(&config.field("requests"), errors);
        configuration(config, true, errors);
    });
}

fn request(at: &Node<'_, '_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    label(&at.field("name"), errors);
    let (exactly, choices) = (at.field("exactly"), at.field("firstAvailable"));
    match (exactly.is_set(), !choices.is_empty()) {
        (false, false) => errors.required(at, ONE),
        (true, true) => errors.invalid_value(at, Value::Null, &format!("{ONE}, but multiple fields are set")),
        (true, false) => exact_request(&exactly, errors),
        (false, true) => distinct(&choices, MOST_CHOICES, name_of, errors, |choice, errors| {
            label(&choice.field("name"), errors);
            exact_request(choice, errors);
        }),
    }
}

/// A DNS label; an empty one is refused as such.
pub(crate) fn label(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(at) {
        errors.invalid_all(at, naming::label(at.text()));
    }
}

fn exact_request(at: &Node<'_, '_>, errors: &mut Errors) {
    let (class, mode, count) = (at.field("deviceClassName"), at.field("allocationMode"), at.field("count"));
    if errors.require_text(&class) {
        errors.invalid_all(&class, naming::subdomain(class.text()));
    }
    bounded(&at.field("selectors"), MOST, errors, selector);
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
    bounded(&at.field("tolerations"), MOST_TAINTS, errors, toleration);
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

fn taint_without_effect(at: &Node<'_, '_>, errors: &mut Errors) {
    labels::label_name(&at.field("key"), errors);
    let value = at.field("value");
    errors.invalid_all(&value, naming::label_value(value.text()));
}

fn effect(at: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(at) {
        errors.one_of(at, &EFFECTS);
    }
}

fn selector(at: &Node<'_, '_>, errors: &mut Errors) {
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

/// A new `DeviceClass`.
pub(crate) fn class(class: &Node<'_, '_>, errors: &mut Errors) {
    let spec = class.field("spec");
    class_spec(&spec, None, errors);
}

/// A changed `DeviceClass`: expressions and parameters that stay as they are stay allowed.
pub(crate) fn class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    class_spec(&new.field("spec"), Some(&old.field("spec")), errors);
}

fn class_spec(spec: &Node<'_, '_>, old: Option<&Node<'_, '_>>, errors: &mut Errors) {
    let is_new = |list: &str| old.is_none_or(|old| !spec.field(list).is_same(&old.field(list)));
    if is_new("selectors") {
        bounded(&spec.field("selectors"), MOST, errors, selector);
    }
    let new_config = is_new("config");
    bounded(&spec.field("config"), MOST, errors, |config, errors| configuration(config, new_config, errors));
    let extended = spec.field("extendedResourceName");
    if extended.is_set() && !resources::is_extended(extended.text()) {
        errors.invalid(&extended, "must be a valid extended resource name");
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
        bounded(list, MOST_CONDITIONS, errors, labels::label_name);
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

fn fully_qualified(at: &Node<'_, '_>, errors: &mut Errors) {
    qualified(at.text(), at, errors);
    if !at.text().contains('/') {
        errors.invalid(at, "a fully qualified name must be a domain and a name separated by a slash");
    }
}

/// A new `DeviceTaintRule`.
pub(crate) fn taint_rule(rule: &Node<'_, '_>, errors: &mut Errors) {
    let spec = rule.field("spec");
    taint_selector(&spec.field("deviceSelector"), errors);
    taint(&spec.field("taint"), errors);
}

/// A changed `DeviceTaintRule`: an effect that nobody knows any more may stay.
pub(crate) fn taint_rule_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let spec = new.field("spec");
    taint_selector(&spec.field("deviceSelector"), errors);
    let taint = spec.field("taint");
    taint_without_effect(&taint, errors);
    if taint.field("effect").text() != old.field("spec").field("taint").field("effect").text() {
        effect(&taint.field("effect"), errors);
    }
}

fn taint_selector(at: &Node<'_, '_>, errors: &mut Errors) {
    let (driver, pool, device) = (at.field("driver"), at.field("pool"), at.field("device"));
    if driver.is_set() {
        csi_driver_name(&driver, errors);
    }
    if pool.is_set() {
        pool_name(&pool, errors);
    }
    if device.is_set() {
        errors.invalid_all(&device, naming::label(device.text()));
    }
}

/// The status of a `DeviceTaintRule`.
pub(crate) fn taint_rule_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    const MOST_CONDITIONS: usize = 8;
    let status = new.field("status");
    let conditions = status.field("conditions");
    labels::conditions(&conditions, errors);
    if conditions.list().len() > MOST_CONDITIONS {
        errors.too_many(&conditions, conditions.list().len(), MOST_CONDITIONS);
    }
}
