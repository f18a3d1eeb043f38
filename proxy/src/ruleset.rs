//! A table of nftables as data, and the text that turns one into another.
//!
//! `nft -f -` applies a text as one transaction. Only differences are sent: loading 2,000 Services anew takes the
//! better part of a second, changing one takes milliseconds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) use host::nft::Family;

/// The changing part of a table. What never changes (hooks, maps) is [`base`]'s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Chains and their rules.
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// Elements of verdict maps: map, key, verdict.
    pub(crate) verdicts: BTreeMap<(&'static str, String), String>,
    /// Elements of the `hairpin` set: addresses that may reach themselves through a Service.
    pub(crate) hairpins: std::collections::BTreeSet<String>,
    /// Sets of clients that stick to an endpoint, and for how many seconds.
    pub(crate) affinities: BTreeMap<String, u32>,
}

/// The text that makes the table anew, with everything that never changes.
pub(crate) fn base(table: &str, family: Family) -> String {
    let (ip, addr) = family.words();
    // Of loopback addresses only the node's own processes may speak, whatever `route_localnet` says (CVE-2020-8558); to
    // ::1 they cannot: the kernel never routes it to a pod.
    let (loopback, own) = match family {
        Family::V4 => ("127.0.0.0/8", String::new()),
        Family::V6 => ("::1", format!("{ip} daddr != ::1 ")),
    };
    // Only what a Service sent back to its caller is masqueraded: a connection that began before the first NAT table was
    // loaded looks new to the kernel, and with another source port both its ends would reset it.
    // Numbers instead of priority names: nft before 1.0.7 refuses `dstnat` on the output hook.
    format!(
        "add table {ip} {table}
delete table {ip} {table}
table {ip} {table} {{
  comment \"rules for Services, kept by coracle's proxy\"
  map service-ips {{ type {addr} . inet_proto . inet_service : verdict ; }}
  map service-nodeports {{ type inet_proto . inet_service : verdict ; }}
  map no-endpoint-services {{ type {addr} . inet_proto . inet_service : verdict ; }}
  map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict ; }}
  set hairpin {{ type {addr} . {addr} ; }}
  chain mark-for-masquerade {{ meta mark set meta mark or 0x4000 ; }}
  chain reject-it {{ reject ; }}
  chain services {{ {ip} daddr . meta l4proto . th dport vmap @service-ips ; }}
  chain no-endpoints {{ {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services ; }}
  chain nat-prerouting {{
    type nat hook prerouting priority -100 ;
    jump services
    fib daddr type local {ip} daddr != {loopback} meta l4proto . th dport vmap @service-nodeports
  }}
  chain nat-output {{
    type nat hook output priority -100 ;
    jump services
    fib daddr type local {own}meta l4proto . th dport vmap @service-nodeports
  }}
  chain nat-postrouting {{
    type nat hook postrouting priority 100 ;
    meta mark & 0x4000 == 0x4000 meta mark set meta mark xor 0x4000 masquerade fully-random
    ct status dnat {ip} saddr . {ip} daddr @hairpin masquerade fully-random
  }}
  chain filter-input {{
    type filter hook input priority -110 ;
    ct state new jump no-endpoints
    ct state new fib daddr type local {ip} daddr != {loopback} meta l4proto . th dport vmap @no-endpoint-nodeports
  }}
  chain filter-forward {{ type filter hook forward priority -110 ; ct state new jump no-endpoints ; }}
  chain filter-output {{
    type filter hook output priority -110 ;
    ct state new jump no-endpoints
    ct state new fib daddr type local {own}meta l4proto . th dport vmap @no-endpoint-nodeports
  }}
}}
"
    )
}

/// The text that removes the table, whether it is there or not.
pub(crate) fn removal(table: &str, family: Family) -> String {
    let (ip, _) = family.words();
    format!("add table {ip} {table}\ndelete table {ip} {table}\n")
}

