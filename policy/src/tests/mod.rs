//! Policies against packets, by the table as data: the cases of upstream's suite `[sig-network] Netpol` and of the API's
//! documentation. That nft and the kernel understand the table alike is what `policy/tests` shows.

mod changes;

use std::net::IpAddr;

use client::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, from_value, json};

use crate::compile::Policy;
use crate::model::Model;
use crate::pod::PodFacts;
use crate::table::{Direction, Element, Line, PODS, Ports, Protocol, Set, Table};

const NODE: &str = "here";

/// A cluster of upstream's suite: namespaces x, y and z, each with pods a, b and c, all on this node.
struct Cluster {
    model: Model,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self { model: Model::new() };
        for namespace in ["x", "y", "z"] {
            cluster.label_namespace(namespace, json!({"ns": namespace}));
            for pod in ["a", "b", "c"] {
                cluster.set_pod(
                    namespace,
                    pod,
                    NODE,
                    &[&ip(namespace, pod), &ip6(namespace, pod)],
                    json!({"pod": pod}),
                );
            }
        }
        cluster
    }

    fn label_namespace(&mut self, name: &str, labels: Value) {
        self.model.set_namespace(name, from_value(labels).unwrap());
    }

    fn set_pod(&mut self, namespace: &str, name: &str, node: &str, ips: &[&str], labels: Value) {
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        let pod: Pod = from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [
                {"name": "serve-80-tcp", "containerPort": 80}, {"name": "serve-80-udp", "containerPort": 80, "protocol": "UDP"},
                {"name": format!("only-{name}"), "containerPort": 81}]}]},
            "status": {"phase": "Running", "podIPs": ips},
        }))
        .unwrap();
        self.model.set_pod(&ObjectKey::new(namespace, name), PodFacts::of(&pod, NODE));
    }

    fn remove_pod(&mut self, namespace: &str, name: &str) {
        self.model.set_pod(&ObjectKey::new(namespace, name), None);
    }

    fn apply(&mut self, namespace: &str, name: &str, spec: Value) -> &mut Self {
        let policy = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
        let policy: NetworkPolicy = from_value(policy).unwrap();
        self.model.set_policy(&ObjectKey::new(namespace, name), Some(Policy::of(&policy)));
        self
    }

    fn remove_policy(&mut self, namespace: &str, name: &str) {
        self.model.set_policy(&ObjectKey::new(namespace, name), None);
    }

    fn passes(&self, from: &str, to: &str, protocol: Option<Protocol>, port: u16) -> bool {
        passes(&self.model.table, from.parse().unwrap(), to.parse().unwrap(), protocol, port)
    }

    /// Checks which of all pairs of pods may not speak TCP to port 80, in both families: `x/a y/b` is from x/a to y/b, and a
    /// star stands for all.
    #[track_caller]
    fn forbids(&self, expected: &[&str]) {
        let pods: Vec<(&str, &str)> =
            ["x", "y", "z"].into_iter().flat_map(|ns| ["a", "b", "c"].map(|pod| (ns, pod))).collect();
        for from in &pods {
            for to in &pods {
                let pattern = |text: &str, (namespace, pod): (&str, &str)| match text.split_once('/') {
                    Some((ns, name)) => (ns == "*" || ns == namespace) && (name == "*" || name == pod),
                    None => text == "*",
                };
                let matches = |text: &&str| {
                    let (source, destination) = text.split_once(' ').unwrap();
                    pattern(source, *from) && pattern(destination, *to)
                };
                let forbidden = from != to && expected.iter().any(matches);
                for address in [ip, ip6] {
                    let (source, destination) = (address(from.0, from.1), address(to.0, to.1));
                    let through = self.passes(&source, &destination, Some(Protocol::Tcp), 80);
                    assert_eq!(through, !forbidden, "{from:?} to {to:?} ({source} to {destination})");
                }
            }
        }
    }
}

fn ip(namespace: &str, pod: &str) -> String {
    format!("10.244.{}.{}", namespace.as_bytes()[0], pod.as_bytes()[0])
}

fn ip6(namespace: &str, pod: &str) -> String {
    format!("fd00::{}:{}", namespace.as_bytes()[0], pod.as_bytes()[0])
}

