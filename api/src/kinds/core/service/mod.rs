//! Services: defaults and what follows from the type (upstream: `pkg/registry/core/service`).

mod cells;
pub(crate) mod validate;
mod warn;

use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub, field};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, each, is_zero, object, text};
use crate::kinds::rules::tree::Fields;
use crate::kinds::rules::{load_balancer, naming};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::Row;

pub(crate) const KIND: Kind = Kind {
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[Sub::proxy("ServiceProxyOptions"), Sub::STATUS],
    prefix: Some("services/specs"),
    fields: &[field("spec.clusterIP"), field("spec.type")],
    cells: &[Row(cells::service)],
    default,
    fill_status: Some(fill_status),
    prepare_create,
    prepare_update,
    validate: validate::service,
    validate_change: validate::change,
    validate_status: validate::status,
    validate_name: naming::label_name,
    warn: warn::service,
    warn_status: load_balancer::warn,
    create_on_update: true,
    delete_returns_object: true,
    ..Kind::namespaced("services", "Service")
};

/// Seconds that `ClientIP` affinity lasts.
const AFFINITY_SECONDS: i64 = 10_800;

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_zero(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let config = fill::object(spec, "sessionAffinityConfig");
            default_pointer(fill::object(config, "clientIP"), "timeoutSeconds", AFFINITY_SECONDS);
        }
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        _ => {}
    }
    default_zero(spec, "type", "ClusterIP");
    each(spec, "ports", default_port);
    default_policies(spec);
}

/// The parts of a Service's status that are always shown.
fn fill_status(status: &mut Fields) {
    let balancer = object(status, "loadBalancer");
    each(balancer, "ingress", |point| {
        if !is_zero(point, "ip") {
            default_pointer(point, "ipMode", "VIP");
        }
    });
}

fn default_port(port: &mut Fields) {
    default_zero(port, "protocol", "TCP");
    if is_zero(port, "targetPort") {
        let number = port.get("port").cloned().unwrap_or_else(|| json!(0));
        port.insert("targetPort".to_owned(), number);
    }
}

