//! Which flows of datagrams lead where no endpoint is any more: upstream's conntrack reconciler.
//!
//! A rule is asked for the first packet of a flow only. A client that goes on sending from one port, as resolvers do, stays
//! with the endpoint of its first datagram for as long as it sends, whether that endpoint is there or not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use host::conntrack::{Flow, UDP};

use crate::services::ServicePort;

/// Where the Services of UDP are reached, and the endpoints that still answer there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flows {
    addresses: BTreeMap<(IpAddr, u16), BTreeSet<IpAddr>>,
    node_ports: BTreeMap<u16, BTreeSet<IpAddr>>,
}

impl Flows {
    /// Those of all Services that have an endpoint; flows to the others go nowhere, and need not be looked for.
    pub(crate) fn of<'a>(ports: impl Iterator<Item = &'a ServicePort>) -> Self {
        let mut flows = Self::default();
        for port in ports.filter(|port| port.protocol == "udp" && !port.serving.is_empty()) {
            for address in port.cluster_ips.iter().chain(&port.external_ips) {
                flows.addresses.insert((*address, port.port), port.serving.clone());
            }
            if let Some(node_port) = port.node_port {
                flows.node_ports.insert(node_port, port.serving.clone());
            }
        }
        flows
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether a flow was sent to a Service and is answered by nobody of its endpoints.
    pub(crate) fn is_stale(&self, flow: &Flow) -> bool {
        let gone = |endpoints: Option<&BTreeSet<IpAddr>>| endpoints.is_some_and(|known| !known.contains(&flow.answers));
        flow.protocol == UDP
            && (gone(self.addresses.get(&(flow.to, flow.port))) || gone(self.node_ports.get(&flow.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: &'static str, serving: &[&str]) -> ServicePort {
        ServicePort {
            id: "d/dns/udp/".into(),
            protocol,
            port: 53,
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            external_ips: Vec::new(),
            node_port: Some(30053),
            health_port: None,
            balancer_ips: Vec::new(),
            source_ranges: None,
            affinity: None,
            internal_local: false,
            external_local: false,
            endpoints: Vec::new(),
            local_endpoints: Vec::new(),
            serving: serving.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_flow_is_stale_whose_endpoint_no_longer_answers() {
        let flows = Flows::of([port("udp", &["10.244.0.2"])].iter());
        let check = |protocol, to: &str, port, answers: &str, expected| {
            let flow = Flow { protocol, to: to.parse().unwrap(), port, answers: answers.parse().unwrap() };
            assert_eq!(flows.is_stale(&flow), expected, "{flow:?}");
        };
        check(UDP, "10.96.0.10", 53, "10.244.0.2", false);
        check(UDP, "10.96.0.10", 53, "10.244.0.3", true);
        // It began before there was a Service of this address.
        check(UDP, "10.96.0.10", 53, "10.96.0.10", true);
        check(UDP, "10.96.0.10", 54, "10.244.0.3", false);
        check(UDP, "192.0.2.1", 30053, "10.244.0.3", true);
        check(UDP, "192.0.2.1", 30053, "10.244.0.2", false);
        check(6, "10.96.0.10", 53, "10.244.0.3", false);
    }

    #[test]
    fn only_services_of_datagrams_with_endpoints_have_flows_to_look_for() {
        assert!(Flows::of([port("tcp", &["10.244.0.2"]), port("udp", &[])].iter()).is_empty());
    }
}
