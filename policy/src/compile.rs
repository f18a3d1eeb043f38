//! A NetworkPolicy taken apart: whom it isolates in which direction, and whom its rules let through.
//!
//! What the API tells apart is told apart here: no rules allow nobody, a rule without peers allows everybody, a rule
//! without ports all protocols. What cannot be read allows nothing.

use std::collections::{BTreeMap, BTreeSet};

use facts::{labels, ranges};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::hash::short_hash;
use crate::members::{Members, Peers, Scope, Where};
use crate::pod::PodFacts;
use crate::table::{Direction, Line, Ports, Protocol};

/// A policy, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    selector: LabelSelector,
    ingress: Option<Rules>,
    egress: Option<Rules>,
    /// The sets that its rules ask, by name.
    pub(crate) sets: BTreeMap<String, Members>,
}

/// The rules of one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// What two policies with the same rules have in common.
    pub(crate) digest: String,
}

#[derive(Clone, Debug)]
struct Rule {
    /// Names of sets; `None` is everybody.
    peers: Option<Vec<String>>,
    /// `None` is everything.
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug)]
enum Port {
    Numbers(Ports),
    /// Of the pod that is isolated.
    Own(Protocol, String),
    /// Of peers: a set with their addresses and ports.
    Theirs(String),
}

impl Policy {
    /// Takes a policy apart.
    pub(crate) fn of(policy: &NetworkPolicy) -> Self {
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let spec = policy.spec.clone().unwrap_or_default();
        let (ingress, egress) = (spec.ingress.unwrap_or_default(), spec.egress.unwrap_or_default());
        // As the API server fills in.
        let governs = |kind: &str, unsaid: bool| match spec.policy_types.as_deref() {
            None | Some([]) => unsaid,
            Some(kinds) => kinds.iter().any(|one| one == kind),
        };
        let (governs_in, governs_out) = (governs("Ingress", true), governs("Egress", !egress.is_empty()));
        let mut maker = Maker { namespace, sets: BTreeMap::new() };
        let incoming = ingress.iter().map(|rule| (rule.from.as_deref(), rule.ports.as_deref()));
        let ingress = governs_in.then(|| maker.rules(Direction::Ingress, incoming));
        let outgoing = egress.iter().map(|rule| (rule.to.as_deref(), rule.ports.as_deref()));
        let egress = governs_out.then(|| maker.rules(Direction::Egress, outgoing));
        Self { selector: spec.pod_selector.unwrap_or_default(), ingress, egress, sets: maker.sets }
    }

    /// Whether it isolates a pod of its namespace, in whichever direction.
    pub(crate) fn selects(&self, pod: &PodFacts) -> bool {
        labels::selects(&self.selector, &pod.labels)
    }

    /// Its rules for a direction, if it isolates pods in that.
    pub(crate) fn rules(&self, direction: Direction) -> Option<&Rules> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

impl Rules {
    /// What a chain for this pod says of them.
    pub(crate) fn lines(&self, pod: &PodFacts) -> impl Iterator<Item = Line> {
        self.rules.iter().flat_map(|rule| rule.lines(pod))
    }

    /// The ports that its names stand for in this pod, as a text.
    pub(crate) fn resolution(&self, pod: &PodFacts) -> String {
        let ports = self.rules.iter().flat_map(|rule| rule.ports.iter().flatten());
        let own = ports.filter_map(|port| match port {
            Port::Own(protocol, name) => Some(format!("{protocol:?} {:?} ", pod.numbers(*protocol, name))),
            Port::Numbers(_) | Port::Theirs(_) => None,
        });
        own.collect()
    }
}

impl Rule {
    fn lines(&self, pod: &PodFacts) -> Vec<Line> {
        let everybody = [None];
        let peers: Vec<Option<&String>> =
            self.peers.as_ref().map_or_else(|| everybody.to_vec(), |sets| sets.iter().map(Some).collect());
        let Some(ports) = &self.ports else {
            return peers.into_iter().map(|set| Line::Peer { set: set.cloned(), ports: None }).collect();
        };
        let mut lines = Vec::new();
        for ports in of_protocols(ports, pod) {
            lines.extend(peers.iter().map(|set| Line::Peer { set: set.cloned(), ports: Some(ports.clone()) }));
        }
        lines.extend(ports.iter().filter_map(|port| match port {
            Port::Theirs(set) => Some(Line::Port { set: set.clone() }),
            Port::Numbers(_) | Port::Own(..) => None,
        }));
        lines
    }
}

/// All numbers of each protocol together.
fn of_protocols(ports: &[Port], pod: &PodFacts) -> Vec<Ports> {
    let of = |protocol: Protocol| {
        let mut found = Vec::new();
        for port in ports {
            match port {
                Port::Numbers(numbers) if numbers.protocol == protocol && numbers.ranges.is_empty() => {
                    return Some(numbers.clone());
                }
                Port::Numbers(numbers) if numbers.protocol == protocol => found.extend(numbers.ranges.iter().copied()),
                Port::Own(own, name) if *own == protocol => {
                    found.extend(pod.numbers(protocol, name).into_iter().map(|port| (port, port)));
                }
                Port::Numbers(_) | Port::Own(..) | Port::Theirs(_) => {}
            }
        }
        let ranges = ranges::united_ports(found.into_iter());
        (!ranges.is_empty()).then_some(Ports { protocol, ranges })
    };
    Protocol::ALL.into_iter().filter_map(of).collect()
}

struct Maker<'a> {
    namespace: &'a str,
    sets: BTreeMap<String, Members>,
}

