//! Rules for LimitRanges and ResourceQuotas.

use std::collections::{BTreeSet, HashSet};

use crate::kinds::pods::{requirements, resources};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{naming, structs};
use crate::quantity::Quantity;

/// A `LimitRange`.
pub(crate) fn limit_range(range: &Node<'_, '_>, errors: &mut Errors) {
    let mut types = HashSet::new();
    let spec = range.field("spec");
    for limit in spec.field("limits").items() {
        let kind = limit.field("type");
        for why in limit_type(kind.text()) {
            errors.invalid_value(&kind, kind.text(), &why);
        }
        if !types.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        one_limit(&limit, kind.text(), errors);
    }
}

fn limit_type(kind: &str) -> Vec<String> {
    let mut wrong = naming::qualified_name(kind);
    if wrong.is_empty() && !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
        wrong.push("must be a standard limit type or fully qualified".to_owned());
    }
    wrong
}

fn one_limit(limit: &Node<'_, '_>, kind: &str, errors: &mut Errors) {
    let of_pod = kind == "Pod";
    for key in ["default", "defaultRequest"] {
        let field = limit.field(key);
        if of_pod && !field.is_empty() {
            errors.forbidden(&field, "may not be specified when `type` is 'Pod'");
        }
    }
    let lists: &[&str] = if of_pod {
        &["max", "min", "maxLimitRequestRatio"]
    } else {
        &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
    };
    let mut names = BTreeSet::new();
    for list in lists {
        for (name, at) in limit.field(list).entries() {
            if of_pod || kind == "Container" {
                requirements::container_name(name, &at, errors);
            } else {
                requirements::name(name, &at, errors);
            }
            names.insert(name);
        }
    }
    let storage = |list: &str| limit.field(list).field("storage").is_set();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&limit.field("limits"), why);
    }
    for name in names {
        Bounds { limit, lists, name }.check(errors);
    }
}

/// The bounds of one resource.
struct Bounds<'a, 'p, 'v> {
    limit: &'a Node<'p, 'v>,
    lists: &'a [&'a str],
    name: &'v str,
}

impl Bounds<'_, '_, '_> {
    fn quantity(&self, list: &str) -> Option<Quantity> {
        if self.lists.contains(&list) { resources::parse(&self.limit.field(list).field(self.name)) } else { None }
    }

    fn invalid(&self, list: &str, shown: Quantity, why: &str, errors: &mut Errors) {
        errors.invalid_value(&self.limit.field(list).key(self.name), shown.to_string(), why);
    }

    fn check(&self, errors: &mut Errors) {
        self.order(errors);
        self.ratio(errors);
        let (default, request) = (self.quantity("default"), self.quantity("defaultRequest"));
        let overcommit = resources::is_native(self.name) && !self.name.starts_with("hugepages-");
        if let (Some(default), Some(request), false) = (default, request, overcommit)
            && default != request
        {
            let why = format!("default value {default} must equal to defaultRequest value {request} in {}", self.name);
            self.invalid("defaultRequest", request, &why, errors);
        }
    }

    /// min <= default request <= default <= max, as far as they are given. Upstream shows the bound of a default.
    fn order(&self, errors: &mut Errors) {
        for (low, low_name, high, high_name, list, shown) in [
            ("min", "min", "max", "max", "min", "min"),
            ("min", "min", "defaultRequest", "default request", "defaultRequest", "defaultRequest"),
            ("defaultRequest", "default request", "max", "max", "defaultRequest", "defaultRequest"),
            ("defaultRequest", "default request", "default", "default limit", "defaultRequest", "defaultRequest"),
            ("min", "min", "default", "default", "default", "min"),
            ("default", "default", "max", "max", "default", "max"),
        ] {
            let (Some(low), Some(high), Some(shown)) = (self.quantity(low), self.quantity(high), self.quantity(shown))
            else {
                continue;
            };
            if low > high {
                let why = format!("{low_name} value {low} is greater than {high_name} value {high}");
                self.invalid(list, shown, &why, errors);
            }
        }
    }

    fn ratio(&self, errors: &mut Errors) {
        const LIST: &str = "maxLimitRequestRatio";
        let Some(ratio) = self.quantity(LIST) else { return };
        if ratio.milli_value() < 1000 {
            self.invalid(LIST, ratio, &format!("ratio {ratio} is less than 1"), errors);
        }
        if let (Some(min), Some(max)) = (self.quantity("min"), self.quantity("max")) {
            let most = max.to_f64() / min.to_f64();
            if ratio.to_f64() > most {
                let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
                self.invalid(LIST, ratio, &why, errors);
            }
        }
    }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Scopes of which a quota has one at most.
