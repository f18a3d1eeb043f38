//! Decides the `Endpoints` object of a Service, which `kubectl describe service` and older clients read (upstream:
//! `pkg/controller/endpoint`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::HEADLESS;
use super::observe::Backend;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Upstream's `maxCapacity`: more addresses do not fit one object.
const CAPACITY: usize = 1000;

/// The object to write, or `None` when it is right already.
pub(super) fn plan(service: &Service, backends: &[Backend], current: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, is_truncated) = subsets(service, backends);
    let mut wanted = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    wanted.metadata.labels = Some(labels(service));
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if is_truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    wanted.metadata.annotations = wanted.metadata.annotations.filter(|annotations| !annotations.is_empty());
    (current != Some(&wanted)).then_some(wanted)
}

/// Made by this controller (and not by hand for a Service without a selector).
pub(super) fn is_managed(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
}

pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn subsets(service: &Service, backends: &[Backend]) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.clone().unwrap_or_default();
    let wants_v6 = match spec.ip_families.as_ref().and_then(|families| families.first()) {
        Some(family) => family == "IPv6",
        None => spec.cluster_ip.is_some_and(|ip| ip.contains(':')),
    };
    let publishes_all = spec.publish_not_ready_addresses == Some(true);
    let mut shown: Vec<_> = backends.iter().filter(|backend| publishes_all || !backend.is_terminating).collect();
    let is_truncated = shown.len() > CAPACITY;
    shown.sort_by_key(|backend| !backend.is_ready);
    shown.truncate(CAPACITY);
    let mut groups: BTreeMap<Vec<(String, i32, String)>, EndpointSubset> = BTreeMap::new();
    for backend in shown {
        let Some(ip) = backend.addresses.iter().find(|ip| ip.is_ipv6() == wants_v6) else { continue };
        if backend.ports.is_empty() && spec.ports.iter().flatten().next().is_some() {
            continue;
        }
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: backend.hostname.clone(),
            node_name: backend.node.clone(),
            target_ref: Some(backend.target.clone()),
        };
        let subset = groups.entry(key(&backend.ports)).or_insert_with(|| EndpointSubset {
            ports: (!backend.ports.is_empty()).then(|| backend.ports.iter().map(port).collect()),
            ..EndpointSubset::default()
        });
        let list = if backend.is_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let mut subsets: Vec<_> = groups.into_values().collect();
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
    }
    (subsets, is_truncated)
}

fn key(ports: &[v1::EndpointPort]) -> Vec<(String, i32, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut key: Vec<_> =
        ports.iter().map(|port| (text(&port.name), port.port.unwrap_or(0), text(&port.protocol))).collect();
    key.sort();
    key
}

fn port(port: &v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}
