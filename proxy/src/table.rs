//! The rules of one family's table, kept in a part for each Service: what a change costs is what the changed Services have,
//! however many others there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use client::ObjectKey;

use crate::Config;
use crate::flows::Flows;
use crate::rules;
use crate::ruleset::{self, Family, Ruleset};
use crate::services::{Place, ServicePort, service_ports};
use crate::sources::Known;

/// An element of a verdict map: the map and the key.
type Element = (&'static str, String);

/// One family's table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) family: Family,
    parts: BTreeMap<ObjectKey, Part>,
    /// How many parts have an element. Two Services can have one address outside of the cluster: the last one has it.
    verdicts: HashMap<Element, usize>,
    /// How many parts have an address that may reach itself: a pod can be of many Services.
    hairpins: HashMap<String, usize>,
    /// Whether the kernel's table is known: not before it was made by this process, nor after a refused transaction.
    pub(crate) is_known: bool,
    /// The Services that have lost endpoints since stale flows were last looked for.
    stale: Flows,
}

/// What is there because of one Service.
#[derive(Debug, Default)]
struct Part {
    rules: Ruleset,
    /// Its ports with checks by load balancers.
    ports: Vec<ServicePort>,
    /// Where flows to it may lead.
    flows: Flows,
}

impl Table {
    /// Nothing, in a table that nobody knows.
    pub(crate) fn new(family: Family) -> Self {
        let (parts, verdicts, hairpins) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { family, parts, verdicts, hairpins, is_known: false, stale: Flows::default() }
    }

    /// All Services that there are rules of.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.parts.keys()
    }

    /// The flows to look for: of Services that have lost endpoints since this was last asked.
    pub(crate) fn take_stale(&mut self) -> Flows {
        std::mem::take(&mut self.stale)
    }

    /// The ports with checks by load balancers.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.parts.values().flat_map(|part| &part.ports)
    }

    /// Takes up Services that have changed, or are gone; answers what the kernel is to be told, nothing where that is nothing.
    pub(crate) fn update(
        &mut self,
        config: &Config,
        place: &Place,
        changed: &BTreeMap<ObjectKey, Option<Known>>,
    ) -> String {
        let cidr = config.cluster_cidr(self.family);
        let part = |known: &Option<Known>| {
            let (service, slices) = known.as_ref()?;
            let ports = service_ports(self.family, place, service, slices);
            let rules = rules::ruleset(self.family, cidr, &ports);
            let flows = Flows::of(&ports);
            let is_checked = |port: &ServicePort| port.health_port.is_some();
            (!ports.is_empty()).then(|| Part { rules, flows, ports: ports.into_iter().filter(is_checked).collect() })
        };
        let parts: Vec<(&ObjectKey, Option<Part>)> = changed.iter().map(|(key, known)| (key, part(known))).collect();
        let (before, after) = self.change(parts);
        if self.is_known {
            return ruleset::difference(&config.table, self.family, &before, &after);
        }
        let all = ruleset::difference(&config.table, self.family, &Ruleset::default(), &self.whole());
        ruleset::base(&config.table, self.family) + &all
    }

    /// Replaces parts; answers what they came to before, and what they come to now.
    fn change(&mut self, parts: Vec<(&ObjectKey, Option<Part>)>) -> (Ruleset, Ruleset) {
        let keys: BTreeSet<&ObjectKey> = parts.iter().map(|(key, _)| *key).collect();
        let mut touched = Ruleset::default();
        for (key, part) in &parts {
            let rules = self.parts.get(*key).into_iter().chain(part).map(|part| &part.rules);
            for rules in rules {
                touched.verdicts.extend(rules.verdicts.clone());
                touched.hairpins.extend(rules.hairpins.clone());
            }
        }
        let before = self.seen(&keys, &touched);
        for (key, part) in parts {
            self.replace(key, part);
        }
        (before, self.seen(&keys, &touched))
    }

    fn replace(&mut self, key: &ObjectKey, part: Option<Part>) {
        let old = self.parts.remove(key);
        if let Some(part) = &part {
            let has_lost = part.flows.have_lost_some(old.as_ref().map_or(&Flows::default(), |old| &old.flows));
            // What is yet to be looked for must not be looked for by what was true then.
            if has_lost || !self.stale.is_empty() {
                self.stale.extend(&part.flows);
            }
        }
        if let Some(old) = old {
            old.rules.verdicts.keys().for_each(|element| less(&mut self.verdicts, element));
            old.rules.hairpins.iter().for_each(|address| less(&mut self.hairpins, address));
        }
        let Some(part) = part else { return };
        part.rules.verdicts.keys().for_each(|element| *self.verdicts.entry(element.clone()).or_default() += 1);
        part.rules.hairpins.iter().for_each(|address| *self.hairpins.entry(address.clone()).or_default() += 1);
        self.parts.insert(key.clone(), part);
    }

    /// What these parts have by themselves, and what of `touched` is there by whomever.
    fn seen(&self, keys: &BTreeSet<&ObjectKey>, touched: &Ruleset) -> Ruleset {
        let mut seen = Ruleset::default();
        for part in keys.iter().filter_map(|key| self.parts.get(*key)) {
            seen.chains.extend(part.rules.chains.clone());
            seen.affinities.extend(part.rules.affinities.clone());
        }
        for element in touched.verdicts.keys() {
            seen.verdicts.extend(self.verdict(keys, element).map(|verdict| (element.clone(), verdict.clone())));
        }
        let is_there = |address: &&String| self.hairpins.contains_key(*address);
        seen.hairpins = touched.hairpins.iter().filter(is_there).cloned().collect();
        seen
    }

    /// The verdict of the last part that has an element; `near` are those that most likely do.
    fn verdict(&self, near: &BTreeSet<&ObjectKey>, element: &Element) -> Option<&String> {
        let count = *self.verdicts.get(element)?;
        let of = |part: &'_ Part| part.rules.verdicts.contains_key(element);
        let known = near.iter().rev().filter_map(|key| self.parts.get(*key)).find(|part| of(part));
        let last = match known {
            Some(only) if count == 1 => Some(only),
            _ => self.parts.values().rev().find(|part| of(part)),
        };
        last?.rules.verdicts.get(element)
    }

    /// What all parts come to.
    fn whole(&self) -> Ruleset {
        let mut whole = Ruleset::default();
        for Part { rules, .. } in self.parts.values() {
            whole.chains.extend(rules.chains.clone());
            whole.verdicts.extend(rules.verdicts.clone());
            whole.hairpins.extend(rules.hairpins.clone());
            whole.affinities.extend(rules.affinities.clone());
        }
        whole
    }
}

