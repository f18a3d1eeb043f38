//! Roles and ClusterRoles (upstream: `pkg/registry/rbac/{role,clusterrole}`).

use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::default_pointer;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};
use crate::object::Object;

pub(crate) const CLUSTER_ROLE: Kind = Kind {
    default,
    validate: cluster_role,
    validate_name: naming::path_segment_name,
    rechecks: (1, 1),
    create_on_update: true,
    ..Kind::cluster("clusterroles", "ClusterRole")
};

pub(crate) const ROLE: Kind = Kind {
    default,
    validate: role,
    validate_name: naming::path_segment_name,
    rechecks: (1, 1),
    create_on_update: true,
    ..Kind::namespaced("roles", "Role")
};

/// A `Role`.
fn role(role: &Node<'_, '_>, errors: &mut Errors) {
    for rule in role.field("rules").items() {
        policy_rule(&rule, true, errors);
    }
}

/// A `ClusterRole`.
fn cluster_role(role: &Node<'_, '_>, errors: &mut Errors) {
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

/// `rules` of roles are shown even when there are none.
fn default(object: &mut Object) {
    default_pointer(object.root_mut(), "rules", Value::Null);
}