/// What the chain `forward` does with the first packet of a connection; both addresses are behind the pods' bridge, or not.
fn passes(table: &Table, from: IpAddr, to: IpAddr, protocol: Option<Protocol>, port: u16) -> bool {
    let has = |set: &str, element: Element| match &table.sets[set] {
        Set::Addresses(elements) | Set::Ports(elements) => elements.contains(&element),
        Set::Ranges(ranges) => ranges.iter().any(|range| range.contains(element.address)),
    };
    if from == to {
        return has(PODS, Element { address: from, port: None });
    }
    let judged = |direction: Direction, subject: IpAddr, peer: IpAddr| {
        let Some(chain) = table.verdicts.get(&(direction, subject)) else { return true };
        let fits = |ports: &Ports| {
            protocol == Some(ports.protocol)
                && (ports.ranges.is_empty()
                    || ports.ranges.iter().any(|(first, last)| (*first..=*last).contains(&port)))
        };
        table.chains[chain].lines.iter().any(|line| match line {
            Line::Peer { set, ports } => {
                set.as_ref().is_none_or(|set| has(set, Element { address: peer, port: None }))
                    && ports.as_ref().is_none_or(fits)
            }
            Line::Port { set } => {
                protocol.is_some_and(|protocol| has(set, Element { address: peer, port: Some((protocol, port)) }))
            }
        })
    };
    judged(Direction::Egress, from, to) && judged(Direction::Ingress, to, from)
}

#[test]
fn without_policies_all_pods_reach_each_other() {
    Cluster::new().forbids(&[]);
}

#[test]
fn no_rules_are_not_an_empty_rule() {
    for (spec, forbidden) in [
        (json!({"podSelector": {}}), &["* x/*"][..]),
        (json!({"podSelector": {}, "ingress": []}), &["* x/*"]),
        (json!({"podSelector": {}, "ingress": [{}]}), &[]),
        (json!({"podSelector": {}, "ingress": [{"from": [], "ports": []}]}), &[]),
        (json!({"podSelector": {}, "policyTypes": ["Egress"]}), &["x/* *"]),
        (json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}), &[]),
        (json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), &["* x/*", "x/* *"]),
        // Unsaid, egress is governed when there are rules for it.
        (
            json!({"podSelector": {}, "egress": [{"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]}),
            &["* x/*", "x/* y/*", "x/* z/*"],
        ),
        (
            json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"], "ingress": [{}], "egress": []}),
            &["x/a *"],
        ),
        (json!({"podSelector": {"matchLabels": {"pod": "nobody"}}}), &[]),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["a", "b"]}]}}),
            &["* x/c"],
        ),
    ] {
        Cluster::new().apply("x", "p", spec.clone()).forbids(forbidden);
    }
}

