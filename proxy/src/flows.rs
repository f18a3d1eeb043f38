//! Which flows lead where no endpoint is any more: upstream's conntrack reconciler, and a step further.
//!
//! A rule is asked for the first packet of a flow only. A client that goes on sending datagrams from one port, as resolvers do,
//! stays with the endpoint of its first one for as long as it sends, whether that endpoint is there or not. One that wants to
//! connect repeats itself for up to two minutes when nobody answers, each time to the same endpoint: with its flow forgotten, the
//! next attempt finds another one. A connection that was answered is left to its two ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use host::conntrack::{Flow, SCTP, TCP, UDP};

use crate::services::ServicePort;

/// Where Services are reached, and the endpoints that still answer there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flows {
    addresses: BTreeMap<(u8, IpAddr, u16), BTreeSet<IpAddr>>,
    node_ports: BTreeMap<(u8, u16), BTreeSet<IpAddr>>,
}

impl Flows {
    /// Those of ports that have an endpoint; flows to the others go nowhere, and need not be looked for.
    pub(crate) fn of(ports: &[ServicePort]) -> Self {
        let mut flows = Self::default();
        for port in ports.iter().filter(|port| !port.serving.is_empty()) {
            let protocol = match port.protocol {
                "udp" => UDP,
                "sctp" => SCTP,
                _ => TCP,
            };
            for address in port.cluster_ips.iter().chain(&port.external_ips) {
                flows.addresses.insert((protocol, *address, port.port), port.serving.clone());
            }
            if let Some(node_port) = port.node_port {
                flows.node_ports.insert((protocol, node_port), port.serving.clone());
            }
        }
        flows
    }

    /// Whether somebody who answered at `before` does so no longer: there may be flows to it.
    pub(crate) fn have_lost_some(&self, before: &Self) -> bool {
        fn lost<K: Ord>(now: &BTreeMap<K, BTreeSet<IpAddr>>, before: &BTreeMap<K, BTreeSet<IpAddr>>) -> bool {
            // A place that is new may have been somebody else's.
            now.iter().any(|(place, known)| before.get(place).is_none_or(|before| !before.is_subset(known)))
        }
        lost(&self.addresses, &before.addresses) || lost(&self.node_ports, &before.node_ports)
    }

    /// Takes up others, which count for the places of both.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.addresses.extend(others.addresses.clone());
        self.node_ports.extend(others.node_ports.clone());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether a flow was sent to a Service and is answered by nobody of its endpoints.
    pub(crate) fn is_stale(&self, flow: &Flow) -> bool {
        let gone = |endpoints: Option<&BTreeSet<IpAddr>>| endpoints.is_some_and(|known| !known.contains(&flow.answers));
        (flow.protocol == UDP || !flow.answered)
            && (gone(self.addresses.get(&(flow.protocol, flow.to, flow.port)))
                || gone(self.node_ports.get(&(flow.protocol, flow.port))))
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
        let flows = Flows::of(&[port("udp", &["10.244.0.2"]), port("sctp", &["10.244.0.5"])]);
        let check = |protocol, to: &str, port, answers: &str, expected| {
            for answered in [false, true] {
                let (to, answers) = (to.parse().unwrap(), answers.parse().unwrap());
                let flow = Flow { protocol, to, port, answers, answered };
                // Who has answered once may be in the middle of something.
                let expected = expected && (protocol == UDP || !answered);
                assert_eq!(flows.is_stale(&flow), expected, "{flow:?}");
            }
        };
        check(UDP, "10.96.0.10", 53, "10.244.0.2", false);
        check(UDP, "10.96.0.10", 53, "10.244.0.3", true);
        // It began before there was a Service of this address.
        check(UDP, "10.96.0.10", 53, "10.96.0.10", true);
        check(UDP, "10.96.0.10", 54, "10.244.0.3", false);
        check(UDP, "192.0.2.1", 30053, "10.244.0.3", true);
        check(UDP, "192.0.2.1", 30053, "10.244.0.2", false);
        check(TCP, "10.96.0.10", 53, "10.244.0.3", false);
        check(SCTP, "10.96.0.10", 53, "10.244.0.3", true);
        check(SCTP, "10.96.0.10", 53, "10.244.0.5", false);
    }

    #[test]
    fn flows_are_looked_for_when_an_endpoint_is_gone_or_a_place_is_new() {
        let of = |serving: &[&str]| Flows::of(&[port("tcp", serving)]);
        let (one, two) = (of(&["10.244.0.2"]), of(&["10.244.0.2", "10.244.0.3"]));
        assert!(one.have_lost_some(&two) && one.have_lost_some(&Flows::default()));
        assert!(!two.have_lost_some(&one) && !one.have_lost_some(&one) && !Flows::default().have_lost_some(&one));
    }

    #[test]
    fn services_without_endpoints_have_no_flows_to_look_for() {
        assert!(Flows::of(&[port("tcp", &[]), port("udp", &[])]).is_empty());
    }
}
