//! Decides which EndpointSlices a Service should have, changing as few as possible (upstream: `k8s.io/endpointslice`).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::observe::Backend;
use super::{HEADLESS, MANAGED_BY, MANAGER, SERVICE_NAME};
use crate::meta;

/// Upstream's `--max-endpoints-per-slice`.
pub(super) const PER_SLICE: usize = 100;

/// A write to make.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Create(EndpointSlice),
    Update(EndpointSlice),
    Delete(Arc<EndpointSlice>),
}

/// Endpoints that share a slice: of one address family, with the same ports.
pub(super) type Group = (&'static str, Vec<(String, Option<i32>, String, String)>);

/// Compares the slices there are with the backends. Slices keep the endpoints they have; room is filled before new
/// slices are made; empty ones go, but one stays per family to say "no endpoints".
pub(super) fn plan(service: &Service, backends: &[Backend], existing: &[Arc<EndpointSlice>]) -> Vec<Change> {
    let mut changes = Vec::new();
    let families = families(service, backends);
    for family in &families {
        let mut groups = desired(service, backends, family);
        let mut slices: Vec<&Arc<EndpointSlice>> =
            existing.iter().filter(|slice| slice.address_type == *family).collect();
        slices.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.iter().flatten().count()));
        if groups.is_empty() {
            groups.insert((family, Vec::new()), (Vec::new(), Vec::new()));
        }
        for (group, (ports, endpoints)) in groups {
            let mut kept = Vec::new();
            slices.retain(|slice| {
                let is_same = group_of(family, slice.ports.as_deref().unwrap_or_default()) == group;
                if is_same {
                    kept.push(Arc::clone(slice));
                }
                !is_same
            });
            // An empty group takes over any one slice, so that the last endpoint's slice becomes the empty one.
            if endpoints.is_empty() && kept.is_empty() && !slices.is_empty() {
                kept.push(Arc::clone(slices.remove(0)));
            }
            changes.extend(fill(service, family, &ports, endpoints, &kept));
        }
        changes.extend(slices.into_iter().map(|slice| Change::Delete(Arc::clone(slice))));
    }
    let is_stale = |slice: &&Arc<EndpointSlice>| !families.contains(&slice.address_type.as_str());
    changes.extend(existing.iter().filter(is_stale).map(|slice| Change::Delete(Arc::clone(slice))));
    changes
}

fn families(service: &Service, backends: &[Backend]) -> Vec<&'static str> {
    let spec = service.spec.clone().unwrap_or_default();
    let named = spec.ip_families.unwrap_or_default();
    if named.is_empty() {
        let is_v6 = |ip: &IpAddr| ip.is_ipv6();
        let cluster_ip = spec.cluster_ip.and_then(|ip| ip.parse().ok());
        let first = cluster_ip.or_else(|| backends.first().and_then(|backend| backend.addresses.first().copied()));
        return vec![if first.as_ref().is_some_and(is_v6) { "IPv6" } else { "IPv4" }];
    }
    named.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect()
}

fn is_of(family: &str, ip: &IpAddr) -> bool {
    ip.is_ipv6() == (family == "IPv6")
}

type Wanted = (Vec<EndpointPort>, Vec<Endpoint>);

fn desired(service: &Service, backends: &[Backend], family: &'static str) -> BTreeMap<Group, Wanted> {
    let mut groups: BTreeMap<Group, Wanted> = BTreeMap::new();
    for backend in backends {
        let Some(address) = backend.addresses.iter().find(|ip| is_of(family, ip)) else { continue };
        let group = group_of(family, &backend.ports);
        let (_, endpoints) = groups.entry(group).or_insert_with(|| (backend.ports.clone(), Vec::new()));
        endpoints.push(endpoint(service, backend, address));
    }
    groups
}

/// The group of endpoints with these ports.
pub(super) fn group_of(family: &'static str, ports: &[EndpointPort]) -> Group {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut key: Vec<_> = ports
        .iter()
        .map(|port| (text(&port.name), port.port, text(&port.protocol), text(&port.app_protocol)))
        .collect();
    key.sort();
    (family, key)
}

fn endpoint(service: &Service, backend: &Backend, address: &IpAddr) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.is_ready),
            serving: Some(backend.is_serving),
            terminating: Some(backend.is_terminating),
        }),
        deprecated_topology: None,
        hints: hints(service, backend),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(backend.target.clone()),
        zone: backend.zone.clone(),
    }
}

/// `trafficDistribution` keeps traffic in the zone or on the node of the endpoint.
fn hints(service: &Service, backend: &Backend) -> Option<EndpointHints> {
    let preference = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = backend.zone.clone().map(|name| vec![ForZone { name }]);
    let for_nodes = backend.node.clone().filter(|_| preference == "PreferSameNode").map(|name| vec![ForNode { name }]);
    let is_hinted = backend.is_ready && (for_zones.is_some() || for_nodes.is_some());
    is_hinted.then_some(EndpointHints { for_nodes, for_zones })
}