impl Maker<'_> {
    fn rules<'a>(
        &mut self,
        direction: Direction,
        rules: impl Iterator<Item = (Option<&'a [NetworkPolicyPeer]>, Option<&'a [NetworkPolicyPort]>)>,
    ) -> Rules {
        let rules: Vec<Rule> = rules.map(|(peers, ports)| self.rule(direction, peers, ports)).collect();
        let digest = short_hash(&format!("{rules:?}"));
        Rules { rules, digest }
    }

    fn rule(
        &mut self,
        direction: Direction,
        peers: Option<&[NetworkPolicyPeer]>,
        ports: Option<&[NetworkPolicyPort]>,
    ) -> Rule {
        let peers = peers.filter(|peers| !peers.is_empty()).map(|peers| self.peers(peers));
        let ports = ports.filter(|ports| !ports.is_empty());
        let ports = ports.map(|ports| ports.iter().filter_map(|port| self.port(direction, &peers, port)).collect());
        let peers = peers.map(|peers| {
            let scopes = peers.scopes.into_iter().map(Members::Peers);
            let blocks = (!peers.blocks.is_empty()).then_some(Members::Blocks(peers.blocks));
            scopes.chain(blocks).map(|members| self.set(members)).collect()
        });
        Rule { peers, ports }
    }

    fn peers(&self, peers: &[NetworkPolicyPeer]) -> Peers {
        let scopes: BTreeSet<Scope> = peers.iter().filter_map(|peer| self.scope(peer)).collect();
        let blocks = peers.iter().filter_map(|peer| peer.ip_block.as_ref());
        let blocks = blocks.map(|block| (block.cidr.as_str(), block.except.as_deref().unwrap_or_default()));
        Peers { scopes, blocks: ranges::of_blocks(blocks) }
    }

    fn scope(&self, peer: &NetworkPolicyPeer) -> Option<Scope> {
        let within = match &peer.namespace_selector {
            None => Where::This(self.namespace.to_owned()),
            Some(selector) => Where::Matching(selector.into()),
        };
        if peer.ip_block.is_some() || peer.namespace_selector.is_none() && peer.pod_selector.is_none() {
            return None;
        }
        Some(Scope { within, pods: peer.pod_selector.as_ref().map(Into::into).unwrap_or_default() })
    }

    fn port(&mut self, direction: Direction, peers: &Option<Peers>, port: &NetworkPolicyPort) -> Option<Port> {
        let protocol = Protocol::of(port.protocol.as_deref())?;
        match &port.port {
            None => Some(Port::Numbers(Ports { protocol, ranges: Vec::new() })),
            Some(IntOrString::Int(first)) => {
                let last = port.end_port.unwrap_or(*first);
                let range = (u16::try_from(*first).ok()?, u16::try_from(last).ok()?);
                (range.0 <= range.1).then(|| Port::Numbers(Ports { protocol, ranges: vec![range] }))
            }
            Some(IntOrString::String(name)) => Some(match direction {
                Direction::Ingress => Port::Own(protocol, name.clone()),
                Direction::Egress => {
                    Port::Theirs(self.set(Members::Ports { of: peers.clone(), protocol, name: name.clone() }))
                }
            }),
        }
    }

    fn set(&mut self, members: Members) -> String {
        let name = members.name();
        self.sets.insert(name.clone(), members);
        name
    }
}
