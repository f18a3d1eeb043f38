//! What the proxy knows of a Service: one [`ServicePort`] for each port and family, with the endpoints that may be used.
//!
//! Which endpoints those are follows KEP-1669 (terminating endpoints), KEP-2086 (internal traffic policy) and
//! KEP-2433 / KEP-4444 (topology hints, traffic distribution).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use client::ObjectKey;
use facts::endpoints;
use facts::ranges::{self, Range};
use k8s_openapi::api::core::v1::{Service, ServicePort as PortSpec, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::ruleset::Family;

/// Labels whose presence, with whatever value, says that a Service is not for this proxy.
const NOT_OURS: [&str; 2] = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];

/// Where a proxy runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) node: String,
    /// The node's `topology.kubernetes.io/zone`, `""` when it has none.
    pub(crate) zone: String,
}

/// One port of one Service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// `namespace/name/protocol/port name`, unique within a family.
    pub(crate) id: String,
    /// `tcp`, `udp` or `sctp`.
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) cluster_ips: Vec<IpAddr>,
    /// External and load balancer addresses.
    pub(crate) external_ips: Vec<IpAddr>,
    /// Those of them that are a load balancer's.
    pub(crate) balancer_ips: Vec<IpAddr>,
    pub(crate) node_port: Option<u16>,
    /// Where load balancers ask whether this node has endpoints.
    pub(crate) health_port: Option<u16>,
    /// Who may use load balancer addresses; `None` is everybody. Ranges of the family, in order and apart.
    pub(crate) source_ranges: Option<Vec<Range>>,
    /// Seconds for which a client stays with an endpoint.
    pub(crate) affinity: Option<u32>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    /// Endpoints for traffic that may go anywhere.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Endpoints on this node.
    pub(crate) local_endpoints: Vec<SocketAddr>,
    /// Those that still answer, wherever they are and whoever may use them: what goes to one already may go on.
    pub(crate) serving: BTreeSet<IpAddr>,
}

/// The ports of a Service in one family, ordered by id; `slices` are its own.
pub(crate) fn service_ports(
    family: Family,
    place: &Place,
    service: &Service,
    slices: &[Arc<EndpointSlice>],
) -> Vec<ServicePort> {
    let (Some(namespace), Some(name)) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref())
    else {
        return Vec::new();
    };
    let Some(spec) = service.spec.as_ref().filter(|spec| is_proxied(service, spec)) else { return Vec::new() };
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|port| service_port(family, place, (namespace, name), service, spec, port, slices));
    let mut ports: Vec<_> = ports.collect();
    ports.sort_by(|a, b| a.id.cmp(&b.id));
    ports
}

/// The Service that a slice belongs to.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let service = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some(ObjectKey::new(slice.metadata.namespace.clone()?, service.clone()))
}

/// Headless and ExternalName Services have no address; those labelled for another proxy, or for none, are not ours.
fn is_proxied(service: &Service, spec: &ServiceSpec) -> bool {
    let labels = service.metadata.labels.as_ref();
    let other = labels.is_some_and(|labels| NOT_OURS.iter().any(|label| labels.contains_key(*label)));
    let headless = spec.cluster_ip.as_deref().is_none_or(|ip| ip.is_empty() || ip == "None");
    !other && !headless && spec.type_.as_deref() != Some("ExternalName")
}

fn service_port(
    family: Family,
    place: &Place,
    (namespace, name): (&str, &str),
    service: &Service,
    spec: &ServiceSpec,
    port: &PortSpec,
    slices: &[Arc<EndpointSlice>],
) -> Option<ServicePort> {
    let cluster_ips = addresses(family, spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
    if cluster_ips.is_empty() {
        return None;
    }
    let protocol = protocol(port.protocol.as_deref());
    let port_name = port.name.as_deref().unwrap_or("");
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    // `ipMode: Proxy` says that the load balancer wants to see its traffic itself (KEP-1860).
    let balancer_ips = ingress
        .into_iter()
        .flatten()
        .filter(|point| point.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|point| point.ip.as_ref());
    let external_ips = addresses(family, spec.external_ips.iter().flatten().chain(balancer_ips.clone()));
    let usable = Usable::find(family, place, slices, port_name, protocol);
    Some(ServicePort {
        id: format!("{namespace}/{name}/{protocol}/{port_name}"),
        protocol,
        port: u16::try_from(port.port).ok()?,
        cluster_ips,
        external_ips,
        balancer_ips: addresses(family, balancer_ips),
        health_port: health_port(spec),
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        source_ranges: source_ranges(family, spec),
        affinity: affinity(spec),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        endpoints: usable.anywhere,
        local_endpoints: usable.local,
        serving: usable.serving,
    })
}

/// Of Services whose traffic from load balancers stays on the node that it comes to.
fn health_port(spec: &ServiceSpec) -> Option<u16> {
    let stays =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| stays && *port != 0)
}