/// Spreads `endpoints` over the slices there are and as many new ones as needed.
fn fill(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    kept: &[Arc<EndpointSlice>],
) -> Vec<Change> {
    let is_placeholder = endpoints.is_empty();
    let mut wanted: HashMap<String, Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut held: Vec<Vec<Endpoint>> = Vec::new();
    for slice in kept {
        let known = slice.endpoints.iter().flatten();
        held.push(known.filter_map(|endpoint| wanted.remove(&identity(endpoint))).collect());
    }
    let mut left: Vec<Endpoint> = wanted.into_values().collect();
    left.sort_by_key(identity);
    for slice in &mut held {
        let room = PER_SLICE.saturating_sub(slice.len()).min(left.len());
        slice.extend(left.drain(..room));
    }
    let mut changes = Vec::new();
    let mut may_be_empty = is_placeholder;
    for (old, endpoints) in kept.iter().zip(held) {
        if endpoints.is_empty() && !std::mem::take(&mut may_be_empty) {
            changes.push(Change::Delete(Arc::clone(old)));
            continue;
        }
        let mut new = EndpointSlice { endpoints: Some(endpoints), ports: Some(ports.to_vec()), ..(**old).clone() };
        new.metadata.labels = Some(labels(service));
        if !is_same(old, &new) {
            changes.push(Change::Update(new));
        }
    }
    if kept.is_empty() && is_placeholder {
        changes.push(Change::Create(new_slice(service, family, ports, Vec::new())));
    }
    let mut left = left.into_iter().peekable();
    while left.peek().is_some() {
        let chunk = left.by_ref().take(PER_SLICE).collect();
        changes.push(Change::Create(new_slice(service, family, ports, chunk)));
    }
    changes
}

/// An absent list and an empty one are the same.
fn is_same(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    let endpoints = |slice: &EndpointSlice| slice.endpoints.clone().unwrap_or_default();
    let ports = |slice: &EndpointSlice| slice.ports.clone().unwrap_or_default();
    endpoints(old) == endpoints(new) && ports(old) == ports(new) && old.metadata.labels == new.metadata.labels
}

fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{} {target}", endpoint.addresses.join(" "))
}

fn new_slice(service: &Service, family: &str, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(&service.metadata))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![meta::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports.to_vec()),
    }
}

