//! The rules of a node in nft's words, of which `nft -f -` makes one transaction.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use host::nft::Family;

use crate::table::{Direction, Element, Journal, Line, PODS, Ports, Protocol, Set, Table};

/// Elements that one command adds: nft reads long lines faster than many, and errors stay short.
const AT_ONCE: usize = 512;

/// Where a table is.
pub(crate) struct Place<'a> {
    pub(crate) table: &'a str,
    /// The pods' bridge.
    pub(crate) bridge: &'a str,
}

/// The text that removes the table, whether it is there or not.
pub(crate) fn removal(table: &str, family: Family) -> String {
    let (ip, _) = family.words();
    format!("add table {ip} {table}\ndelete table {ip} {table}\n")
}

/// The text that brings the kernel to what the table says, from whatever it has; empty when it has that already.
pub(crate) fn change(place: &Place<'_>, family: Family, table: &Table) -> String {
    match &table.journal {
        None => whole(place, family, table),
        Some(journal) => difference(place, family, table, journal),
    }
}

/// A bit of a packet's mark: it was judged.
const JUDGED: u32 = 0x1_0000;

/// The text of a table that drops what goes from port to port of the pods' bridge without having been judged. Packets of
/// pods go by way of the node, and frames that a pod writes itself (`CAP_NET_RAW`) would pass by the rules where the kernel
/// does not show them what is bridged. Where it does (`bridge-nf-call-iptables`), packets to Services go from port to port,
/// too, once they have been judged.
pub(crate) fn guard(place: &Place<'_>) -> String {
    let Place { table, bridge } = place;
    format!(
        "{}table bridge {table} {{
  chain forward {{
    type filter hook forward priority 300 ; policy accept ;
    meta ibrname \"{bridge}\" meta protocol {{ ip, ip6 }} meta mark & {JUDGED} == 0 drop
  }}
}}
",
        guard_removal(table)
    )
}

/// The text that removes that table, whether it is there or not.
pub(crate) fn guard_removal(table: &str) -> String {
    format!("add table bridge {table}\ndelete table bridge {table}\n")
}

/// The text that makes the table anew.
fn whole(place: &Place<'_>, family: Family, table: &Table) -> String {
    let mut writer = Writer::new(place, family);
    writer.base(place.bridge);
    for (name, set) in table.sets.iter().filter(|(name, _)| *name != PODS) {
        writer.declare(name, set);
    }
    for (name, chain) in &table.chains {
        writer.chain(name, &chain.lines, &table.sets);
    }
    for (name, set) in &table.sets {
        writer.fill(name, set);
    }
    for direction in Direction::BOTH {
        let pairs = table.verdicts.iter().filter(|((one, _), _)| *one == direction);
        writer.verdicts("add", direction, pairs.map(|((_, address), chain)| (*address, Some(chain.as_str()))));
    }
    writer.text
}

/// The text that brings the kernel from what the journal says to what the table says; empty when that is nothing.
///
/// Chains and sets are made before anything refers to them, and removed after nothing does.
fn difference(place: &Place<'_>, family: Family, table: &Table, journal: &Journal) -> String {
    let mut writer = Writer::new(place, family);
    for (name, set) in added(&journal.sets, &table.sets) {
        writer.declare(name, set);
        writer.fill(name, set);
    }
    for (name, chain) in added(&journal.chains, &table.chains) {
        writer.chain(name, &chain.lines, &table.sets);
    }
    writer.moved(table, journal);
    let changed = |direction: Direction| journal.verdicts.iter().filter(move |((one, _), _)| *one == direction);
    for direction in Direction::BOTH {
        let now = |address: &IpAddr| table.verdicts.get(&(direction, *address));
        let other = || changed(direction).filter(|((_, address), was)| was.as_ref() != now(address));
        let old = other().filter_map(|((_, address), was)| was.as_ref().map(|_| (*address, None)));
        writer.verdicts("delete", direction, old);
        let new = other().filter_map(|((_, address), _)| Some((*address, Some(now(address)?.as_str()))));
        writer.verdicts("add", direction, new);
    }
    for verb in ["flush", "delete"] {
        gone(&journal.chains, &table.chains).for_each(|name| writer.on(verb, "chain", name));
    }
    gone(&journal.sets, &table.sets).for_each(|name| writer.on("delete", "set", name));
    writer.text
}

