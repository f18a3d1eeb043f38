//! The list of bootstrap objects.

use api::Object;
use serde_json::{Value, json};

use super::trust;
use crate::config::Config;
use crate::error::Error;

/// Everything but roles, their bindings and flow control.
pub(super) fn all(config: &Config) -> Result<Vec<Object>, Error> {
    let namespaces = ["kube-system", "kube-public", "kube-node-lease", "default"];
    let mut trees: Vec<Value> = namespaces.iter().map(|name| namespace(name)).collect();
    trees.push(priority_class(
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ));
    trees.push(priority_class(
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ));
    trees.extend(service_ranges(config));
    trees.extend(kubernetes_service(config));
    trees.extend(trust::object(config)?);
    Ok(trees.into_iter().filter_map(Object::from_value).collect())
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn priority_class(name: &str, value: i64, description: &str) -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": name}, "value": value, "description": description,
    })
}

fn service_ranges(config: &Config) -> Option<Value> {
    let ranges: Vec<String> = config.service_cluster_ip_ranges.iter().map(ToString::to_string).collect();
    let tree = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ranges},
    });
    (!ranges.is_empty()).then_some(tree)
}

/// The Service that pods reach this server by, and where it leads.
fn kubernetes_service(config: &Config) -> Vec<Value> {
    let Some(range) = config.service_cluster_ip_ranges.first() else { return Vec::new() };
    let address = config.advertise_address.unwrap_or(config.bind_address);
    let port = config.secure_port;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": range.nth(1).to_string(), "clusterIPs": [range.nth(1).to_string()], "type": "ClusterIP",
            "ipFamilies": [range.family()], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    // Endpoints may not be loopback or unspecified addresses: then there is nothing to reach from a pod.
    if address.is_loopback() || address.is_unspecified() || !config.publish_endpoints {
        return vec![service];
    }
    let mirrored = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": mirrored},
        "subsets": [{"addresses": [{"ip": address.to_string()}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    vec![service, endpoints, slice]
}
