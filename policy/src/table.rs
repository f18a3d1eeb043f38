//! The rules of one node as data: sets of addresses, chains that ask for them, and which chain judges which address.
//!
//! ```text
//! output  -> no pod is told of a shorter way to another (ICMP redirects)
//! forward -> replies of connections pass
//!         -> a pod to itself passes
//!         -> over the pods' bridge, from or to no known pod: dropped
//!         -> egress[source]       -> a chain: return when a rule allows it, drop at its end
//!         -> ingress[destination] -> the same
//! ```
//! A chain is named after what it says, a set after what it holds: pods that the same policies select share one chain, and
//! policies with the same selectors one set. What a packet costs depends on the rules for its two pods only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use facts::ranges::Range;

/// Which way packets go that a rule is about, as seen from the pod that it isolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// A protocol by its name in the API, TCP by default.
    pub(crate) fn of(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

/// A member of a set: an address, or an address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    pub(crate) address: IpAddr,
    pub(crate) port: Option<(Protocol, u16)>,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// Addresses of pods.
    Addresses(BTreeSet<Element>),
    /// Ports of pods.
    Ports(BTreeSet<Element>),
    /// Addresses that never change.
    Ranges(Vec<Range>),
}

impl Set {
    fn elements(&mut self) -> Option<&mut BTreeSet<Element>> {
        match self {
            Self::Addresses(elements) | Self::Ports(elements) => Some(elements),
            Self::Ranges(_) => None,
        }
    }
}

/// Ports of one protocol, in order and apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ports {
    pub(crate) protocol: Protocol,
    /// Empty for all of them.
    pub(crate) ranges: Vec<(u16, u16)>,
}

/// What a chain allows; what no line of it allows is dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Line {
    /// The other side is in this set, or may be anybody; on these ports, or any.
    Peer { set: Option<String>, ports: Option<Ports> },
    /// The other side's address and port are in this set.
    Port { set: String },
}

/// The set of all pods of this node whose policies are known.
pub(crate) const PODS: &str = "pods";

/// All rules of one node, and which of them have changed since the kernel had them all.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) sets: BTreeMap<String, Set>,
    pub(crate) chains: BTreeMap<String, Chain>,
    pub(crate) verdicts: BTreeMap<(Direction, IpAddr), String>,
    /// `None` while nobody knows what the kernel has.
    pub(crate) journal: Option<Journal>,
}

/// A chain, and how many addresses it judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) lines: Vec<Line>,
    users: usize,
}

/// What the kernel has, of everything that was touched since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    pub(crate) sets: BTreeMap<String, bool>,
    pub(crate) elements: BTreeMap<(String, Element), bool>,
    pub(crate) chains: BTreeMap<String, bool>,
    pub(crate) verdicts: BTreeMap<(Direction, IpAddr), Option<String>>,
}

impl Table {
    /// No pods, and nothing known of the kernel.
    pub(crate) fn new() -> Self {
        let sets = BTreeMap::from([(PODS.to_owned(), Set::Addresses(BTreeSet::new()))]);
        Self { sets, chains: BTreeMap::new(), verdicts: BTreeMap::new(), journal: None }
    }

    /// From now on the kernel has what this holds.
    pub(crate) fn settled(&mut self) {
        self.journal = Some(Journal::default());
    }

    /// Nobody knows any more what the kernel has.
    pub(crate) fn forget(&mut self) {
        self.journal = None;
    }

    pub(crate) fn add_set(&mut self, name: &str, set: Set) {
        if let Some(journal) = &mut self.journal {
            journal.sets.entry(name.to_owned()).or_insert(false);
        }
        self.sets.insert(name.to_owned(), set);
    }

    pub(crate) fn remove_set(&mut self, name: &str) {
        let Some(mut set) = self.sets.remove(name) else { return };
        let Some(journal) = &mut self.journal else { return };
        journal.sets.entry(name.to_owned()).or_insert(true);
        // It may come back before the kernel hears of this.
        for element in set.elements().into_iter().flat_map(|elements| elements.iter()) {
            journal.elements.entry((name.to_owned(), *element)).or_insert(true);
        }
    }

    /// Adds an element to a set, or removes it.
    pub(crate) fn place(&mut self, set: &str, element: Element, present: bool) {
        let Some(elements) = self.sets.get_mut(set).and_then(Set::elements) else { return };
        let changed = if present { elements.insert(element) } else { elements.remove(&element) };
        if changed && let Some(journal) = &mut self.journal {
            journal.elements.entry((set.to_owned(), element)).or_insert(!present);
        }
    }

    /// Has a chain judge what goes to or from an address; `lines` makes the chain if it is not there.
    pub(crate) fn judge(&mut self, at: (Direction, IpAddr), chain: &str, lines: impl FnOnce() -> Vec<Line>) {
        if self.verdicts.get(&at).is_some_and(|current| current == chain) {
            return;
        }
        let known = self.chains.entry(chain.to_owned()).or_insert_with(|| {
            if let Some(journal) = &mut self.journal {
                journal.chains.entry(chain.to_owned()).or_insert(false);
            }
            Chain { lines: lines(), users: 0 }
        });
        known.users += 1;
        self.acquit(at);
        if let Some(journal) = &mut self.journal {
            journal.verdicts.entry(at).or_insert(None);
        }
        self.verdicts.insert(at, chain.to_owned());
    }

    /// No chain judges this address any more.
    pub(crate) fn acquit(&mut self, at: (Direction, IpAddr)) {
        let Some(chain) = self.verdicts.remove(&at) else { return };
        if let Some(known) = self.chains.get_mut(&chain) {
            known.users -= 1;
            if known.users == 0 {
                self.chains.remove(&chain);
                if let Some(journal) = &mut self.journal {
                    journal.chains.entry(chain.clone()).or_insert(true);
                }
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.verdicts.entry(at).or_insert(Some(chain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> Element {
        Element { address: text.parse().unwrap(), port: None }
    }

    #[test]
    fn a_chain_lives_for_as_long_as_it_judges_somebody() {
        let mut table = Table::new();
        let at = |text: &str| (Direction::Ingress, text.parse::<IpAddr>().unwrap());
        table.judge(at("10.0.0.1"), "a", Vec::new);
        table.judge(at("10.0.0.2"), "a", Vec::new);
        table.judge(at("10.0.0.2"), "a", || panic!("it is there"));
        table.acquit(at("10.0.0.1"));
        assert!(table.chains.contains_key("a"));
        table.judge(at("10.0.0.2"), "b", Vec::new);
        assert_eq!(table.chains.keys().collect::<Vec<_>>(), ["b"]);
        table.acquit(at("10.0.0.2"));
        assert!(table.chains.is_empty() && table.verdicts.is_empty());
    }

    #[test]
    fn what_was_undone_before_the_kernel_heard_of_it_is_remembered_as_it_was() {
        let mut table = Table::new();
        table.add_set("s", Set::Addresses(BTreeSet::new()));
        table.place("s", element("10.0.0.1"), true);
        table.settled();
        table.remove_set("s");
        table.add_set("s", Set::Addresses(BTreeSet::new()));
        table.place("s", element("10.0.0.2"), true);
        let journal = table.journal.unwrap();
        assert!(journal.sets["s"]);
        assert!(journal.elements[&("s".to_owned(), element("10.0.0.1"))]);
        assert!(!journal.elements[&("s".to_owned(), element("10.0.0.2"))]);
    }
}
