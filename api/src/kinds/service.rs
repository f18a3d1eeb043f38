//! Services: defaults, and the pure decisions of cluster IP and node port allocation.

use serde_json::json;

use super::tree::{Fields, default_pointer, default_zero, each, is_zero, object, text};
use crate::object::Object;

/// Seconds that `ClientIP` affinity lasts.
const AFFINITY_SECONDS: i64 = 10_800;

/// Defaults of a `Service`.
pub(crate) fn service(object: &mut Object) {
    let spec = super::tree::object(object.root_mut(), "spec");
    default_zero(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let config = super::tree::object(spec, "sessionAffinityConfig");
            default_pointer(super::tree::object(config, "clientIP"), "timeoutSeconds", AFFINITY_SECONDS);
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

/// The parts of a Service's or Ingress's status that are always shown.
pub(crate) fn status(status: &mut Fields) {
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
