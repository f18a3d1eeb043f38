//! Which node answers for which address: the same on every node, from the same objects, without anybody's word. Pure.
//!
//! Nodes that may answer are put in an order of their own for each address (rendezvous hashing, as MetalLB's layer 2 mode has
//! it); the first one does. When a node comes or goes, only its own addresses move.
//!
//! Whoever may write a Service's status could name any address: only those of the pool count, and never one that a node has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use facts::cidr::Cidr;
use facts::{endpoints, nodes};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sha2::{Digest as _, Sha256};

/// A node with this label answers for no load balancer.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The class of load balancers that addresses of the pool are given to; a Service without a class gets one, too.
const CLASS: &str = "coracle.io/local";
/// Services of which slices are.
const SERVICE: &str = "kubernetes.io/service-name";

/// What is known of the cluster.
pub(crate) struct Known {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Those of type LoadBalancer.
    pub(crate) services: Vec<Arc<Service>>,
    /// Empty while no Service asks where its endpoints are.
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
}

/// This node's place for each address for which it may answer: 0 for the one that does, the others stand in one after another.
pub(crate) fn places(own: &str, pool: &[Cidr], known: &Known) -> BTreeMap<IpAddr, usize> {
    let taken = addresses_of_nodes(&known.nodes);
    let mut services: Vec<&Arc<Service>> = known.services.iter().filter(|service| is_ours(service)).collect();
    services.sort_by_key(|service| {
        let meta = &service.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), &meta.namespace, &meta.name)
    });
    let mut decided = BTreeSet::new();
    let mut places = BTreeMap::new();
    for service in services {
        for address in shown(service).filter(|address| pool.iter().any(|range| range.contains(*address))) {
            // Of two that show the same, the older one has it.
            if taken.contains(&address) || !decided.insert(address) {
                continue;
            }
            let candidates = candidates(service, known);
            if let Some(place) = order(&candidates, address).iter().position(|name| *name == own) {
                places.insert(address, place);
            }
        }
    }
    places
}

/// Whether a Service asks that only nodes with endpoints of its own answer.
pub(crate) fn is_local(service: &Service) -> bool {
    let policy = service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref());
    is_ours(service) && policy == Some("Local")
}

fn is_ours(service: &Service) -> bool {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    spec.is_some_and(|spec| spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS))
}

fn shown(service: &Service) -> impl Iterator<Item = IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let points = status.into_iter().flat_map(|status| status.ingress.iter().flatten());
    points.filter(|point| point.ip_mode.as_deref() != Some("Proxy")).filter_map(|point| point.ip.as_ref()?.parse().ok())
}

fn addresses_of_nodes(nodes: &[Arc<Node>]) -> BTreeSet<IpAddr> {
    let statuses = nodes.iter().filter_map(|node| node.status.as_ref());
    let all = statuses.flat_map(|status| status.addresses.iter().flatten());
    all.filter_map(|one| one.address.parse().ok()).collect()
}

/// The nodes that may answer for a Service.
fn candidates<'a>(service: &Service, known: &'a Known) -> Vec<&'a str> {
    let with_endpoints = is_local(service).then(|| nodes_with_endpoints(service, &known.slices));
    let may = |name: &str| with_endpoints.as_ref().is_none_or(|nodes| nodes.contains(name));
    let able = known.nodes.iter().filter(|node| is_able(node));
    able.filter_map(|node| node.metadata.name.as_deref()).filter(|name| may(name)).collect()
}

fn is_able(node: &Node) -> bool {
    let is_excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
    nodes::is_ready(node) && !is_excluded
}

fn nodes_with_endpoints<'a>(service: &Service, slices: &'a [Arc<EndpointSlice>]) -> BTreeSet<&'a str> {
    let of_service = |slice: &&Arc<EndpointSlice>| {
        let named = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE));
        slice.metadata.namespace == service.metadata.namespace && named == service.metadata.name.as_ref()
    };
    let all = slices.iter().filter(of_service).flat_map(|slice| slice.endpoints.iter().flatten());
    all.filter(|endpoint| endpoints::is_ready(endpoint)).filter_map(|endpoint| endpoint.node_name.as_deref()).collect()
}