/// Where ranges are said, but none of this family, nobody of it may. nft refuses what is of another family or overlaps, and
/// with it the rules of all Services.
fn source_ranges(family: Family, spec: &ServiceSpec) -> Option<Vec<Range>> {
    let said = spec.load_balancer_source_ranges.as_ref().filter(|said| !said.is_empty())?;
    let ranges = ranges::of_blocks(said.iter().map(|text| (text.trim(), &[][..])));
    Some(ranges.into_iter().filter(|range| family.has(range.first)).collect())
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(config.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(10_800))
}

fn protocol(name: Option<&str>) -> &'static str {
    match name {
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        _ => "tcp",
    }
}

fn addresses<'a>(family: Family, texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let parsed =
        texts.filter_map(|text| text.parse::<IpAddr>().ok()).filter(|ip| ip.is_ipv4() == (family == Family::V4));
    parsed.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The endpoints of one port that traffic may go to.
struct Usable {
    anywhere: Vec<SocketAddr>,
    local: Vec<SocketAddr>,
    serving: BTreeSet<IpAddr>,
}

struct Candidate<'a> {
    address: SocketAddr,
    endpoint: &'a Endpoint,
}

impl Candidate<'_> {
    fn is_ready(&self) -> bool {
        endpoints::is_ready(self.endpoint)
    }

    fn is_serving(&self) -> bool {
        endpoints::is_serving(self.endpoint)
    }

    /// Terminating but still answering: the last resort.
    fn is_last_resort(&self) -> bool {
        self.endpoint.conditions.as_ref().is_some_and(|c| c.serving.unwrap_or(false) && c.terminating.unwrap_or(false))
    }

    fn is_on(&self, node: &str) -> bool {
        self.endpoint.node_name.as_deref() == Some(node)
    }
}

impl Usable {
    fn find(family: Family, place: &Place, slices: &[Arc<EndpointSlice>], port_name: &str, protocol: &str) -> Self {
        let candidates = candidates(family, slices, port_name, protocol);
        let local: Vec<&Candidate<'_>> = candidates.iter().filter(|candidate| candidate.is_on(&place.node)).collect();
        let all: Vec<&Candidate<'_>> = candidates.iter().collect();
        let anywhere = nearby(place, alive(&all));
        let serving = candidates.iter().filter(|candidate| candidate.is_serving());
        let serving = serving.map(|candidate| candidate.address.ip()).collect();
        Self { anywhere: sorted(&anywhere), local: sorted(&alive(&local)), serving }
    }
}

fn candidates<'a>(
    family: Family,
    slices: &'a [Arc<EndpointSlice>],
    port_name: &str,
    port_protocol: &str,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for slice in slices {
        let named = slice.ports.iter().flatten().filter(|port| {
            port.name.as_deref().unwrap_or("") == port_name && protocol(port.protocol.as_deref()) == port_protocol
        });
        for port in named.filter_map(|port| u16::try_from(port.port?).ok()) {
            for endpoint in slice.endpoints.iter().flatten() {
                // Only the first address counts; consumers must ignore the others (EndpointSlice API).
                let first = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok());
                let Some(ip) = first.filter(|ip| ip.is_ipv4() == (family == Family::V4)) else { continue };
                found.push(Candidate { address: SocketAddr::new(ip, port), endpoint });
            }
        }
    }
    found
}

/// Ready ones; when there is none, those that terminate but still serve.
fn alive<'a, 'b>(of: &[&'b Candidate<'a>]) -> Vec<&'b Candidate<'a>> {
    let ready: Vec<&Candidate<'_>> = of.iter().copied().filter(|candidate| candidate.is_ready()).collect();
    if ready.is_empty() { of.iter().copied().filter(|candidate| candidate.is_last_resort()).collect() } else { ready }
}

