//! Rules for cluster-wide kinds: priorities, leases, runtime classes, certificates, flow control, devices.

use std::collections::HashSet;

use serde_json::Value;

use super::tree::{Errors, IMMUTABLE, NOT_NEGATIVE, Node};
use super::{meta, rules, storage_classes};

/// The highest priority that users may give.
const MAX_USER_PRIORITY: i64 = 1_000_000_000;

/// A `PriorityClass`; only the two of the system may be higher than users' ones.
pub(crate) fn priority_class(class: &Node<'_, '_>, errors: &mut Errors) {
    let metadata = class.field("metadata");
    let (name, value) = (metadata.field("name"), class.field("value"));
    let system = match name.text() {
        "system-node-critical" => Some(2_000_001_000),
        "system-cluster-critical" => Some(2_000_000_000),
        _ => None,
    };
    if name.text().starts_with("system-") {
        if system != Some(value.number()) || class.field("globalDefault").is_true() {
            let why = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let detail = if system.is_some() {
                format!("{why}value of {} PriorityClass must be {}", name.text(), system.unwrap_or_default())
            } else {
                format!("{why}{} is not a known system priority class", name.text())
            };
            errors.forbidden(&name, &detail);
        }
    } else if value.number() > MAX_USER_PRIORITY {
        errors.forbidden(&value, "maximum allowed value of a user defined priority is 1000000000");
    }
    errors.none_or_one_of(&class.field("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
}

/// What may not change in a `PriorityClass`.
pub(crate) fn priority_class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for (key, why) in [("value", "may not be changed in an update."), ("preemptionPolicy", "")] {
        let (new, old) = (new.field(key), old.field(key));
        if new.value() == old.value() {
            continue;
        }
        if why.is_empty() {
            errors.invalid(&new, IMMUTABLE);
        } else {
            errors.forbidden(&new, why);
        }
    }
}

/// A `Lease`.
pub(crate) fn lease(lease: &Node<'_, '_>, errors: &mut Errors) {
    let spec = lease.field("spec");
    let duration = spec.field("leaseDurationSeconds");
    if duration.integer().is_some_and(|seconds| seconds <= 0) {
        errors.invalid(&duration, "must be greater than 0");
    }
    errors.non_negative(&spec.field("leaseTransitions"));
    let (strategy, preferred) = (spec.field("strategy"), spec.field("preferredHolder"));
    if !strategy.text().is_empty() && !matches!(strategy.text(), "OldestEmulationVersion") {
        errors.invalid_all(&strategy, rules::qualified_name(strategy.text()));
    }
    if !preferred.text().is_empty() && strategy.text().is_empty() {
        errors.forbidden(&preferred, "may only be specified if `strategy` is defined");
    }
}

/// A `RuntimeClass`.
pub(crate) fn runtime_class(class: &Node<'_, '_>, errors: &mut Errors) {
    let handler = class.field("handler");
    if errors.require_text(&handler) {
        errors.invalid_all(&handler, rules::label(handler.text()));
    }
    let overhead = class.field("overhead");
    for (name, quantity) in overhead.field("podFixed").entries() {
        super::resources::value(name, &quantity, errors);
    }
    let scheduling = class.field("scheduling");
    meta::labels(&scheduling.field("nodeSelector"), errors);
    super::affinity::tolerations(&scheduling.field("tolerations"), errors);
}

/// The handler of a `RuntimeClass` never changes.
pub(crate) fn runtime_class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("handler"), &old.field("handler"));
}

/// A `FlowSchema`.
pub(crate) fn flow_schema(schema: &Node<'_, '_>, errors: &mut Errors) {
    let spec = schema.field("spec");
    let precedence = spec.field("matchingPrecedence");
    if precedence.number() <= 0 {
        errors.invalid(&precedence, "must be a positive value");
    }
    if precedence.number() > 10_000 {
        errors.invalid(&precedence, "must not be greater than 10000");
    }
    let method = spec.field("distinguisherMethod");
    if method.is_set() {
        let kind = method.field("type");
        if kind.text().is_empty() {
            errors.required(&method, "must specify type");
        } else {
            errors.one_of(&kind, &["ByNamespace", "ByUser"]);
        }
    }
    let level = spec.field("priorityLevelConfiguration");
    let name = level.field("name");
    if name.text().is_empty() {
        errors.required(&name, "must reference a priority level");
    } else {
        errors.invalid_all(&name, rules::subdomain(name.text()));
    }
    for rule in spec.field("rules").items() {
        flow_rule(&rule, errors);
    }
}