/// What is there now and was not.
fn added<'a, T>(journal: &'a BTreeMap<String, bool>, now: &'a BTreeMap<String, T>) -> Vec<(&'a String, &'a T)> {
    journal.iter().filter(|(_, was)| !**was).filter_map(|(name, _)| now.get_key_value(name)).collect()
}

/// What was there and is not.
fn gone<'a, T>(journal: &'a BTreeMap<String, bool>, now: &'a BTreeMap<String, T>) -> impl Iterator<Item = &'a String> {
    journal.iter().filter(|(name, was)| **was && !now.contains_key(*name)).map(|(name, _)| name)
}

struct Writer {
    family: Family,
    /// Family and name of the table.
    at: String,
    text: String,
}

impl Writer {
    fn new(place: &Place<'_>, family: Family) -> Self {
        Self { family, at: format!("{} {}", family.words().0, place.table), text: String::new() }
    }

    fn line(&mut self, words: std::fmt::Arguments<'_>) {
        self.text.write_fmt(words).and_then(|()| self.text.write_char('\n')).expect("writing to a String cannot fail");
    }

    fn on(&mut self, verb: &str, kind: &str, name: &str) {
        let at = self.at.clone();
        self.line(format_args!("{verb} {kind} {at} {name}"));
    }

    /// What never changes.
    fn base(&mut self, bridge: &str) {
        let (ip, addr) = self.family.words();
        let (icmp, redirect) = match self.family {
            Family::V4 => ("icmp", "icmp type redirect"),
            // By nft's own word: what IANA calls it is found in /etc/protocols, which a small image does not have.
            Family::V6 => ("icmpv6", "icmpv6 type nd-redirect"),
        };
        let at = self.at.clone();
        self.line(format_args!(
            "add table {at}
delete table {at}
table {at} {{
  comment \"NetworkPolicies of this node's pods, kept by coracle\"
  set {PODS} {{ type {addr} ; }}
  set selves {{ type {addr} . {addr} ; }}
  map ingress {{ type {addr} : verdict ; }}
  map egress {{ type {addr} : verdict ; }}
  chain forward {{
    type filter hook forward priority -5 ; policy accept ;
    iifname \"{bridge}\" oifname \"{bridge}\" meta mark set meta mark or {JUDGED}
    ct state established ct direction reply accept
    ct state related meta l4proto {icmp} accept
    {ip} saddr . {ip} daddr @selves accept
    iifname \"{bridge}\" {ip} saddr != @{PODS} drop
    oifname \"{bridge}\" {ip} daddr != @{PODS} drop
    {ip} saddr vmap @egress
    {ip} daddr vmap @ingress
  }}
  chain output {{
    type filter hook output priority -5 ; policy accept ;
    oifname \"{bridge}\" {redirect} drop
  }}
}}"
        ));
    }

    fn declare(&mut self, name: &str, set: &Set) {
        let (_, addr) = self.family.words();
        let kind = match set {
            Set::Addresses(_) => format!("type {addr} ;"),
            Set::Ports(_) => format!("type {addr} . inet_proto . inet_service ;"),
            Set::Ranges(_) => format!("type {addr} ; flags interval ;"),
        };
        self.line(format_args!("add set {} {name} {{ {kind} }}", self.at.clone()));
    }

    fn fill(&mut self, name: &str, set: &Set) {
        match set {
            Set::Addresses(elements) | Set::Ports(elements) => self.elements("add", name, elements.iter().copied()),
            Set::Ranges(ranges) => {
                let family = self.family;
                let ours = ranges.iter().filter(|range| family.has(range.first));
                self.many("add", name, ours);
            }
        }
    }

    /// Elements of sets that the kernel has and keeps.
    fn moved(&mut self, table: &Table, journal: &Journal) {
        let kept = |set: &str| table.sets.contains_key(set) && journal.sets.get(set).is_none_or(|was| *was);
        let mut sets: BTreeMap<&str, [Vec<Element>; 2]> = BTreeMap::new();
        for ((set, element), was) in journal.elements.iter().filter(|((set, _), _)| kept(set)) {
            let now = match &table.sets[set] {
                Set::Addresses(elements) | Set::Ports(elements) => elements.contains(element),
                Set::Ranges(_) => continue,
            };
            if now != *was {
                sets.entry(set).or_default()[usize::from(now)].push(*element);
            }
        }
        for (set, [old, new]) in sets {
            self.elements("delete", set, old.into_iter());
            self.elements("add", set, new.into_iter());
        }
    }