/// Those hinted for this node, or else for this zone; all of them when hints are incomplete.
fn nearby<'a, 'b>(place: &Place, of: Vec<&'b Candidate<'a>>) -> Vec<&'b Candidate<'a>> {
    let hints = |candidate: &Candidate<'_>| candidate.endpoint.hints.clone().unwrap_or_default();
    let for_node =
        |candidate: &&Candidate<'_>| hints(candidate).for_nodes.iter().flatten().any(|node| node.name == place.node);
    let for_zone =
        |candidate: &&Candidate<'_>| hints(candidate).for_zones.iter().flatten().any(|zone| zone.name == place.zone);
    let complete = |has: &dyn Fn(&Candidate<'_>) -> bool| of.iter().all(|candidate| has(candidate));
    let here: Vec<_> = if complete(&|c| hints(c).for_nodes.is_some_and(|nodes| !nodes.is_empty())) {
        of.iter().copied().filter(for_node).collect()
    } else {
        Vec::new()
    };
    if !here.is_empty() {
        return here;
    }
    let in_zone: Vec<_> =
        if !place.zone.is_empty() && complete(&|c| hints(c).for_zones.is_some_and(|zones| !zones.is_empty())) {
            of.iter().copied().filter(for_zone).collect()
        } else {
            Vec::new()
        };
    if in_zone.is_empty() { of } else { in_zone }
}

fn sorted(of: &[&Candidate<'_>]) -> Vec<SocketAddr> {
    of.iter().map(|candidate| candidate.address).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "d"}, "spec": spec})).unwrap()
    }

    fn slice(endpoints: Value) -> Arc<EndpointSlice> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "web-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
            }))
            .unwrap(),
        )
    }

    fn plain() -> Value {
        json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"name": "http", "port": 80}]})
    }

    fn check(spec: Value, endpoints: Value, want: &[&str], want_local: &[&str]) {
        let place = Place { node: "n1".into(), zone: "z1".into() };
        let ports = service_ports(Family::V4, &place, &service(spec), &[slice(endpoints)]);
        let texts = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&ports[0].endpoints), want);
        assert_eq!(texts(&ports[0].local_endpoints), want_local);
    }

    #[test]
    fn only_ready_endpoints_are_used() {
        let endpoints = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "n1"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "nodeName": "n1"},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": true}, "nodeName": "n2"},
        ]);
        check(plain(), endpoints, &["10.0.0.1:8080", "10.0.0.3:8080"], &["10.0.0.1:8080"]);
    }

    #[test]
    fn terminating_endpoints_serve_when_nothing_else_does() {
        let endpoints = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ]);
        check(plain(), endpoints, &["10.0.0.1:8080"], &[]);
    }

    #[test]
    fn zone_hints_are_followed_only_when_complete() {
        let hinted = |zone: &str| json!({"forZones": [{"name": zone}]});
        let complete = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hints": hinted("z1")},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "hints": hinted("z2")},
        ]);
        check(plain(), complete, &["10.0.0.1:8080"], &[]);
        let incomplete = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hints": hinted("z1")},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
        ]);
        check(plain(), incomplete, &["10.0.0.1:8080", "10.0.0.2:8080"], &[]);
    }

    #[test]
    fn ranges_of_sources_are_for_addresses_of_load_balancers_and_of_the_family() {
        let check = |ranges: Value, want: Option<&[&str]>| {
            let mut service = service(json!({
                "type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}],
                "externalIPs": ["192.0.2.9"], "loadBalancerSourceRanges": ranges,
            }));
            service.status =
                serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})).unwrap();
            let ports = service_ports(Family::V4, &Place::default(), &service, &[]);
            assert_eq!(ports[0].balancer_ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
            assert_eq!(ports[0].external_ips.len(), 2);
            let texts =
                ports[0].source_ranges.as_ref().map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(texts, want.map(|want| want.iter().map(|&text| text.to_owned()).collect()));
        };
        check(json!(null), None);
        check(json!([" 10.1.0.0/16", "10.0.0.0/8", "fd00::/8"]), Some(&["10.0.0.0-10.255.255.255"]));
        check(json!(["fd00::/8"]), Some(&[]));
    }

    #[test]
    fn services_whose_traffic_stays_here_tell_of_their_endpoints() {
        let check = |change: Value, want: Option<u16>| {
            let mut spec = json!({
                "type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}],
                "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
            });
            spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let place = Place { node: "n1".into(), zone: String::new() };
            let here = slice(json!([{"addresses": ["10.0.0.1"], "nodeName": "n1"}, {"addresses": ["10.0.0.2"]}]));
            let ports = service_ports(Family::V4, &place, &service(spec), &[here]);
            let told = crate::health::wanted(ports.iter(), true);
            assert_eq!(told.keys().next().copied(), want);
            assert!(
                format!("{told:?}").contains("10.0.0.1") == want.is_some() && !format!("{told:?}").contains("10.0.0.2")
            );
        };
        check(json!({}), Some(32000));
        check(json!({"externalTrafficPolicy": "Cluster"}), None);
        check(json!({"type": "NodePort"}), None);
        check(json!({"healthCheckNodePort": null}), None);
    }

    #[test]
    fn headless_and_foreign_services_are_left_alone() {
        let place = Place::default();
        let headless = service(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
        assert!(service_ports(Family::V4, &place, &headless, &[]).is_empty());
        for (label, ours) in [("service.kubernetes.io/service-proxy-name", 0), ("example.com/other", 1)] {
            let mut labelled = service(plain());
            labelled.metadata.labels = Some(BTreeMap::from([(label.to_owned(), String::new())]));
            assert_eq!(service_ports(Family::V4, &place, &labelled, &[]).len(), ours, "{label}");
        }
    }
}
