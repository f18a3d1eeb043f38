//! Which nodes' pods are reached, and where: what Node objects say, after it was doubted. Pure.
//!
//! A kubelet writes its own addresses, and whoever may write Nodes their ranges. What one Node says must not take traffic
//! away from another, from pods or Services: it is refused, and costs that Node its routes, nobody else. Of two that say the
//! same, the one that had it first keeps it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use facts::cidr::{self, Cidr};
use host::nft::Family;
use k8s_openapi::api::core::v1::Node;

use crate::Config;

/// A range with fewer addresses has none for pods.
fn longest(family: Family) -> u8 {
    if family == Family::V4 { 30 } else { 126 }
}

/// A node in one family, with the pods that are reached by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) range: Range,
}

impl Peer {
    pub(crate) fn family(&self) -> Family {
        if self.address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// What the node is called inside the tunnel. For IPv6 it is a link-local address (RFC 4291, appendix A): the kernel takes
    /// no other as a gateway to which it knows a way by another link.
    pub(crate) fn in_tunnel(&self) -> IpAddr {
        if self.address.is_ipv4() {
            return self.range.base;
        }
        let [a, b, c, d, e, f] = mac(self.address);
        let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(identifier)).into()
    }
}

/// A range of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) base: IpAddr,
    pub(crate) bits: u8,
}

impl Range {
    fn of(family: Family, range: Cidr) -> Option<Self> {
        family.has(range.base()).then(|| Self { base: range.base(), bits: range.bits() })
    }

    pub(crate) fn cidr(self) -> Cidr {
        Cidr::new(self.base, self.bits)
    }
}

/// Whether two ranges have an address in common.
fn overlap(one: Cidr, other: Cidr) -> bool {
    one.contains(other.base()) || other.contains(one.base())
}

/// Why a node's pods are not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("podCIDR {text:?} is no {family} range of a node")]
    NoRange { family: &'static str, text: String },
    #[error("podCIDR {0} is not within the cluster's range of pods")]
    OutsideCluster(Cidr),
    #[error("podCIDR {range} is larger than the /{bits} of a node")]
    TooLarge { range: Cidr, bits: u8 },
    #[error("podCIDR {range} overlaps that of node {other}")]
    RangeTaken { range: Cidr, other: String },
    #[error("InternalIP {text:?} is no {family} address that another machine can have")]
    NoAddress { family: &'static str, text: String },
    #[error("InternalIP {address} lies in {range}, where pods or Services are")]
    NotANode { address: IpAddr, range: Cidr },
    #[error("InternalIP {address} is that of node {other}")]
    AddressTaken { address: IpAddr, other: String },
    #[error("InternalIP {address} makes the same hardware address in the tunnel as that of node {other}")]
    MacTaken { address: IpAddr, other: String },
    #[error("InternalIP {0} is an address of this machine, or of its pods")]
    Local(IpAddr),
    #[error("there is no route to InternalIP {address}: {why}")]
    Unreachable { address: IpAddr, why: String },
    #[error("another route to {0} is there already")]
    Routed(Cidr),
}

/// What follows from the Nodes in one family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// This node, once it has address and range.
    pub(crate) own: Option<Peer>,
    pub(crate) peers: Vec<Peer>,
    /// By the names of nodes.
    pub(crate) refused: BTreeMap<String, Refusal>,
}

/// The hardware address of a node's end of the tunnel, which all nodes know without being told: a locally administered one,
/// of the node's address. An IPv6 address does not fit into it, and two may come to the same: then the second is refused.
pub(crate) fn mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x0a, 0x58, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [_, _, _, a, b, c, d, e] = fnv(&address.octets()).to_be_bytes();
            [0x0a, a, b, c, d, e]
        }
    }
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Decides about all nodes in one family; `before` are the peers of the last decision, who keep what they have.
pub(crate) fn plan(config: &Config, family: Family, nodes: &[Arc<Node>], before: &[Peer]) -> Plan {
    let config = &View { config, family };
    let mut plan = Plan::default();
    let (own, mut others): (Vec<&Arc<Node>>, Vec<&Arc<Node>>) =
        nodes.iter().partition(|node| name(node) == config.config.node_name);
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
            if mac(peer.address) == mac(other.address) {
                return Err(Refusal::MacTaken { address: peer.address, other: name() });
            }
        }
        Ok(peer)
    }
}