/// The names in the order of an address.
fn order<'a>(names: &[&'a str], address: IpAddr) -> Vec<&'a str> {
    let mut order: Vec<&str> = names.to_vec();
    order.sort_by_cached_key(|name| (Sha256::digest(format!("{name}#{address}")).to_vec(), (*name).to_owned()));
    order
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, address: &str, ready: bool) -> Arc<Node> {
        let status = if ready { "True" } else { "Unknown" };
        let node = json!({
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": status}],
            },
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn service(name: &str, day: u8, policy: &str, addresses: &[&str]) -> Arc<Service> {
        let points: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let service = json!({
            "metadata": {"name": name, "namespace": "d", "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": policy},
            "status": {"loadBalancer": {"ingress": points}},
        });
        Arc::new(serde_json::from_value(service).unwrap())
    }

    fn slice(service: &str, nodes: &[(&str, bool)]) -> Arc<EndpointSlice> {
        let endpoint = |(node, ready): &(&str, bool)| json!({"addresses": ["10.0.0.1"], "nodeName": node, "conditions": {"ready": ready}});
        let slice = json!({
            "metadata": {"name": "s", "namespace": "d", "labels": {SERVICE: service}},
            "addressType": "IPv4",
            "endpoints": nodes.iter().map(endpoint).collect::<Vec<_>>(),
        });
        Arc::new(serde_json::from_value(slice).unwrap())
    }

    fn nodes() -> Vec<Arc<Node>> {
        (1..=3).map(|number| node(&format!("n{number}"), &format!("192.0.2.{number}"), true)).collect()
    }

    fn pool() -> Vec<Cidr> {
        vec!["192.0.2.0/25".parse().unwrap(), "fd00::/64".parse().unwrap()]
    }

    fn all_places(known: &Known) -> Vec<BTreeMap<IpAddr, usize>> {
        ["n1", "n2", "n3"].iter().map(|own| places(own, &pool(), known)).collect()
    }

    #[test]
    fn every_address_has_one_node_and_the_others_in_line_behind_it() {
        let addresses: Vec<String> = (10..40).map(|host| format!("192.0.2.{host}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let services = vec![service("a", 1, "Cluster", &addresses)];
        let mut known = Known { nodes: nodes(), services, slices: Vec::new() };
        let before = all_places(&known);
        for address in &addresses {
            let address: IpAddr = address.parse().unwrap();
            let mut places: Vec<usize> = before.iter().map(|places| places[&address]).collect();
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2], "{address}");
        }
        assert!(before.iter().all(|places| places.values().any(|place| *place == 0)), "each has some: {before:?}");
        // Who loses nothing keeps all when another goes.
        known.nodes[2] = node("n3", "192.0.2.3", false);
        let after = all_places(&known);
        assert!(after[2].is_empty());
        for (address, place) in before[..2].iter().zip(&after[..2]).flat_map(|(before, after)| {
            before.iter().filter(|(_, place)| **place == 0).map(move |(address, _)| (address, after[address]))
        }) {
            assert_eq!(place, 0, "{address} has moved without need");
        }
    }

    #[test]
    fn nobody_is_led_to_claim_what_the_pool_does_not_have_or_a_node_does() {
        let hostile =
            service("evil", 1, "Cluster", &["192.0.2.200", "8.8.8.8", "192.0.2.2", "::1", "bad", "192.0.2.9"]);
        let known = Known { nodes: nodes(), services: vec![hostile], slices: Vec::new() };
        for places in all_places(&known) {
            assert_eq!(places.keys().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.9"]);
        }
        let other = json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "else/where"},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}});
        let known = Known { services: vec![Arc::new(serde_json::from_value(other).unwrap())], ..known };
        assert!(all_places(&known).iter().all(BTreeMap::is_empty));
    }

    #[test]
    fn only_nodes_with_endpoints_answer_where_the_traffic_is_to_stay() {
        let services = vec![service("a", 2, "Local", &["192.0.2.9", "fd00::9"])];
        let slices = vec![slice("a", &[("n2", true), ("n1", false)]), slice("b", &[("n3", true)])];
        let known = Known { nodes: nodes(), services, slices };
        let places = all_places(&known);
        assert_eq!((places[0].len(), places[1].len(), places[2].len()), (0, 2, 0));
        assert!(is_local(&known.services[0]));
    }

    #[test]
    fn of_two_services_with_one_address_the_older_says_who_answers() {
        let services = vec![service("new", 9, "Local", &["192.0.2.9"]), service("old", 1, "Cluster", &["192.0.2.9"])];
        let known = Known { nodes: nodes(), services, slices: Vec::new() };
        assert!(all_places(&known).iter().all(|places| places.len() == 1));
    }
}
