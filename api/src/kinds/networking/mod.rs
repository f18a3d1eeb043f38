//! Ingresses, IngressClasses, NetworkPolicies, EndpointSlices, ServiceCIDRs: defaults.

pub(crate) mod ingress;

use serde_json::{Value, json};

use super::rules::tree;
use crate::kinds::rules::tree::{default_pointer, default_zero, each, is_unset, is_zero, object_at, text};
use crate::object::Object;
use crate::strategy::{WriteContext, content_changed};

/// Defaults of an `IngressClass`.
pub(crate) fn ingress_class(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    if let Some(parameters) = object_at(spec, "parameters") {
        default_pointer(parameters, "scope", "Cluster");
    }
}

/// Defaults of a `NetworkPolicy`: a policy without types governs ingress, and egress when it has egress rules.
pub(crate) fn network_policy(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    tree::object(spec, "podSelector");
    for rules in ["ingress", "egress"] {
        each(spec, rules, |rule| each(rule, "ports", |port| default_pointer(port, "protocol", "TCP")));
    }
    if is_zero(spec, "policyTypes") {
        let types = if is_zero(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".to_owned(), types);
    }
}

/// Defaults of an `EndpointSlice`.
pub(crate) fn endpoint_slice(object: &mut Object) {
    let root = object.root_mut();
    default_pointer(root, "addressType", "");
    default_pointer(root, "endpoints", Value::Null);
    default_pointer(root, "ports", Value::Null);
    each(root, "endpoints", |endpoint| {
        tree::object(endpoint, "conditions");
    });
    each(root, "ports", |port| {
        default_pointer(port, "name", "");
        default_pointer(port, "protocol", "TCP");
    });
}

/// New slices have no `deprecatedTopology`, which the API before v1 had.
pub(crate) fn prepare_endpoint_slice(_ctx: &WriteContext<'_>, new: &mut Object) {
    each(new.root_mut(), "endpoints", |endpoint| drop(endpoint.remove("deprecatedTopology")));
}

/// Slices of former times keep their topology while their endpoints stay as they are.
pub(crate) fn prepare_endpoint_slice_update(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    if new.get(&["endpoints"]) != old.get(&["endpoints"]) {
        prepare_endpoint_slice(ctx, new);
    }
}

/// The labels of an `EndpointSlice` say whose it is, so that a change of them counts, too.
pub(crate) fn slice_is_new_generation(new: &Object, old: &Object) -> bool {
    content_changed(new, old) || new.labels() != old.labels()
}

/// Defaults of a `HorizontalPodAutoscaler` (autoscaling/v2).
pub(crate) fn autoscaler(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    default_pointer(spec, "minReplicas", 1);
    if is_zero(spec, "metrics") {
        let metric = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics".to_owned(), metric);
    }
    let Some(behavior) = object_at(spec, "behavior") else { return };
    // Whoever says something of one direction gets the whole of the other.
    let up = tree::object(behavior, "scaleUp");
    default_pointer(up, "stabilizationWindowSeconds", 0);
    default_pointer(up, "selectPolicy", "Max");
    if is_unset(up, "policies") {
        up.insert("policies".to_owned(), json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]));
    }
    let down = tree::object(behavior, "scaleDown");
    default_pointer(down, "selectPolicy", "Max");
    if is_unset(down, "policies") {
        down.insert("policies".to_owned(), json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
}

/// The parts of an autoscaler's status that are always shown.
pub(crate) fn autoscaler_status(status: &mut tree::Fields) {
    default_pointer(status, "desiredReplicas", 0);
    default_pointer(status, "currentMetrics", Value::Null);
}

/// The parts of a disruption budget's status that are always shown.
pub(crate) fn disruption_budget_status(status: &mut tree::Fields) {
    for count in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        default_pointer(status, count, 0);
    }
}

/// Defaults of a `RoleBinding` or `ClusterRoleBinding`.
pub(crate) fn role_binding(object: &mut Object) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let root = object.root_mut();
    default_zero(tree::object(root, "roleRef"), "apiGroup", RBAC);
    each(root, "subjects", |subject| {
        let group = if matches!(text(subject, "kind"), "User" | "Group") { RBAC } else { "" };
        if !group.is_empty() {
            default_zero(subject, "apiGroup", group);
        }
    });
}

/// `rules` of roles are shown even when there are none.
pub(crate) fn role(object: &mut Object) {
    default_pointer(object.root_mut(), "rules", Value::Null);
}
