//! What a Service sees of a pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use facts::pods;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::meta;

/// A pod behind a Service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Backend {
    pub(super) addresses: Vec<IpAddr>,
    /// The Service's ports as this pod has them; ports whose name the pod does not know are missing.
    pub(super) ports: Vec<EndpointPort>,
    pub(super) is_ready: bool,
    pub(super) is_serving: bool,
    pub(super) is_terminating: bool,
    pub(super) node: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) target: ObjectReference,
}

/// The labels a Service selects by; `None` when endpoints are not to be found by this controller.
pub(super) fn selector(service: &Service) -> Option<BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.clone().filter(|selector| !selector.is_empty() && !is_external)
}

pub(super) fn is_selected(selector: &BTreeMap<String, String>, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// Whether nothing changed that a Service can see, so that status updates of pods cost nothing.
pub(super) fn is_same_backend(old: &Pod, new: &Pod) -> bool {
    let view = |pod: &Pod| {
        let status = pod.status.as_ref();
        let ips = status.and_then(|status| status.pod_ips.clone());
        let ip = status.and_then(|status| status.pod_ip.clone());
        (ip, ips, pods::is_ready(pod), pods::is_terminating(pod), pods::is_terminal(pod), pods::node(pod).to_owned())
    };
    old.metadata.uid == new.metadata.uid && old.metadata.labels == new.metadata.labels && view(old) == view(new)
}

impl Backend {
    /// `None` for a pod that cannot take traffic any more, or has no address yet.
    pub(super) fn of(pod: &Pod, service: &Service, zone_of: impl Fn(&str) -> Option<String>) -> Option<Self> {
        if pods::is_terminal(pod) {
            return None;
        }
        let addresses = addresses(pod);
        if addresses.is_empty() {
            return None;
        }
        let spec = service.spec.clone().unwrap_or_default();
        let (is_serving, is_terminating) = (pods::is_ready(pod), pods::is_terminating(pod));
        let node = Some(pods::node(pod).to_owned()).filter(|node| !node.is_empty());
        Some(Self {
            addresses,
            ports: spec.ports.iter().flatten().filter_map(|port| resolve(port, pod)).collect(),
            is_ready: spec.publish_not_ready_addresses == Some(true) || (is_serving && !is_terminating),
            is_serving,
            is_terminating,
            zone: node.as_deref().and_then(zone_of),
            node,
            hostname: hostname(pod, service),
            target: ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
                ..ObjectReference::default()
            },
        })
    }
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all: Vec<IpAddr> = many.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()).collect();
    let mut seen = Vec::new();
    all.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    all
}

/// A pod that names this Service as its subdomain gets a DNS name of its own.
fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_subdomain = spec.subdomain.as_deref() == Some(meta::name(&service.metadata));
    spec.hostname.clone().filter(|hostname| is_subdomain && !hostname.is_empty())
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match port.target_port.as_ref() {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named(name, &protocol, pod)?,
    };
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol),
        app_protocol: port.app_protocol.clone(),
    })
}

fn named(name: &str, protocol: &str, pod: &Pod) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|container| pods::is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut matching = ports
        .filter(|port| port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol);
    matching.next().map(|port| port.container_port)
}