/// Counts one less, and forgets what nobody has.
fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    /// A Service with an address of its own, one from outside, and endpoints.
    fn known(name: &str, external: &str, endpoints: &[&str]) -> Known {
        let last = name.bytes().map(u32::from).sum::<u32>() % 250;
        let service = json!({
            "metadata": {"name": name, "namespace": "d"},
            "spec": {"clusterIP": format!("10.96.0.{last}"), "externalIPs": [external], "ports": [{"port": 80}]},
        });
        let endpoints: Vec<Value> = endpoints.iter().map(|ip| json!({"addresses": [ip]})).collect();
        let slice = json!({
            "metadata": {"name": name, "namespace": "d", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints,
        });
        (Arc::new(serde_json::from_value(service).unwrap()), vec![Arc::new(serde_json::from_value(slice).unwrap())])
    }

    struct Kernel {
        config: Config,
        table: Table,
    }

    impl Kernel {
        fn new() -> Self {
            Self { config: Config::new("n".into(), Vec::new()), table: Table::new(Family::V4) }
        }

        /// Tells of Services; answers the text, and checks that whoever tells of all of them anew comes to the same.
        fn set(&mut self, services: &[(&str, Option<Known>)]) -> String {
            let changed = services.iter().map(|(name, known)| (ObjectKey::new("d", *name), known.clone())).collect();
            let before = self.table.whole();
            let text = self.table.update(&self.config, &Place::default(), &changed);
            let (known, after) = (self.table.is_known, self.table.whole());
            let difference = ruleset::difference(&self.config.table, Family::V4, &before, &after);
            assert_eq!(if known { text.clone() } else { difference.clone() }, difference);
            self.table.is_known = true;
            text
        }
    }

    #[test]
    fn a_change_tells_of_itself_only() {
        let mut kernel = Kernel::new();
        let first = kernel.set(&[("a", Some(known("a", "192.0.2.1", &["10.244.0.2"]))), ("b", None)]);
        assert!(first.starts_with("add table ") && first.contains("10.244.0.2:8080"), "{first}");
        let others: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
        for name in &others {
            kernel.set(&[(name.as_str(), Some(known(name, "192.0.2.9", &["10.244.0.3"])))]);
        }
        assert_eq!(kernel.set(&[("a", Some(known("a", "192.0.2.1", &["10.244.0.2"])))]), "");
        let text = kernel.set(&[("a", Some(known("a", "192.0.2.1", &["10.244.0.4"])))]);
        assert!(text.contains("10.244.0.4:8080") && !text.contains("/s") && text.lines().count() < 6, "{text}");
        let text = kernel.set(&[("a", None)]);
        assert!(text.contains("delete chain") && !text.contains("/s"), "{text}");
        assert_eq!(kernel.table.keys().count(), others.len());
    }

    #[test]
    fn flows_are_looked_for_of_services_that_lost_endpoints() {
        let mut kernel = Kernel::new();
        let web = |endpoints: &[&str]| Some(known("a", "192.0.2.1", endpoints));
        kernel.set(&[("a", web(&["10.244.0.2", "10.244.0.3"]))]);
        assert!(!kernel.table.take_stale().is_empty(), "what was there before this process is not known");
        kernel.set(&[("a", web(&["10.244.0.2", "10.244.0.3", "10.244.0.4"]))]);
        assert!(kernel.table.take_stale().is_empty());
        kernel.set(&[("a", web(&["10.244.0.3", "10.244.0.4"])), ("b", Some(known("b", "192.0.2.2", &["10.244.0.9"])))]);
        let flow = |answers: &str| host::conntrack::Flow {
            protocol: host::conntrack::TCP,
            to: "192.0.2.1".parse().unwrap(),
            port: 80,
            answers: answers.parse().unwrap(),
            answered: false,
        };
        // It comes back before anybody has looked.
        let stale = kernel.table.take_stale();
        assert_eq!((stale.is_stale(&flow("10.244.0.2")), stale.is_stale(&flow("10.244.0.3"))), (true, false));
        kernel.set(&[("a", web(&["10.244.0.3"]))]);
        kernel.set(&[("a", web(&["10.244.0.3", "10.244.0.4"]))]);
        assert!(!kernel.table.take_stale().is_stale(&flow("10.244.0.4")));
    }

    #[test]
    fn what_two_services_have_stays_until_neither_has_it() {
        let mut kernel = Kernel::new();
        let (a, b) = (known("a", "192.0.2.1", &["10.244.0.2"]), known("b", "192.0.2.1", &["10.244.0.2"]));
        kernel.set(&[("a", Some(a.clone())), ("b", Some(b.clone()))]);
        let external = ("service-ips", "192.0.2.1 . tcp . 80".to_owned());
        let has = |kernel: &Kernel| kernel.table.whole().verdicts.get(&external).map(|to| to.contains("d/a/"));
        assert_eq!(has(&kernel), Some(false), "the last one has the address");
        let text = kernel.set(&[("b", None)]);
        assert_eq!(has(&kernel), Some(true));
        assert!(
            text.contains("add element ip coracle-proxy service-ips { 192.0.2.1 . tcp . 80 : goto external-"),
            "{text}"
        );
        assert!(!text.contains("hairpin"), "the pod is still the other's: {text}");
        kernel.set(&[("b", Some(b))]);
        assert_eq!(has(&kernel), Some(false));
        // The one that does not have the address changes nothing for it.
        assert!(!kernel.set(&[("a", None)]).contains("192.0.2.1 . tcp"), "the other has it");
        let text = kernel.set(&[("b", None)]);
        assert!(text.contains("delete element ip coracle-proxy hairpin { 10.244.0.2 . 10.244.0.2 }"), "{text}");
        assert_eq!(kernel.table.whole(), Ruleset::default());
        assert!(kernel.table.verdicts.is_empty() && kernel.table.hairpins.is_empty());
    }
}