    fn elements(&mut self, verb: &str, set: &str, elements: impl Iterator<Item = Element>) {
        let family = self.family;
        let ours: Vec<Element> = elements.filter(|element| family.has(element.address)).collect();
        self.many(verb, set, ours.iter().map(element_text));
        if set == PODS {
            self.many(verb, "selves", ours.iter().map(|element| format!("{0} . {0}", element.address)));
        }
    }

    fn verdicts<'a>(
        &mut self,
        verb: &str,
        direction: Direction,
        pairs: impl Iterator<Item = (IpAddr, Option<&'a str>)>,
    ) {
        let family = self.family;
        let texts = pairs.filter(|(address, _)| family.has(*address)).map(|(address, chain)| match chain {
            Some(chain) => format!("{address} : jump {chain}"),
            None => address.to_string(),
        });
        self.many(verb, map_name(direction), texts);
    }

    fn many(&mut self, verb: &str, set: &str, texts: impl Iterator<Item = impl Display>) {
        let mut texts = texts.peekable();
        while texts.peek().is_some() {
            let _written = write!(self.text, "{verb} element {} {set} {{ ", self.at);
            for (number, text) in texts.by_ref().take(AT_ONCE).enumerate() {
                let _written = write!(self.text, "{}{text}", if number == 0 { "" } else { ", " });
            }
            self.text.push_str(" }\n");
        }
    }

    /// A chain with its rules. What is allowed returns, and may be judged by the other side's chain.
    fn chain(&mut self, name: &str, lines: &[Line], sets: &BTreeMap<String, Set>) {
        let at = self.at.clone();
        self.line(format_args!("add chain {at} {name}"));
        let (ip, _) = self.family.words();
        // Chains for what comes in begin with `in-`, see `chain_name`.
        let side = if name.starts_with(chain_prefix(Direction::Ingress)) { "saddr" } else { "daddr" };
        for line in lines {
            let (set, rest) = match line {
                Line::Peer { set, ports } => (set.as_ref(), ports.as_ref().map(ports_text).unwrap_or_default()),
                Line::Port { set } => (Some(set), String::new()),
            };
            let family = self.family;
            // A set without an address of this family is asked in vain.
            let empty =
                |set: &Set| matches!(set, Set::Ranges(ranges) if !ranges.iter().any(|one| family.has(one.first)));
            if set.and_then(|set| sets.get(set)).is_some_and(empty) {
                continue;
            }
            let peer = match (set, line) {
                (None, _) => String::new(),
                (Some(set), Line::Peer { .. }) => format!("{ip} {side} @{set} "),
                (Some(set), Line::Port { .. }) => format!("{ip} {side} . meta l4proto . th dport @{set} "),
            };
            self.line(format_args!("add rule {at} {name} {peer}{rest}return"));
        }
        self.line(format_args!("add rule {at} {name} drop"));
    }
}

/// What the names of chains for a direction begin with.
pub(crate) fn chain_prefix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in-",
        Direction::Egress => "out-",
    }
}

fn map_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn ports_text(ports: &Ports) -> String {
    let protocol = word(ports.protocol);
    if ports.ranges.is_empty() {
        return format!("meta l4proto {protocol} ");
    }
    let range = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    format!("{protocol} dport {{ {} }} ", ports.ranges.iter().map(range).collect::<Vec<_>>().join(", "))
}

fn element_text(element: &Element) -> String {
    match element.port {
        None => element.address.to_string(),
        Some((protocol, port)) => format!("{} . {} . {port}", element.address, word(protocol)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `nft` has them itself; others it looks up in a file that not every machine has.
    const KEYWORDS: [&str; 5] = ["icmp", "icmpv6", "tcp", "udp", "sctp"];

    #[test]
    fn protocols_are_named_by_words_of_nft() {
        let place = Place { table: "t", bridge: "b" };
        for family in [Family::V4, Family::V6] {
            let text = change(&place, family, &Table::new());
            let named: Vec<&str> =
                text.split("meta l4proto ").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
            assert!(!named.is_empty() && named.iter().all(|name| KEYWORDS.contains(name)), "{named:?}");
        }
    }
}
