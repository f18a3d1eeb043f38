//! Rules for roles and their bindings.

use serde_json::Value;

use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};

/// A `Role`.
pub(crate) fn role(role: &Node<'_, '_>, errors: &mut Errors) {
    for rule in role.field("rules").items() {
        policy_rule(&rule, true, errors);
    }
}

/// A `ClusterRole`.
pub(crate) fn cluster_role(role: &Node<'_, '_>, errors: &mut Errors) {
    for rule in role.field("rules").items() {
        policy_rule(&rule, false, errors);
    }
    let aggregation = role.field("aggregationRule");
    if aggregation.is_set() {
        let selectors = aggregation.field("clusterRoleSelectors");
        if selectors.is_empty() {
            errors.required(&selectors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for selector in selectors.items() {
            let before = errors.0.len();
            labels::selector(&selector, errors);
            if errors.0.len() > before {
                // Upstream shows what it made of the selector: nothing.
                errors.invalid_value(&selector, Value::Null, "invalid label selector.");
            }
        }
    }
}

fn policy_rule(rule: &Node<'_, '_>, namespaced: bool, errors: &mut Errors) {
    let verbs = rule.field("verbs");
    if verbs.is_empty() {
        errors.required(&verbs, "verbs must contain at least one value");
    }
    let (urls, groups, kinds) = (rule.field("nonResourceURLs"), rule.field("apiGroups"), rule.field("resources"));
    if !urls.is_empty() {
        if namespaced {
            errors.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
        }
        if !groups.is_empty() || !kinds.is_empty() || !rule.field("resourceNames").is_empty() {
            errors.invalid(&urls, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if groups.is_empty() {
        errors.required(&groups, "resource rules must supply at least one api group");
    }
    if kinds.is_empty() {
        errors.required(&kinds, "resource rules must supply at least one resource");
    }
}

/// A `RoleBinding`.
pub(crate) fn role_binding(binding: &Node<'_, '_>, errors: &mut Errors) {
    bind(binding, &["Role", "ClusterRole"], errors);
}

/// A `ClusterRoleBinding`.
pub(crate) fn cluster_role_binding(binding: &Node<'_, '_>, errors: &mut Errors) {
    bind(binding, &["ClusterRole"], errors);
}

fn bind(binding: &Node<'_, '_>, kinds: &[&str], errors: &mut Errors) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let reference = binding.field("roleRef");
    if reference.field("apiGroup").text() != GROUP {
        errors.one_of(&reference.field("apiGroup"), &[GROUP]);
    }
    errors.one_of(&reference.field("kind"), kinds);
    let name = reference.field("name");
    if errors.require_text(&name) {
        errors.invalid_all(&name, naming::path_segment_name(name.text(), false));
    }
    for subject in binding.field("subjects").items() {
        subject_rules(&subject, kinds.len() == 2, errors);
    }
}

fn subject_rules(subject: &Node<'_, '_>, namespaced: bool, errors: &mut Errors) {
    let (kind, name, group) = (subject.field("kind"), subject.field("name"), subject.field("apiGroup"));
    errors.require_text(&name);
    match kind.text() {
        "ServiceAccount" => {
            if !name.text().is_empty() {
                errors.invalid_all(&name, naming::subdomain(name.text()));
            }
            if !group.text().is_empty() {
                errors.one_of(&group, &[""]);
            }
            if !namespaced && subject.field("namespace").text().is_empty() {
                errors.required(&subject.field("namespace"), "");
            }
        }
        "User" | "Group" => errors.one_of(&group, &["rbac.authorization.k8s.io"]),
        _ => errors.one_of(&kind, &["ServiceAccount", "User", "Group"]),
    }
}

/// The role of a binding never changes.
pub(crate) fn role_binding_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new, old) = (new.field("roleRef"), old.field("roleRef"));
    if new.value() != old.value() {
        let text = |key: &str| Value::from(new.field(key).text());
        let shown = Shown::fields([("APIGroup", text("apiGroup")), ("Kind", text("kind")), ("Name", text("name"))]);
        errors.invalid_shown(&new, &shown, "cannot change roleRef");
    }
}