/// What is asked: one family of a cluster.
struct View<'a> {
    config: &'a Config,
    family: Family,
}

impl View<'_> {
    fn name(&self) -> &'static str {
        if self.family == Family::V4 { "IPv4" } else { "IPv6" }
    }

    /// Whether this is the family that every node of the cluster has.
    fn is_first(&self) -> bool {
        self.config.families().first() == Some(&self.family)
    }

    fn is_of_family(&self, text: &str) -> bool {
        text.contains(':') == (self.family == Family::V6)
    }
}

/// A node as it says of itself; `None` while it does not say enough.
fn read(view: &View<'_>, node: &Node) -> Option<Result<Peer, Refusal>> {
    let (range, address) = (range_text(view, node)?, address_text(view, node)?);
    Some(range_of(view, range).and_then(|range| {
        let address = address_of(view, address)?;
        Ok(Peer { name: name(node).to_owned(), address, range })
    }))
}

fn range_of(view: &View<'_>, text: &str) -> Result<Range, Refusal> {
    let bad = || Refusal::NoRange { family: view.name(), text: text.to_owned() };
    let (base, bits) = cidr::parse(text).ok_or_else(bad)?;
    let cidr = Cidr::new(base, bits);
    let range = Range::of(view.family, cidr).filter(|_| cidr.base() == base).ok_or_else(bad)?;
    let is_within = |cluster: &Cidr| cluster.contains(base) && cluster.bits() <= bits;
    if !view.config.cluster_cidrs.iter().any(is_within) {
        return Err(Refusal::OutsideCluster(cidr));
    }
    let least = view.config.node_bits(view.family);
    match bits {
        _ if bits < least => Err(Refusal::TooLarge { range: cidr, bits: least }),
        _ if bits <= longest(view.family) => Ok(range),
        _ => Err(bad()),
    }
}

fn address_of(view: &View<'_>, text: &str) -> Result<IpAddr, Refusal> {
    let bad = || Refusal::NoAddress { family: view.name(), text: text.to_owned() };
    let address: IpAddr = text.parse().map_err(|_| bad())?;
    if !view.family.has(address) || !host::is_elsewhere(address) {
        return Err(bad());
    }
    let ranges = view.config.cluster_cidrs.iter().chain(&view.config.not_nodes);
    let within = ranges.into_iter().find(|range| range.contains(address));
    within.map_or(Ok(address), |range| Err(Refusal::NotANode { address, range: *range }))
}

/// The first range of the family. In the family that every node has, or else whatever stands there; a node need not have
/// the other.
fn range_text<'a>(view: &View<'_>, node: &'a Node) -> Option<&'a str> {
    let spec = node.spec.as_ref()?;
    let all = || spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).filter(|text| !text.is_empty());
    let whatever = || all().next().filter(|_| view.is_first());
    all().find(|text| view.is_of_family(text)).or_else(whatever).map(String::as_str)
}

/// The first address of the family, or else whatever stands there.
fn address_text<'a>(view: &View<'_>, node: &'a Node) -> Option<&'a str> {
    let addresses = node.status.as_ref()?.addresses.as_deref()?;
    let all = || addresses.iter().filter(|one| one.type_ == "InternalIP").map(|one| one.address.as_str());
    all().find(|text| view.is_of_family(text)).or_else(|| all().next())
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn created(node: &Node) -> Option<k8s_openapi::jiff::Timestamp> {
    node.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests;
