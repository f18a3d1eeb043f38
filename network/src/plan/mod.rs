//! Which nodes' pods are reached, and where: what Node objects say, after it was doubted. Pure.
//!
//! A kubelet writes its own addresses, and whoever may write Nodes their ranges. What one Node says must not take traffic
//! away from another, from pods or Services: it is refused, and costs that Node its routes, nobody else. Of two that say the
//! same, the one that had it first keeps it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use facts::cidr::{self, Cidr};
use k8s_openapi::api::core::v1::Node;

use crate::Config;

/// A range with fewer addresses has none for pods.
const LONGEST: u8 = 30;

/// A node, with the pods that are reached by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) range: Range,
}

/// An IPv4 range of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) base: Ipv4Addr,
    pub(crate) bits: u8,
}

impl Range {
    fn of(range: Cidr) -> Option<Self> {
        match range.base() {
            IpAddr::V4(base) => Some(Self { base, bits: range.bits() }),
            IpAddr::V6(_) => None,
        }
    }

    pub(crate) fn cidr(self) -> Cidr {
        Cidr::new(self.base.into(), self.bits)
    }
}

/// Whether two ranges have an address in common.
fn overlap(one: Cidr, other: Cidr) -> bool {
    one.contains(other.base()) || other.contains(one.base())
}

/// Why a node's pods are not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("podCIDR {0:?} is no IPv4 range of a node")]
    NoRange(String),
    #[error("podCIDR {0} is not within the cluster's range of pods")]
    OutsideCluster(Cidr),
    #[error("podCIDR {range} is larger than the /{bits} of a node")]
    TooLarge { range: Cidr, bits: u8 },
    #[error("podCIDR {range} overlaps that of node {other}")]
    RangeTaken { range: Cidr, other: String },
    #[error("InternalIP {0:?} is no address that another machine can have")]
    NoAddress(String),
    #[error("InternalIP {address} lies in {range}, where pods or Services are")]
    NotANode { address: Ipv4Addr, range: Cidr },
    #[error("InternalIP {address} is that of node {other}")]
    AddressTaken { address: Ipv4Addr, other: String },
    #[error("InternalIP {0} is an address of this machine, or of its pods")]
    Local(Ipv4Addr),
    #[error("there is no route to InternalIP {address}: {why}")]
    Unreachable { address: Ipv4Addr, why: String },
    #[error("another route to {0} is there already")]
    Routed(Cidr),
}

/// What follows from the Nodes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// This node, once it has address and range.
    pub(crate) own: Option<Peer>,
    pub(crate) peers: Vec<Peer>,
    /// By the names of nodes.
    pub(crate) refused: BTreeMap<String, Refusal>,
}

/// Decides about all nodes; `before` are the peers of the last decision, who keep what they have.
pub(crate) fn plan(config: &Config, nodes: &[Arc<Node>], before: &[Peer]) -> Plan {
    let mut plan = Plan::default();
    let (own, mut others): (Vec<&Arc<Node>>, Vec<&Arc<Node>>) =
        nodes.iter().partition(|node| name(node) == config.node_name);
    if let Some(own) = own.first() {
        plan.own = read(config, own).and_then(Result::ok);
    }
    let had = |node: &Node| before.iter().any(|peer| read(config, node) == Some(Ok(peer.clone())));
    others.sort_by_cached_key(|node| (!had(node), created(node), name(node).to_owned()));
    for node in others {
        match read(config, node).map(|read| read.and_then(|peer| plan.admit(peer))) {
            // It has neither range nor address yet.
            None => {}
            Some(Ok(peer)) => plan.peers.push(peer),
            Some(Err(refusal)) => {
                plan.refused.insert(name(node).to_owned(), refusal);
            }
        }
    }
    plan
}

impl Plan {
    /// Refuses what is this node's or that of one who came before.
    fn admit(&self, peer: Peer) -> Result<Peer, Refusal> {
        for other in self.own.iter().chain(&self.peers) {
            let name = || other.name.clone();
            if overlap(peer.range.cidr(), other.range.cidr()) {
                return Err(Refusal::RangeTaken { range: peer.range.cidr(), other: name() });
            }
            if peer.address == other.address {
                return Err(Refusal::AddressTaken { address: peer.address, other: name() });
            }
        }
        Ok(peer)
    }
}

/// A node as it says of itself; `None` while it does not say enough.
fn read(config: &Config, node: &Node) -> Option<Result<Peer, Refusal>> {
    let (range, address) = (range_text(node)?, address_text(node)?);
    Some(range_of(config, range).and_then(|range| {
        let address = address_of(config, address)?;
        Ok(Peer { name: name(node).to_owned(), address, range })
    }))
}

fn range_of(config: &Config, text: &str) -> Result<Range, Refusal> {
    let bad = || Refusal::NoRange(text.to_owned());
    let (base, bits) = cidr::parse(text).ok_or_else(bad)?;
    let cidr = Cidr::new(base, bits);
    let range = Range::of(cidr).filter(|_| cidr.base() == base).ok_or_else(bad)?;
    let is_within = |cluster: &Cidr| cluster.contains(base) && cluster.bits() <= bits;
    if !config.cluster_cidrs.iter().any(is_within) {
        return Err(Refusal::OutsideCluster(cidr));
    }
    match bits {
        _ if bits < config.node_bits => Err(Refusal::TooLarge { range: cidr, bits: config.node_bits }),
        0..=LONGEST => Ok(range),
        _ => Err(bad()),
    }
}

fn address_of(config: &Config, text: &str) -> Result<Ipv4Addr, Refusal> {
    let address: Ipv4Addr = text.parse().map_err(|_| Refusal::NoAddress(text.to_owned()))?;
    if !host::is_elsewhere(address.into()) {
        return Err(Refusal::NoAddress(text.to_owned()));
    }
    let within = config.cluster_cidrs.iter().chain(&config.not_nodes).find(|range| range.contains(address.into()));
    within.map_or(Ok(address), |range| Err(Refusal::NotANode { address, range: *range }))
}

/// The first IPv4 range, or else whatever stands there.
fn range_text(node: &Node) -> Option<&str> {
    let spec = node.spec.as_ref()?;
    let all = || spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).filter(|text| !text.is_empty());
    all().find(|text| !text.contains(':')).or_else(|| all().next()).map(String::as_str)
}

/// The first IPv4 address, or else whatever stands there.
fn address_text(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_deref()?;
    let all = || addresses.iter().filter(|one| one.type_ == "InternalIP").map(|one| one.address.as_str());
    all().find(|text| !text.contains(':')).or_else(|| all().next())
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn created(node: &Node) -> Option<k8s_openapi::jiff::Timestamp> {
    node.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests;
