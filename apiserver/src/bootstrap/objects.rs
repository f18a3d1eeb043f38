//! The list of bootstrap objects.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::trust;
use crate::config::{Config, EndpointReconciler};
use crate::error::Error;

/// The ConfigMap that upstream's token cleaner reads.
pub(super) const LEGACY_TOKEN_TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";

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
    trees.push(legacy_token_tracking(Timestamp::now()));
    let mut all: Vec<Object> = trees.into_iter().filter_map(Object::from_value).collect();
    // If there are several servers, they count each other.
    if !config.shares_store {
        all.extend(endpoints(config, &published(config).into_iter().collect()));
    }
    Ok(all)
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

/// The Service that pods reach the servers by. Where it leads is in [`endpoints`].
fn kubernetes_service(config: &Config) -> Option<Value> {
    let range = config.service_cluster_ip_ranges.first()?;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    Some(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": range.nth(1).to_string(), "clusterIPs": [range.nth(1).to_string()], "type": "ClusterIP",
            "ipFamilies": [range.family()], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.secure_port}],
        },
    }))
}

/// The address of this server that others can reach, if it is to be published. Endpoints may not be loopback or
/// unspecified addresses: then there is nothing to reach from a pod.
pub(super) fn published(config: &Config) -> Option<IpAddr> {
    let address = config.advertise_address.unwrap_or(config.bind_address);
    let is_of_use = !address.is_loopback() && !address.is_unspecified();
    (is_of_use
        && config.endpoint_reconciler_type != EndpointReconciler::None
        && !config.service_cluster_ip_ranges.is_empty())
    .then_some(address)
}

/// The endpoints of the Service `kubernetes`: servers at these addresses, all on the port of this one.
pub(super) fn endpoints(config: &Config, addresses: &BTreeSet<IpAddr>) -> Vec<Object> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let ports = json!([{"name": "https", "port": config.secure_port, "protocol": "TCP"}]);
    let ips: Vec<Value> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
    let mirrored = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": mirrored},
        "subsets": [{"addresses": ips, "ports": ports}],
    });
    // A slice has addresses of one family.
    let alike = addresses.iter().filter(|address| address.is_ipv4() == first.is_ipv4());
    let ready: Vec<Value> =
        alike.map(|address| json!({"addresses": [address.to_string()], "conditions": {"ready": true}})).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if first.is_ipv4() { "IPv4" } else { "IPv6" }, "endpoints": ready, "ports": ports,
    });
    [endpoints, slice].into_iter().filter_map(Object::from_value).collect()
}

/// Since when tokens that were found in Secrets, and not asked for, are noted when they are used: whoever cleans them up
/// waits for as long as that (KEP-2799).
fn legacy_token_tracking(now: Timestamp) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": LEGACY_TOKEN_TRACKING, "namespace": "kube-system"},
        "data": {"since": now.strftime("%Y-%m-%d").to_string()},
    })
}

/// A beginning that is a date stays; another is now.
pub(super) fn complete_tracking(stored: &mut Object, wanted: &Object) {
    if stored.text(&["data", "since"]).parse::<jiff::civil::Date>().is_err() {
        stored.set(&["data", "since"], wanted.text(&["data", "since"]));
    }
}
