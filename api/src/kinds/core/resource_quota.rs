//! ResourceQuotas (upstream: `pkg/registry/core/resourcequota`).

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::{requirements, resources};
use crate::kinds::rules::fill;
use crate::kinds::rules::shown::Shape::{Any, List, Text};
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{age, or, plain};

pub(crate) const KIND: Kind = Kind {
    short_names: &["quota"],
    subresources: &[Sub::STATUS],
    cells: &[Row(cells)],
    default: fill::with_spec,
    fill_status: Some(|_| {}),
    validate,
    validate_change,
    validate_status,
    delete_returns_object: true,
    ..Kind::namespaced("resourcequotas", "ResourceQuota")
};

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

fn validate(quota: &Node<'_, '_>, errors: &mut Errors) {
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
            errors.invalid_shown(&list, &shown_scope_selector(selector), ELSEWHERE);
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

/// The scopes of a quota never change.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("spec"), old.field("spec"));
    let scopes = |at: &Node<'_, '_>| -> BTreeSet<String> { at.field("scopes").texts().map(str::to_owned).collect() };
    if scopes(&new) != scopes(&old) {
        errors.invalid(&new.field("scopes"), IMMUTABLE);
    }
}

/// What a quota is for.
fn shown_scope_selector(at: &Node<'_, '_>) -> Shown {
    const SCOPE: Table = &[("ScopeName", "scopeName", Text), ("Operator", "operator", Text), ("Values", "values", Any)];
    Shown::or_null(at.value(), &[("MatchExpressions", "matchExpressions", List(SCOPE))])
}

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
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

fn cells(quota: &Object, now: Timestamp) -> Vec<Value> {
    let hard = quota.get(&["status", "hard"]).and_then(Value::as_object);
    let mut names: Vec<&String> = hard.into_iter().flat_map(Map::keys).collect();
    names.sort();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for name in names {
        let used = plain(quota.get(&["status", "used", name]));
        let entry = format!("{name}: {}/{}", or(&used, "0"), plain(quota.get(&["status", "hard", name])));
        if name.starts_with("limits") { limits.push(entry) } else { requests.push(entry) }
    }
    vec![quota.name().into(), requests.join(", ").into(), limits.join(", ").into(), age(quota, now).into()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_spec;
    use serde_json::json;

    #[test]
    fn scopes_fit_what_is_counted() {
        check_spec(
            validate,
            json!({"hard": {"pods": "1", "services": "1"}, "scopes": ["BestEffort"]}),
            &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
        );
        check_spec(
            validate,
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
            &[
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ],
        );
    }
}