#[test]
fn peers_are_chosen_by_pod_by_namespace_and_by_both() {
    let from = |peers: Value| json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": peers}]});
    let pod = |pod: &str| json!({"matchLabels": {"pod": pod}});
    let namespace = |ns: &str| json!({"matchLabels": {"ns": ns}});
    for (peers, forbidden) in [
        // A pod selector alone is about the policy's own namespace.
        (json!([{"podSelector": pod("b")}]), &["y/* x/a", "z/* x/a", "x/c x/a"][..]),
        (json!([{"namespaceSelector": namespace("y")}]), &["x/* x/a", "z/* x/a"]),
        (
            json!([{"namespaceSelector": namespace("y"), "podSelector": pod("b")}]),
            &["x/* x/a", "z/* x/a", "y/a x/a", "y/c x/a"],
        ),
        // Two peers are either of them.
        (json!([{"namespaceSelector": namespace("y")}, {"podSelector": pod("b")}]), &["x/c x/a", "z/* x/a"]),
        (json!([{"namespaceSelector": {}}]), &[]),
        (json!([{"podSelector": {}}]), &["y/* x/a", "z/* x/a"]),
        (
            json!([{"namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]}}]),
            &["x/* x/a"],
        ),
        (json!([{"namespaceSelector": {"matchExpressions": [{"key": "gone", "operator": "Exists"}]}}]), &["* x/a"]),
    ] {
        Cluster::new().apply("x", "p", from(peers.clone())).forbids(forbidden);
    }
}

#[test]
fn policies_add_up_and_both_sides_must_allow() {
    let mut cluster = Cluster::new();
    let allow = |from: &str| json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": from}}}]}]});
    cluster.apply("x", "deny", json!({"podSelector": {}})).forbids(&["* x/*"]);
    cluster.apply("x", "b", allow("b")).forbids(&["* x/b", "* x/c", "y/* x/a", "z/* x/a", "x/c x/a"]);
    cluster.apply("x", "c", allow("c")).forbids(&["* x/b", "* x/c", "y/* x/a", "z/* x/a"]);
    cluster.apply("x", "out", json!({"podSelector": {"matchLabels": {"pod": "b"}}, "policyTypes": ["Egress"]}));
    cluster.forbids(&["* x/b", "* x/c", "y/* x/a", "z/* x/a", "x/b *"]);
    cluster.apply("x", "deny", json!({"podSelector": {}, "ingress": [{}]})).forbids(&["x/b *"]);
    ["out", "b", "c", "deny"].iter().for_each(|name| cluster.remove_policy("x", name));
    cluster.forbids(&[]);
    assert_eq!(cluster.model.table.sets.keys().collect::<Vec<_>>(), [PODS]);
    assert!(cluster.model.table.chains.is_empty() && cluster.model.table.verdicts.is_empty());
}

#[test]
fn blocks_are_of_whatever_is_there_without_their_exceptions() {
    let mut cluster = Cluster::new();
    let block = |blocks: Value| json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"], "egress": [{"to": blocks}]});
    let (all, b) = (format!("{}/24", ip("y", "a")), format!("{}/32", ip("y", "b")));
    cluster.apply("x", "p", block(json!([{"ipBlock": {"cidr": all, "except": [b]}}])));
    let from = ip("x", "a");
    assert!(cluster.passes(&from, &ip("y", "a"), Some(Protocol::Tcp), 80));
    assert!(!cluster.passes(&from, &ip("y", "b"), Some(Protocol::Tcp), 80));
    assert!(!cluster.passes(&from, &ip("z", "a"), Some(Protocol::Tcp), 80));
    assert!(!cluster.passes(&ip6("x", "a"), &ip6("y", "a"), Some(Protocol::Tcp), 80), "the other family is not meant");
    cluster.apply("x", "q", block(json!([{"ipBlock": {"cidr": b}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}])));
    for (to, expected) in [(ip("y", "b"), true), ("192.0.2.9".into(), true), ("192.0.3.9".into(), false)] {
        assert_eq!(cluster.passes(&from, &to, Some(Protocol::Tcp), 80), expected, "{to}");
    }
}

#[test]
fn ports_are_numbers_ranges_names_or_all_of_a_protocol() {
    use Protocol::{Sctp, Tcp, Udp};
    let check = |ports: Value, allowed: &[(Protocol, u16)], forbidden: &[(Protocol, u16)]| {
        for direction in ["ingress", "egress"] {
            let mut cluster = Cluster::new();
            let types = if direction == "ingress" { "Ingress" } else { "Egress" };
            cluster.apply("x", "p", json!({"podSelector": {}, "policyTypes": [types], direction: [{"ports": ports}]}));
            let (from, to) =
                if direction == "ingress" { (ip("y", "b"), ip("x", "a")) } else { (ip("x", "b"), ip("y", "a")) };
            for (list, expected) in [(allowed, true), (forbidden, false)] {
                for (protocol, port) in list {
                    assert_eq!(
                        cluster.passes(&from, &to, Some(*protocol), *port),
                        expected,
                        "{direction} {ports} {protocol:?} {port}"
                    );
                }
            }
            assert!(!cluster.passes(&from, &to, None, 0), "a rule with ports is about protocols with ports");
        }
    };
    check(json!([{"port": 80}]), &[(Tcp, 80)], &[(Udp, 80), (Sctp, 80), (Tcp, 81)]);
    check(
        json!([{"port": 80, "protocol": "UDP"}, {"port": 81, "protocol": "SCTP"}]),
        &[(Udp, 80), (Sctp, 81)],
        &[(Tcp, 80), (Udp, 81)],
    );
    check(
        json!([{"port": 8000, "endPort": 8002}]),
        &[(Tcp, 8000), (Tcp, 8002)],
        &[(Tcp, 7999), (Tcp, 8003), (Udp, 8001)],
    );
    check(json!([{"protocol": "UDP"}]), &[(Udp, 1), (Udp, 65535)], &[(Tcp, 1)]);
    check(json!([{}]), &[(Tcp, 1)], &[(Udp, 1)]);
    check(json!([{"port": "serve-80-tcp"}]), &[(Tcp, 80)], &[(Udp, 80), (Tcp, 81)]);
    check(json!([{"port": "serve-80-udp", "protocol": "UDP"}, {"port": 9}]), &[(Udp, 80), (Tcp, 9)], &[(Tcp, 80)]);
    // What nobody calls so allows nothing, and so does what is no port.
    check(json!([{"port": "nobody"}]), &[], &[(Tcp, 80), (Udp, 80)]);
    check(json!([{"port": "serve-80-udp"}]), &[], &[(Tcp, 80), (Udp, 80)]);
    check(
        json!([{"port": 70000}, {"port": 90, "endPort": 80}, {"port": 80, "protocol": "ICMP"}]),
        &[],
        &[(Tcp, 80), (Tcp, 85)],
    );
    // Each pod has its own ports of a name.
    check(json!([{"port": "only-a"}]), &[(Tcp, 81)], &[(Tcp, 80)]);
    check(json!([{"port": "only-b"}]), &[], &[(Tcp, 80), (Tcp, 81)]);
}

#[test]
fn names_of_ports_are_those_of_the_peers_that_a_rule_is_about() {
    let mut cluster = Cluster::new();
    let to = json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}}, {"ipBlock": {"cidr": format!("{}/32", ip("z", "a"))}}]);
    cluster.apply(
        "x",
        "p",
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": to, "ports": [{"port": "only-a"}]}]}),
    );
    for (to, port, expected) in [
        (ip("y", "a"), 81, true),
        (ip("y", "a"), 80, false),
        (ip("y", "b"), 81, false),
        (ip("z", "a"), 81, true),
        (ip("x", "b"), 81, false),
        ("192.0.2.1".into(), 81, false),
    ] {
        assert_eq!(cluster.passes(&ip("x", "c"), &to, Some(Protocol::Tcp), port), expected, "{to} {port}");
    }
}

