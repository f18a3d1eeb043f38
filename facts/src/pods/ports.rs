//! Ports of the node that pods take (upstream: `HostPortInfo` of k8s.io/kube-scheduler/framework).

use k8s_openapi::api::core::v1::{Container, PodSpec};

const ANY: &str = "0.0.0.0";

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The node's address, `0.0.0.0` for all.
    pub ip: String,
    /// From 1 to 65535.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node: the same port, and the same address or one for all addresses.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

/// The ports of the node that a pod's containers and sidecars take.
pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| super::is_sidecar(container));
    spec.containers.iter().chain(sidecars).flat_map(taken).collect()
}

fn taken(container: &Container) -> impl Iterator<Item = HostPort> {
    container.ports.iter().flatten().filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        Some(HostPort {
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| ANY.to_owned()),
            port: number,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn taken(spec: Value) -> Vec<HostPort> {
        host_ports(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn containers_and_sidecars_take_ports_of_the_node() {
        let port = |name: &str, number: i32| json!({"name": name, "ports": [{"containerPort": 1, "hostPort": number}]});
        let mut sidecar = port("s", 82);
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"containers": [port("c", 80), port("d", 0)], "initContainers": [port("i", 81), sidecar]});
        assert_eq!(taken(spec).iter().map(|port| port.port).collect::<Vec<_>>(), [80, 82]);
    }

    #[test]
    fn the_same_port_conflicts_on_the_same_address_or_on_all() {
        let of = |ip: &str, protocol: &str| {
            let port = json!({"containerPort": 1, "hostPort": 80, "hostIP": ip, "protocol": protocol});
            taken(json!({"containers": [{"name": "c", "ports": [port]}]})).remove(0)
        };
        let check = |left: HostPort, right: HostPort, conflicts| {
            assert_eq!((left.conflicts(&right), right.conflicts(&left)), (conflicts, conflicts), "{left:?} {right:?}");
        };
        check(of("", "TCP"), of("10.0.0.1", "TCP"), true);
        check(of("10.0.0.1", "TCP"), of("10.0.0.1", "TCP"), true);
        check(of("10.0.0.1", "TCP"), of("10.0.0.2", "TCP"), false);
        check(of("", "TCP"), of("", "UDP"), false);
    }
}