fn default_policies(spec: &mut Fields) {
    let kind = text(spec, "type").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !is_zero(spec, "externalIPs")) {
        default_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        default_pointer(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default_pointer(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// `clusterIP` and the first of `clusterIPs` are one value.
fn prepare_create(_ctx: &WriteContext<'_>, new: &mut Object) {
    let spec = object(new.root_mut(), "spec");
    let first = first_cluster_ip(spec);
    match (text(spec, "clusterIP").to_owned(), first) {
        (single, None) if !single.is_empty() => {
            spec.insert("clusterIPs".to_owned(), json!([single]));
        }
        (single, Some(first)) if single.is_empty() => {
            spec.insert("clusterIP".to_owned(), first.into());
        }
        _ => {}
    }
}

/// Keeps what was allocated where the new object does not say otherwise, and drops what its new type does not have.
fn prepare_update(_ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
    let Some(before) = old.get(&["spec"]).and_then(Value::as_object).cloned() else { return };
    let spec = object(new.root_mut(), "spec");
    normalize_cluster_ips(spec, &before);
    keep_allocated(spec, &before);
    drop_type_dependent(spec, &before);
    let is_balanced = text(spec, "type") == "LoadBalancer";
    if !is_balanced && new.get(&["status", "loadBalancer"]).is_some() {
        new.set(&["status", "loadBalancer"], json!({}));
    }
}

fn first_cluster_ip(spec: &Fields) -> Option<String> {
    Some(spec.get("clusterIPs")?.get(0)?.as_str()?.to_owned())
}

/// A change of one of the two fields is a change of both.
fn normalize_cluster_ips(spec: &mut Fields, before: &Fields) {
    let same_list = spec.get("clusterIPs") == before.get("clusterIPs");
    let single = text(spec, "clusterIP").to_owned();
    if single != text(before, "clusterIP") {
        if same_list {
            if single.is_empty() {
                spec.remove("clusterIPs");
            } else {
                spec.insert("clusterIPs".to_owned(), json!([single]));
            }
        }
    } else if !same_list && is_zero(spec, "clusterIPs") {
        spec.remove("clusterIP");
    }
}

fn needs_cluster_ip(spec: &Fields) -> bool {
    matches!(text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// A load balancer that wants no node ports keeps those that it has.
fn needs_node_ports(spec: &Fields) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

fn needs_health_check_port(spec: &Fields) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn is_externally_accessible(spec: &Fields) -> bool {
    match text(spec, "type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !is_zero(spec, "externalIPs"),
        _ => false,
    }
}

fn keep_allocated(spec: &mut Fields, before: &Fields) {
    if needs_cluster_ip(spec) && needs_cluster_ip(before) {
        if is_zero(spec, "clusterIP")
            && let Some(ip) = before.get("clusterIP").cloned()
        {
            spec.insert("clusterIP".to_owned(), ip);
        }
        if is_zero(spec, "clusterIPs")
            && spec.get("clusterIP") == before.get("clusterIP")
            && let Some(list) = before.get("clusterIPs").cloned()
        {
            spec.insert("clusterIPs".to_owned(), list);
        }
    }
    if needs_node_ports(spec) && needs_node_ports(before) {
        keep_node_ports(spec, before);
    }
    if needs_health_check_port(spec)
        && needs_health_check_port(before)
        && let Some(port) = before.get("healthCheckNodePort").cloned()
    {
        default_zero(spec, "healthCheckNodePort", port);
    }
}

/// A port of the same name keeps its node port, unless another port claims it.
fn keep_node_ports(spec: &mut Fields, before: &Fields) {
    let list = |spec: &Fields| spec.get("ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut used: Vec<Value> = list(spec).iter().filter_map(|port| port.get("nodePort").cloned()).collect();
    let had = list(before);
    each(spec, "ports", |port| {
        if !is_zero(port, "nodePort") {
            return;
        }
        // Of several of one name, the last counts.
        let same = had.iter().rfind(|old| old.as_object().is_some_and(|old| text(old, "name") == text(port, "name")));
        let Some(node_port) = same.and_then(|old| old.get("nodePort")).filter(|node_port| !used.contains(node_port))
        else {
            return;
        };
        used.push(node_port.clone());
        port.insert("nodePort".to_owned(), node_port.clone());
    });
}

/// Values that were left as they were, for a type that had them, vanish with that type.
fn drop_type_dependent(spec: &mut Fields, before: &Fields) {
    let unchanged = |spec: &Fields, key: &str| spec.get(key) == before.get(key);
    if needs_cluster_ip(before) && !needs_cluster_ip(spec) {
        let same = unchanged(spec, "clusterIP") && unchanged(spec, "clusterIPs");
        if same {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if unchanged(spec, key) {
                spec.remove(key);
            }
        }
    }
    if needs_node_ports(before) && !needs_node_ports(spec) && same_node_ports(spec, before) {
        each(spec, "ports", |port| drop(port.remove("nodePort")));
    }
    if needs_health_check_port(before) && !needs_health_check_port(spec) && unchanged(spec, "healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
    if is_externally_accessible(before) && !is_externally_accessible(spec) && unchanged(spec, "externalTrafficPolicy") {
        spec.remove("externalTrafficPolicy");
    }
    let balanced = |spec: &Fields| text(spec, "type") == "LoadBalancer";
    if balanced(before) && !balanced(spec) {
        for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(spec, key) {
                spec.remove(key);
            }
        }
    }
}

/// Whether every node port of the new object was there before.
fn same_node_ports(spec: &Fields, before: &Fields) -> bool {
    let ports = |spec: &Fields| -> Vec<i64> {
        let list = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|port| port.get("nodePort")?.as_i64()).filter(|port| *port != 0).collect()
    };
    let had = ports(before);
    ports(spec).iter().all(|port| had.contains(port))
}