fn flow_rule(rule: &Node<'_, '_>, errors: &mut Errors) {
    let subjects = rule.field("subjects");
    if subjects.is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    for subject in subjects.items() {
        let kind = subject.field("kind");
        let field = match kind.text() {
            "User" => "user",
            "Group" => "group",
            "ServiceAccount" => "serviceAccount",
            "" => {
                errors.required(&kind, "");
                continue;
            }
            _ => {
                errors.one_of(&kind, &["Group", "ServiceAccount", "User"]);
                continue;
            }
        };
        let named = subject.field(field);
        if named.is_unset() {
            errors.required(&named, &format!("{field} is required when subject kind is '{}'", kind.text()));
        } else {
            errors.require_text(&named.field("name"));
        }
    }
    let (resources, urls) = (rule.field("resourceRules"), rule.field("nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        errors.required(rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for resource in resources.items() {
        for key in ["verbs", "apiGroups", "resources"] {
            let list = resource.field(key);
            if list.is_empty() {
                errors.required(&list, &format!("resource rules must supply at least one {}", what_of(key)));
            }
        }
        if resource.field("namespaces").is_empty() && !resource.field("clusterScope").is_true() {
            let namespaces = resource.field("namespaces");
            errors
                .required(&namespaces, "resource rules that are not cluster scoped must supply at least one namespace");
        }
    }
    for url in urls.items() {
        for key in ["verbs", "nonResourceURLs"] {
            if url.field(key).is_empty() {
                errors.required(&url.field(key), &format!("{key} must contain at least one value"));
            }
        }
    }
}

fn what_of(key: &str) -> &str {
    match key {
        "verbs" => "verb",
        "apiGroups" => "api group",
        _ => "resource",
    }
}

/// A `PriorityLevelConfiguration`.
pub(crate) fn priority_level(level: &Node<'_, '_>, errors: &mut Errors) {
    let spec = level.field("spec");
    let (kind, limited, exempt) = (spec.field("type"), spec.field("limited"), spec.field("exempt"));
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                errors.forbidden(&limited, "must be nil if the type is not Limited");
            }
            shares(&exempt, errors);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.forbidden(&exempt, "must be nil if the type is Limited");
            }
            if limited.is_unset() {
                errors.required(&limited, "must not be empty when type is Limited");
            } else {
                limits(&limited, errors);
            }
        }
        _ => errors.one_of(&kind, &["Exempt", "Limited"]),
    }
}

fn shares(at: &Node<'_, '_>, errors: &mut Errors) {
    let nominal = at.field("nominalConcurrencyShares");
    if nominal.integer().is_some_and(|shares| shares < 0) {
        errors.invalid(&nominal, "must be a non-negative integer");
    }
    let lendable = at.field("lendablePercent");
    if lendable.integer().is_some_and(|percent| !(0..=100).contains(&percent)) {
        errors.invalid(&lendable, "must be between 0 and 100, inclusive");
    }
}

