//! What concerns nodes: their health and taints, the eviction of pods that do not tolerate these, and pod ranges.

pub(crate) mod eviction;
pub(crate) mod health;
pub(crate) mod ipam;
mod monitor;
pub(crate) mod ttl;

use client::Informer;
use k8s_openapi::api::core::v1::Pod;

/// Pods by the node they are bound to.
pub(crate) const BY_NODE: &str = "node";

/// Adds the index by node.
pub(crate) fn add_nodes(pods: &Informer<Pod>) {
    pods.add_index(BY_NODE, |pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect());
}
