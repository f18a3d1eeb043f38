//! What matters of a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use facts::labels::Labels;
use facts::pods;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodSpec, PodStatus};

use crate::table::Protocol;

/// A pod that has addresses of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) labels: Labels,
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether it is on this node, where its policies are enforced.
    pub(crate) is_here: bool,
    ports: BTreeSet<(String, Protocol, u16)>,
}

impl PodFacts {
    /// `None` for a pod that no policy is about and that is nobody's peer: one of the node's own network, one without an
    /// address yet, and one that has ended, whose address may be another's by now. A pod that is being deleted counts for
    /// as long as it runs.
    pub(crate) fn of(pod: &Pod, node: &str) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        if spec.host_network == Some(true) || pods::is_terminal(pod) {
            return None;
        }
        let addresses = addresses(pod.status.as_ref()?);
        let is_here = pods::node(pod) == node;
        let ports = if addresses.is_empty() { BTreeSet::new() } else { ports(spec) };
        (!addresses.is_empty()).then(|| Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses,
            is_here,
            ports,
        })
    }

    /// The ports of a protocol that its containers call by a name.
    pub(crate) fn numbers(&self, protocol: Protocol, name: &str) -> Vec<u16> {
        let called = self.ports.iter().filter(|(called, of, _)| called == name && *of == protocol);
        called.map(|(_, _, number)| *number).collect()
    }
}

fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    all.filter_map(|text| text.parse().ok()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn ports(spec: &PodSpec) -> BTreeSet<(String, Protocol, u16)> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| pods::is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let named = |port: &ContainerPort| {
        let protocol = Protocol::of(port.protocol.as_deref())?;
        Some((port.name.clone()?, protocol, u16::try_from(port.container_port).ok()?))
    };
    ports.filter_map(named).collect()
}

/// Leaves of a pod what [`PodFacts`] reads.
pub(crate) fn strip(pod: &mut Pod) {
    let meta = std::mem::take(&mut pod.metadata);
    pod.metadata.name = meta.name;
    pod.metadata.namespace = meta.namespace;
    pod.metadata.uid = meta.uid;
    pod.metadata.resource_version = meta.resource_version;
    pod.metadata.labels = meta.labels;
    pod.spec = pod.spec.take().map(|spec| PodSpec {
        node_name: spec.node_name,
        host_network: spec.host_network,
        containers: spec.containers.into_iter().filter_map(stripped).collect(),
        init_containers: spec.init_containers.map(|all| all.into_iter().filter_map(stripped).collect()),
        ..PodSpec::default()
    });
    pod.status = pod.status.take().map(|status| PodStatus {
        phase: status.phase,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        ..PodStatus::default()
    });
}

/// Of a container, its ports with names; nothing of one without.
fn stripped(container: Container) -> Option<Container> {
    let ports: Vec<_> = container.ports.into_iter().flatten().filter(|port| port.name.is_some()).collect();
    let restart_policy = container.restart_policy;
    (!ports.is_empty()).then(|| Container { ports: Some(ports), restart_policy, ..Container::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7", "labels": {"app": "web"},
                "annotations": {"a": "b"}},
            "spec": {"nodeName": "n", "containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]},
                {"name": "d", "ports": [{"containerPort": 53, "name": "dns", "protocol": "UDP"}]},
                {"name": "e"}],
                "initContainers": [
                {"name": "f", "restartPolicy": "Always", "ports": [{"containerPort": 82, "name": "side"}]},
                {"name": "g", "ports": [{"containerPort": 83, "name": "once"}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        });
        change(&mut pod);
        from_value(pod).unwrap()
    }

    #[test]
    fn what_is_stripped_tells_the_same() {
        let whole = pod(|_| ());
        let mut stripped = whole.clone();
        strip(&mut stripped);
        assert_ne!(whole, stripped);
        let facts = PodFacts::of(&whole, "n").unwrap();
        assert_eq!(PodFacts::of(&stripped, "n").unwrap(), facts);
        assert!(facts.is_here && !PodFacts::of(&whole, "other").unwrap().is_here);
        assert_eq!(facts.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    }

    #[test]
    fn names_stand_for_ports_of_containers_and_sidecars_by_protocol() {
        let facts = PodFacts::of(&pod(|_| ()), "n").unwrap();
        for (protocol, name, expected) in [
            (Protocol::Tcp, "http", &[80][..]),
            (Protocol::Udp, "http", &[]),
            (Protocol::Udp, "dns", &[53]),
            (Protocol::Tcp, "side", &[82]),
            (Protocol::Tcp, "once", &[]),
        ] {
            assert_eq!(facts.numbers(protocol, name), expected, "{name}");
        }
    }

    #[test]
    fn pods_without_addresses_of_their_own_do_not_count() {
        assert!(
            PodFacts::of(&pod(|pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into()), "n")
                .is_some()
        );
        for change in [
            &|pod: &mut Value| pod["spec"]["hostNetwork"] = true.into(),
            &|pod: &mut Value| pod["status"]["phase"] = "Succeeded".into(),
            &|pod: &mut Value| pod["status"]["phase"] = "Failed".into(),
            &|pod: &mut Value| pod["status"] = json!({"phase": "Pending"}),
            &|pod: &mut Value| pod["status"] = json!({"podIP": "none; drop"}),
        ] as [&dyn Fn(&mut Value); 5]
        {
            let pod = pod(|pod| change(pod));
            assert_eq!(PodFacts::of(&pod, "n"), None, "{pod:?}");
        }
    }
}