const EITHER: [(&str, &str); 2] = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
const ELSEWHERE: &str = "unsupported scope applied to resource";

/// A `ResourceQuota`.
pub(crate) fn resource_quota(quota: &Node<'_, '_>, errors: &mut Errors) {
    let spec = quota.field("spec");
    let hard = spec.field("hard");
    quota_resources(&hard, errors);
    let scopes = spec.field("scopes");
    let mut seen = HashSet::new();
    for scope in scopes.texts() {
        if !SCOPES.contains(&scope) {
            errors.invalid(&scopes, "unsupported scope");
        }
        for _ in hard.entries().filter(|(name, _)| is_for_quotas(name) && !counts(scope, name)) {
            errors.invalid(&scopes, ELSEWHERE);
        }
        seen.insert(scope);
    }
    conflicts(&seen, &scopes, errors);
    let selector = spec.field("scopeSelector");
    if selector.is_set() {
        scope_selector(&selector, &hard, &scopes, errors);
    }
}

fn conflicts(seen: &HashSet<&str>, scopes: &Node<'_, '_>, errors: &mut Errors) {
    for (one, other) in EITHER {
        if seen.contains(one) && seen.contains(other) {
            errors.invalid(scopes, "conflicting scopes");
        }
    }
}

/// Upstream names the list for what is wrong in an element.
fn scope_selector(selector: &Node<'_, '_>, hard: &Node<'_, '_>, scopes: &Node<'_, '_>, errors: &mut Errors) {
    const EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                          ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort \
                          or ResourceQuotaScopeCrossNamespacePodAffinity";
    let list = selector.field("matchExpressions");
    let (name_at, operator_at, values_at) = (list.field("scopeName"), list.field("operator"), list.field("values"));
    let mut seen = HashSet::new();
    for requirement in list.items() {
        let (scope, operator) = (requirement.field("scopeName").text(), requirement.field("operator").text());
        let values = requirement.field("values");
        if !SCOPES.contains(&scope) {
            errors.invalid_value(&name_at, scope, "unsupported scope");
        }
        for _ in hard.entries().filter(|(name, _)| is_for_quotas(name) && !counts(scope, name)) {
            errors.invalid_shown(&list, &structs::scope_selector(selector), ELSEWHERE);
        }
        let bare = EITHER.iter().any(|(one, other)| [*one, *other].contains(&scope));
        if (bare || scope == "CrossNamespacePodAffinity") && operator != "Exists" {
            errors.invalid_value(&operator_at, operator, EXISTS);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&values_at, why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid_value(&values_at, values.shown(), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid_value(&operator_at, operator, "not a valid selector operator"),
        }
        seen.insert(scope);
    }
    conflicts(&seen, scopes, errors);
}

/// Resources without a domain that quotas limit.
fn is_for_quotas(name: &str) -> bool {
    resources::is_standard(name) && name != "storage"
}

/// Whether a quota of this scope can count a resource.
fn counts(scope: &str, name: &str) -> bool {
    let computes =
        matches!(name, "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory");
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || computes
        }
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

/// The `status` of a `ResourceQuota`.
pub(crate) fn resource_quota_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    quota_resources(&status.field("hard"), errors);
    quota_resources(&status.field("used"), errors);
}

fn quota_resources(list: &Node<'_, '_>, errors: &mut Errors) {
    for (name, at) in list.entries() {
        requirements::name(name, &at, errors);
        if !name.contains('/') && !is_for_quotas(name) {
            errors.invalid_value(&at, name, "must be a standard resource for quota");
        }
        resources::value(name, &at, errors);
    }
}

/// The scopes of a quota never change.
pub(crate) fn resource_quota_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    let scopes = |at: &Node<'_, '_>| -> BTreeSet<String> { at.field("scopes").texts().map(str::to_owned).collect() };
    if scopes(&new) != scopes(&old) {
        errors.invalid(&new.field("scopes"), IMMUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(rule: fn(&Node<'_, '_>, &mut Errors), spec: &Value, want: &[&str]) {
        let object = json!({"spec": spec});
        let mut errors = Errors::default();
        rule(&Node::root(object.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn limits_are_in_order() {
        check(
            limit_range,
            &json!({"limits": [{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1500m"}}]}),
            &[
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1500m\": default request value 1500m is greater than default limit value 1",
            ],
        );
        check(
            limit_range,
            &json!({"limits": [{"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}]}),
            &[
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ],
        );
    }

    #[test]
    fn scopes_fit_what_is_counted() {
        check(
            resource_quota,
            &json!({"hard": {"pods": "1", "services": "1"}, "scopes": ["BestEffort"]}),
            &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
        );
        check(
            resource_quota,
            &json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
            &[
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ],
        );
    }
}