#[test]
fn protocols_without_ports_are_for_rules_without_ports() {
    let mut cluster = Cluster::new();
    let peer = json!([{"podSelector": {"matchLabels": {"pod": "b"}}}]);
    cluster.apply("x", "p", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": peer}]}));
    assert!(cluster.passes(&ip("x", "b"), &ip("x", "a"), None, 0));
    assert!(!cluster.passes(&ip("x", "c"), &ip("x", "a"), None, 0));
}

#[test]
fn labels_that_change_change_who_is_isolated_and_who_is_a_peer() {
    let mut cluster = Cluster::new();
    let peer =
        json!({"namespaceSelector": {"matchLabels": {"team": "t"}}, "podSelector": {"matchLabels": {"pod": "b"}}});
    cluster.apply("x", "p", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [peer]}]}));
    cluster.forbids(&["* x/a"]);
    cluster.label_namespace("y", json!({"ns": "y", "team": "t"}));
    cluster.forbids(&["x/* x/a", "z/* x/a", "y/a x/a", "y/c x/a"]);
    cluster.set_pod("y", "c", NODE, &[&ip("y", "c"), &ip6("y", "c")], json!({"pod": "b"}));
    cluster.forbids(&["x/* x/a", "z/* x/a", "y/a x/a"]);
    cluster.set_pod("x", "a", NODE, &[&ip("x", "a"), &ip6("x", "a")], json!({"pod": "other"}));
    cluster.forbids(&[]);
    cluster.set_pod("x", "a", NODE, &[&ip("x", "a"), &ip6("x", "a")], json!({"pod": "a"}));
    cluster.model.set_namespace("y", None);
    cluster.forbids(&["* x/a"]);
}