fn limits(limited: &Node<'_, '_>, errors: &mut Errors) {
    shares(limited, errors);
    let borrowing = limited.field("borrowingLimitPercent");
    if borrowing.integer().is_some_and(|percent| percent < 0) {
        errors.invalid(&borrowing, "if specified, must be a non-negative integer");
    }
    let response = limited.field("limitResponse");
    let (kind, queuing) = (response.field("type"), response.field("queuing"));
    match kind.text() {
        "Reject" => {
            if queuing.is_set() {
                errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" => {
            if queuing.is_unset() {
                errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
                return;
            }
            let (queues, hand) = (queuing.field("queues"), queuing.field("handSize"));
            for field in [&queues, &hand, &queuing.field("queueLengthLimit")] {
                if field.number() <= 0 {
                    errors.invalid_value(field, field.number(), "must be positive");
                }
            }
            if queues.number() > 10_000_000 {
                errors.invalid(&queues, "must not be greater than 10000000");
            }
            if hand.number() > queues.number() {
                errors.invalid(&hand, &format!("should not be greater than queues ({})", queues.number()));
            }
        }
        _ => errors.one_of(&kind, &["Queue", "Reject"]),
    }
}

/// A `ResourceClaim`.
pub(crate) fn resource_claim(claim: &Node<'_, '_>, errors: &mut Errors) {
    let spec = claim.field("spec");
    devices(&spec.field("devices"), errors);
}

/// A `ResourceClaimTemplate`.
pub(crate) fn resource_claim_template(template: &Node<'_, '_>, errors: &mut Errors) {
    let outer = template.field("spec");
    let metadata = outer.field("metadata");
    meta::labels(&metadata.field("labels"), errors);
    let spec = outer.field("spec");
    devices(&spec.field("devices"), errors);
}

fn devices(at: &Node<'_, '_>, errors: &mut Errors) {
    let requests = at.field("requests");
    if requests.list().len() > 32 {
        errors.too_many(&requests, requests.list().len(), 32);
    }
    let mut names = HashSet::new();
    for request in requests.items() {
        let name = request.field("name");
        if !names.insert(name.text()) {
            errors.duplicate(&name);
        }
        request_name(&name, errors);
        let (exactly, choices) = (request.field("exactly"), request.field("firstAvailable"));
        match (exactly.is_set(), !choices.is_empty()) {
            (false, false) => errors.required(&request, "exactly one of `exactly` or `firstAvailable` is required"),
            (true, true) => errors.invalid_value(
                &request,
                Value::Null,
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            ),
            (true, false) => device_request(&exactly, errors),
            (false, true) => {
                for choice in choices.items() {
                    request_name(&choice.field("name"), errors);
                    device_request(&choice, errors);
                }
            }
        }
    }
    for constraint in at.field("constraints").items() {
        for request in constraint.field("requests").items() {
            let parent = request.text().split('/').next().unwrap_or("");
            if !names.contains(parent) {
                errors.invalid(&request, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'");
            }
        }
    }
}

fn request_name(name: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(name) {
        errors.invalid_all(name, rules::label(name.text()));
    }
}

fn device_request(at: &Node<'_, '_>, errors: &mut Errors) {
    let (class, mode, count) = (at.field("deviceClassName"), at.field("allocationMode"), at.field("count"));
    if errors.require_text(&class) {
        errors.invalid_all(&class, rules::subdomain(class.text()));
    }
    match mode.text() {
        "All" => {
            if count.number() != 0 {
                errors.invalid(&count, "must not be specified when allocationMode is 'All'");
            }
        }
        "ExactCount" => {
            if count.number() <= 0 {
                errors.invalid_value(&count, count.number(), "must be greater than zero");
            }
        }
        _ => errors.one_of(&mode, &["All", "ExactCount"]),
    }
}

/// The spec of a `ResourceClaim` never changes.
pub(crate) fn resource_claim_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    if !new.is_same(&old) {
        errors.invalid_shown(&new, &super::dump::resource_claim_spec(&new), IMMUTABLE);
    }
}

/// The spec of a template never changes.
pub(crate) fn spec_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("spec"), &old.field("spec"));
}

/// A `DeviceClass`.
pub(crate) fn device_class(class: &Node<'_, '_>, errors: &mut Errors) {
    let spec = class.field("spec");
    let selectors = spec.field("selectors");
    if selectors.list().len() > 32 {
        errors.too_many(&selectors, selectors.list().len(), 32);
    }
    for selector in selectors.items() {
        let cel = selector.field("cel");
        if cel.is_unset() {
            errors.required(&cel, "");
        } else if let Err(why) = crate::expression::compile_device_selector(cel.field("expression").text()) {
            errors.invalid(&cel.field("expression"), &why);
        }
    }
    for config in spec.field("config").items() {
        let opaque = config.field("opaque");
        if opaque.is_unset() {
            errors.required(&opaque, "");
        } else {
            storage_classes::csi_driver_name(&opaque.field("driver"), errors);
        }
    }
}

/// A `ResourceSlice`.
pub(crate) fn resource_slice(slice: &Node<'_, '_>, errors: &mut Errors) {
    let spec = slice.field("spec");
    let driver = spec.field("driver");
    if errors.require_text(&driver) {
        errors.invalid_all(&driver, rules::subdomain(driver.text()));
    }
    let pool = spec.field("pool");
    let (name, generation, count) = (pool.field("name"), pool.field("generation"), pool.field("resourceSliceCount"));
    if errors.require_text(&name) {
        for part in name.text().split('/') {
            errors.invalid_all(&name, rules::subdomain(part));
        }
    }
    if count.number() <= 0 {
        errors.invalid_value(&count, count.number(), "must be greater than zero");
    }
    if generation.number() < 0 {
        errors.invalid(&generation, NOT_NEGATIVE);
    }
    let mut names = HashSet::new();
    for device in spec.field("devices").items() {
        let name = device.field("name");
        request_name(&name, errors);
        if !names.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}