/// The text that turns `old` into `new`; empty when they are equal.
///
/// Chains and sets are made before anything refers to them and removed after nothing does.
pub(crate) fn difference(table: &str, family: Family, old: &Ruleset, new: &Ruleset) -> String {
    let (ip, addr) = family.words();
    let at = format!("{ip} {table}");
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        text.write_fmt(words).and_then(|()| text.write_char('\n')).expect("writing to a String cannot fail");
    };
    for (set, seconds) in &new.affinities {
        // A set's timeout cannot change: its name holds the timeout (see `rules`), so another one is another set.
        if !old.affinities.contains_key(set) {
            line(format_args!("add set {at} {set} {{ type {addr} ; flags dynamic,timeout ; timeout {seconds}s ; }}"));
        }
    }
    for chain in new.chains.keys().filter(|chain| !old.chains.contains_key(*chain)) {
        line(format_args!("add chain {at} {chain}"));
    }
    for (chain, rules) in &new.chains {
        match old.chains.get(chain) {
            Some(same) if same == rules => continue,
            Some(_) => line(format_args!("flush chain {at} {chain}")),
            None => {}
        }
        for rule in rules {
            line(format_args!("add rule {at} {chain} {rule}"));
        }
    }
    for ((map, key), verdict) in &old.verdicts {
        if new.verdicts.get(&(*map, key.clone())) != Some(verdict) {
            line(format_args!("delete element {at} {map} {{ {key} }}"));
        }
    }
    for ((map, key), verdict) in &new.verdicts {
        if old.verdicts.get(&(*map, key.clone())) != Some(verdict) {
            line(format_args!("add element {at} {map} {{ {key} : {verdict} }}"));
        }
    }
    for pair in old.hairpins.difference(&new.hairpins) {
        line(format_args!("delete element {at} hairpin {{ {pair} }}"));
    }
    for pair in new.hairpins.difference(&old.hairpins) {
        line(format_args!("add element {at} hairpin {{ {pair} }}"));
    }
    let gone: Vec<&String> = old.chains.keys().filter(|chain| !new.chains.contains_key(*chain)).collect();
    for chain in &gone {
        line(format_args!("flush chain {at} {chain}"));
    }
    for chain in &gone {
        line(format_args!("delete chain {at} {chain}"));
    }
    for set in old.affinities.keys().filter(|set| !new.affinities.contains_key(*set)) {
        line(format_args!("delete set {at} {set}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_service(rule: &str) -> Ruleset {
        let mut rules = Ruleset::default();
        rules.chains.insert("service-a".into(), vec![rule.into()]);
        rules.verdicts.insert(("service-ips", "10.96.0.1 . tcp . 80".into()), "goto service-a".into());
        rules
    }

    #[test]
    fn only_what_a_service_redirected_is_masqueraded() {
        for family in [Family::V4, Family::V6] {
            let text = base("t", family);
            let masquerading: Vec<&str> = text.lines().filter(|line| line.contains(" masquerade ")).collect();
            assert_eq!(masquerading.len(), 2, "{text}");
            for line in masquerading {
                assert!(line.contains("ct status dnat ") || line.contains("meta mark & 0x4000 == 0x4000 "), "{line}");
            }
        }
    }

    #[test]
    fn loopback_has_node_ports_for_the_nodes_own_processes_only() {
        let chain = |family, hook: &str| {
            let text = base("t", family);
            let begin = text.find(hook).unwrap();
            text[begin..].split_once('}').unwrap().0.to_owned()
        };
        for hook in ["hook prerouting priority -100", "hook input"] {
            assert!(chain(Family::V4, hook).contains("ip daddr != 127.0.0.0/8 meta l4proto"), "{hook}");
        }
        for hook in ["hook output priority -100", "hook output priority -110"] {
            assert!(!chain(Family::V4, hook).contains("127.0.0.0"), "{hook}");
            assert!(chain(Family::V6, hook).contains("ip6 daddr != ::1 "), "{hook}");
        }
    }

    #[test]
    fn equal_rulesets_differ_by_nothing() {
        assert_eq!(difference("t", Family::V4, &one_service("x"), &one_service("x")), "");
    }

    #[test]
    fn a_changed_chain_is_flushed_and_its_elements_stay() {
        let text = difference("t", Family::V4, &one_service("x"), &one_service("y"));
        assert_eq!(text, "flush chain ip t service-a\nadd rule ip t service-a y\n");
    }

    #[test]
    fn a_removed_service_loses_its_element_before_its_chain() {
        let text = difference("t", Family::V4, &one_service("x"), &Ruleset::default());
        assert_eq!(
            text,
            "delete element ip t service-ips { 10.96.0.1 . tcp . 80 }\nflush chain ip t service-a\ndelete chain ip t service-a\n"
        );
    }

    #[test]
    fn a_new_service_has_its_chain_before_its_element() {
        let text = difference("t", Family::V6, &Ruleset::default(), &one_service("x"));
        assert_eq!(
            text,
            "add chain ip6 t service-a\nadd rule ip6 t service-a x\nadd element ip6 t service-ips { 10.96.0.1 . tcp . 80 : goto service-a }\n"
        );
    }
}