/// The Service's own labels and those that say whose slice this is.
pub(super) fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if super::legacy::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), meta::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn service(change: &Value) -> Service {
        let mut service = json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "s", "labels": { "team": "a" } },
            "spec": { "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "selector": { "app": "web" },
                      "ports": [{ "name": "http", "port": 80, "targetPort": "web" }, { "name": "admin", "port": 81, "targetPort": 9000 }] },
        });
        for (key, value) in change.as_object().unwrap() {
            service["spec"][key] = value.clone();
        }
        from_value(service).unwrap()
    }

    fn backend(service: &Service, number: usize, change: &Value) -> Backend {
        let mut pod = json!({
            "metadata": { "name": format!("p{number}"), "namespace": "default", "uid": format!("u{number}"), "labels": { "app": "web" } },
            "spec": { "nodeName": "n1", "containers": [{ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] }] },
            "status": { "phase": "Running", "podIPs": [{ "ip": format!("10.0.{}.{}", number / 200, number % 200 + 1) }],
                        "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        Backend::of(&from_value(pod).unwrap(), service, |node| Some(format!("zone-of-{node}"))).unwrap()
    }

    fn backends(service: &Service, count: usize) -> Vec<Backend> {
        (0..count).map(|number| backend(service, number, &json!({}))).collect()
    }

    /// Applies changes to the slices, as the API server would.
    fn apply(slices: &mut Vec<Arc<EndpointSlice>>, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Create(mut slice) => {
                    slice.metadata.uid = Some(format!("slice-{}", slices.len()));
                    slices.push(Arc::new(slice));
                }
                Change::Update(slice) => {
                    let at = slices.iter().position(|known| known.metadata.uid == slice.metadata.uid).unwrap();
                    slices[at] = Arc::new(slice);
                }
                Change::Delete(slice) => slices.retain(|known| known.metadata.uid != slice.metadata.uid),
            }
        }
    }

    fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
        slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).collect()
    }

    #[test]
    fn an_endpoint_says_what_the_proxy_and_dns_need() {
        let service = service(&json!({ "clusterIP": "None", "trafficDistribution": "PreferClose" }));
        let pod = backend(&service, 0, &json!({ "/spec/hostname": "web-0", "/spec/subdomain": "web" }));
        let mut slices = Vec::new();
        apply(&mut slices, plan(&service, &[pod], &[]));
        let slice = &slices[0];
        let labels = slice.metadata.labels.as_ref().unwrap();
        assert_eq!((labels[SERVICE_NAME].as_str(), labels[MANAGED_BY].as_str()), ("web", MANAGER));
        assert_eq!((labels[HEADLESS].as_str(), labels["team"].as_str()), ("", "a"));
        let endpoint = &slice.endpoints.as_ref().unwrap()[0];
        assert_eq!(endpoint.addresses, ["10.0.0.1"]);
        assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("n1"), Some("zone-of-n1")));
        assert_eq!(endpoint.hostname.as_deref(), Some("web-0"));
        assert_eq!(endpoint.hints.as_ref().unwrap().for_zones.as_ref().unwrap()[0].name, "zone-of-n1");
        let ports: Vec<_> = slice.ports.iter().flatten().map(|port| (port.name.as_deref(), port.port)).collect();
        assert_eq!(ports, [(Some("http"), Some(8080)), (Some("admin"), Some(9000))]);
        assert!(
            plan(
                &service,
                &[backend(&service, 0, &json!({ "/spec/hostname": "web-0", "/spec/subdomain": "web" }))],
                &slices
            )
            .is_empty()
        );
    }

    #[test]
    fn conditions_follow_readiness_and_termination() {
        let check = |spec: Value, change: Value, expected: (bool, bool, bool)| {
            let service = service(&spec);
            let pod = backend(&service, 0, &change);
            assert_eq!((pod.is_ready, pod.is_serving, pod.is_terminating), expected, "{change}");
        };
        let (plain, publish) = (json!({}), json!({ "publishNotReadyAddresses": true }));
        check(plain.clone(), json!({}), (true, true, false));
        check(plain.clone(), json!({ "/status/conditions": [] }), (false, false, false));
        check(plain, json!({ "/metadata/deletionTimestamp": "2026-01-01T00:00:00Z" }), (false, true, true));
        check(publish, json!({ "/status/conditions": [] }), (true, false, false));
    }

    #[test]
    fn slices_hold_a_hundred_and_change_as_little_as_possible() {
        let service = service(&json!({}));
        let mut slices = Vec::new();
        apply(&mut slices, plan(&service, &backends(&service, 250), &[]));
        assert_eq!(sizes(&slices), [100, 100, 50]);
        let mut fewer = backends(&service, 250);
        fewer.remove(0);
        let changes = plan(&service, &fewer, &slices);
        assert_eq!(changes.len(), 1, "one endpoint gone is one slice changed");
        apply(&mut slices, changes);
        let changes = plan(&service, &backends(&service, 250), &slices);
        assert_eq!(changes.len(), 1);
        apply(&mut slices, changes);
        let changes = plan(&service, &[], &slices);
        apply(&mut slices, changes);
        assert_eq!(sizes(&slices), [0], "one empty slice says that there are no endpoints");
        assert!(plan(&service, &[], &slices).is_empty());
        let changes = plan(&service, &backends(&service, 1), &slices);
        apply(&mut slices, changes);
        assert_eq!(sizes(&slices), [1]);
    }

    #[test]
    fn pods_with_other_ports_have_their_own_slice() {
        let service = service(&json!({}));
        let nameless = json!({ "/spec/containers": [{ "name": "c" }] });
        let pods = [backend(&service, 0, &json!({})), backend(&service, 1, &nameless)];
        let mut slices = Vec::new();
        apply(&mut slices, plan(&service, &pods, &[]));
        let mut ports: Vec<_> = slices.iter().map(|slice| slice.ports.iter().flatten().count()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 2], "the port whose name the pod does not know is missing");
    }

    #[test]
    fn each_family_has_its_slices() {
        let service = service(&json!({ "ipFamilies": ["IPv6", "IPv4"] }));
        let dual = json!({ "/status/podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] });
        let mut slices = Vec::new();
        apply(&mut slices, plan(&service, &[backend(&service, 0, &dual)], &[]));
        let families: Vec<_> = slices.iter().map(|slice| slice.address_type.as_str()).collect();
        assert_eq!((families, sizes(&slices)), (vec!["IPv6", "IPv4"], vec![1, 1]));
    }

    /// Whoever follows slices can leave those alone that need no proxy.
    #[test]
    fn slices_of_headless_services_say_so() {
        let is_marked = |change: &Value| labels(&service(change)).contains_key(HEADLESS);
        assert!(is_marked(&json!({ "clusterIP": "None" })) && !is_marked(&json!({})));
        let mut posing = service(&json!({}));
        posing.metadata.labels.get_or_insert_default().insert(HEADLESS.to_owned(), String::new());
        assert!(!labels(&posing).contains_key(HEADLESS), "nobody marks one that is not");
    }
}
