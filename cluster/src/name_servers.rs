//! Which nodes answer DNS: the endpoints of the Service kube-dns (upstream: CoreDNS is a Deployment, and the add-on
//! NodeLocal DNSCache a DaemonSet).
//!
//! Every node answers for its own pods, by the Service's address as ever: the Service prefers the endpoint of the same node
//! (KEP-3015), and any other stands in where that one is not there. A listener at the Service's address on each node would
//! have no stand-in, and would need rules that keep the proxy from the packets first.
//!
//! ```text
//! Nodes with the label -> doubted -> one EndpointSlice, written when it says something else
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Event, InformerStopped, Informers};
use facts::nodes;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::addons;
use crate::node::{ANSWERS_DNS, ClusterNetwork};

/// As many endpoints as a slice can have; pods of further nodes ask others.
const MOST: usize = 1000;
/// Wait after the slice could not be written.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the endpoints until shutdown. `client` may write EndpointSlices in kube-system.
pub(crate) async fn run(
    client: kube::Client,
    network: ClusterNetwork,
    shutdown: CancellationToken,
) -> Result<(), InformerStopped> {
    let informers = Informers::new(client.clone());
    let known = informers.with_labels::<Node>(ANSWERS_DNS);
    known.set_transform(reduce);
    let changed = Arc::new(Notify::new());
    let notify = Arc::clone(&changed);
    known.on_event(move |event| match event {
        Event::Applied { old: Some(old), new } if old.status == new.status => {}
        _ => notify.notify_one(),
    });
    let keep = async {
        let mut written: Option<Value> = None;
        loop {
            let wanted = slice(&known.list(), &network);
            let done = match &written {
                Some(written) if *written == wanted => Ok(()),
                _ => addons::apply(&client, &wanted).await,
            };
            match done {
                Ok(()) => written = Some(wanted),
                Err(err) => {
                    warn!(error = &err as &dyn std::error::Error, "the endpoints of DNS are not written");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = changed.notified() => {}
            }
        }
    };
    informers.beside(&shutdown, keep).await.map(|_| ())
}

/// Leaves of a node what [`slice`] reads.
fn reduce(node: &mut Node) {
    (node.metadata.labels, node.metadata.annotations, node.metadata.managed_fields) = (None, None, None);
    node.spec = None;
    let status = node.status.take().unwrap_or_default();
    let ready = status.conditions.into_iter().flatten().filter(|condition| condition.type_ == "Ready");
    let plain = |condition: NodeCondition| NodeCondition {
        type_: condition.type_,
        status: condition.status,
        ..NodeCondition::default()
    };
    let conditions = Some(ready.map(plain).collect());
    node.status = Some(NodeStatus { addresses: status.addresses, conditions, ..NodeStatus::default() });
}

/// The slice that names all of them. A node says itself where it is: addresses of pods, Services and other nodes are not its.
fn slice(known: &[Arc<Node>], network: &ClusterNetwork) -> Value {
    let mut known: Vec<&Arc<Node>> = known.iter().collect();
    known.sort_by_key(|node| (node.metadata.creation_timestamp.as_ref().map(|time| time.0), &node.metadata.name));
    let mut taken = BTreeSet::new();
    let placed = known.into_iter().filter_map(|node| {
        let address = address(node, network).filter(|address| taken.insert(*address))?;
        Some(endpoint(node, address))
    });
    let endpoints: Vec<Value> = placed.take(MOST).collect();
    let family = if network.dns.is_ipv4() { "IPv4" } else { "IPv6" };
    addons::dns_slice(family, endpoints)
}

fn endpoint(node: &Node, address: IpAddr) -> Value {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    json!({
        "addresses": [address],
        "conditions": {"ready": nodes::is_ready(node)},
        "nodeName": name,
        "hints": {"forNodes": [{"name": name}]},
    })
}

/// The node's first address of the family of DNS, if it can be a node's.
fn address(node: &Node, network: &ClusterNetwork) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.iter().flatten().filter(|one| one.type_ == "InternalIP");
    let mut parsed = addresses.filter_map(|one| one.address.parse::<IpAddr>().ok());
    let address = parsed.find(|address| address.is_ipv4() == network.dns.is_ipv4())?;
    let mut ranges = network.pods.iter().chain(&network.services);
    (host::is_elsewhere(address) && !ranges.any(|range| range.contains(address))).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, day: u8, address: &str, ready: &str) -> Arc<Node> {
        let mut node: Node = serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
            "spec": {"podCIDR": "10.244.0.0/24"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "fd00::1"}, {"type": "InternalIP", "address": address}],
                "conditions": [
                    {"type": "MemoryPressure", "status": "False"},
                    {"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"},
                ],
            },
        }))
        .unwrap();
        reduce(&mut node);
        Arc::new(node)
    }

    #[test]
    fn every_node_is_the_first_choice_of_its_own_pods_and_a_liar_is_nobodys() {
        let network = ClusterNetwork {
            pods: vec!["10.244.0.0/16".parse().unwrap()],
            services: vec!["10.96.0.0/16".parse().unwrap()],
            balancers: Vec::new(),
            dns: [10, 96, 0, 10].into(),
            domain: "cluster.local".to_owned(),
        };
        let known = [
            node("late", 9, "192.0.2.1", "True"),
            node("one", 1, "192.0.2.1", "True"),
            node("two", 2, "192.0.2.2", "Unknown"),
            node("service", 3, "10.96.0.1", "True"),
            node("pod", 3, "10.244.3.3", "True"),
            node("loop", 3, "127.0.0.1", "True"),
            node("none", 3, "six", "True"),
        ];
        let slice = slice(&known, &network);
        let endpoints = slice["endpoints"].as_array().unwrap();
        let told: Vec<String> = endpoints
            .iter()
            .map(|one| format!("{} {} {}", one["nodeName"], one["addresses"][0], one["conditions"]["ready"]))
            .collect();
        assert_eq!(told, ["\"one\" \"192.0.2.1\" true", "\"two\" \"192.0.2.2\" false"]);
        assert_eq!(endpoints[1]["hints"]["forNodes"][0]["name"], "two");
        assert_eq!(slice["addressType"], "IPv4");
        assert!(known[0].status.as_ref().unwrap().conditions.as_ref().unwrap()[0].last_heartbeat_time.is_none());
    }
}
