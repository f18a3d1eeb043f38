//! What a node knows of pods, namespaces and policies, and the table that follows from it.
//!
//! Each change takes out of the table what followed from the old state of one object, and puts in what follows from the
//! new one; what is the same before and after is never sent to the kernel. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use client::ObjectKey;
use facts::labels::Labels;

use crate::compile::Policy;
use crate::hash::short_hash;
use crate::members::{Candidate, Members};
use crate::pod::PodFacts;
use crate::table::{Direction, Element, Line, PODS, Set, Table};
use crate::text::chain_prefix;

/// Objects, and the table that follows.
#[derive(Debug)]
pub(crate) struct Model {
    pods: BTreeMap<ObjectKey, PodFacts>,
    /// Whose an address is. One that several pods claim is nobody's: of these one is gone already, and nobody knows which.
    claims: HashMap<IpAddr, BTreeSet<ObjectKey>>,
    namespaces: BTreeMap<String, Labels>,
    policies: BTreeMap<ObjectKey, Policy>,
    sets: BTreeMap<String, SharedSet>,
    /// Names of sets by the only namespace whose pods they hold, or `None`.
    within: BTreeMap<Option<String>, BTreeSet<String>>,
    pub(crate) table: Table,
}

/// A set, and how many policies ask it.
#[derive(Debug)]
struct SharedSet {
    members: Members,
    users: usize,
}

impl Model {
    /// Nothing known.
    pub(crate) fn new() -> Self {
        Self {
            pods: BTreeMap::new(),
            claims: HashMap::new(),
            namespaces: BTreeMap::new(),
            policies: BTreeMap::new(),
            sets: BTreeMap::new(),
            within: BTreeMap::new(),
            table: Table::new(),
        }
    }

    /// How many policies there are.
    pub(crate) fn policy_count(&self) -> usize {
        self.policies.len()
    }

    /// A pod as it is now; `None` when it is gone or does not count.
    pub(crate) fn set_pod(&mut self, key: &ObjectKey, new: Option<PodFacts>) {
        if self.pods.get(key) == new.as_ref() {
            return;
        }
        let addresses = |pod: Option<&PodFacts>| pod.map(|pod| pod.addresses.clone()).unwrap_or_default();
        let (old, now) = (addresses(self.pods.get(key)), addresses(new.as_ref()));
        // Others that claim one of its addresses lose or win it.
        let claimants = old.iter().chain(&now).filter_map(|address| self.claims.get(address)).flatten();
        let affected: BTreeSet<ObjectKey> = claimants.chain([key]).cloned().collect();
        affected.iter().for_each(|one| self.place(one, false));
        for address in old {
            if let Some(claimants) = self.claims.get_mut(&address) {
                claimants.remove(key);
                if claimants.is_empty() {
                    self.claims.remove(&address);
                }
            }
        }
        for address in now {
            self.claims.entry(address).or_default().insert(key.clone());
        }
        match new {
            Some(pod) => self.pods.insert(key.clone(), pod),
            None => self.pods.remove(key),
        };
        affected.iter().for_each(|one| self.place(one, true));
    }

    /// A namespace's labels as they are now; `None` when it is gone.
    pub(crate) fn set_namespace(&mut self, name: &str, new: Option<Labels>) {
        let old = self.namespaces.get(name);
        if old == new.as_ref() {
            return;
        }
        let names = self.within.get(&None).into_iter().flatten();
        let differs = |set: &&String| !self.sets[*set].members.is_same(name, old, new.as_ref());
        let changed: Vec<String> = names.filter(differs).cloned().collect();
        let keys = self.keys_in(name);
        let each = |model: &mut Self, present| {
            for key in &keys {
                changed.iter().for_each(|set| model.place_in(set, key, present));
            }
        };
        each(self, false);
        match new {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
        each(self, true);
    }

    /// A policy as it is now; `None` when it is gone.
    pub(crate) fn set_policy(&mut self, key: &ObjectKey, new: Option<Policy>) {
        let selected = |policy: Option<&Policy>, pod: &PodFacts| policy.is_some_and(|policy| policy.selects(pod));
        let mut subjects = self.keys_in(&key.namespace);
        subjects.retain(|one| {
            let pod = &self.pods[one];
            pod.is_here && (selected(self.policies.get(key), pod) || selected(new.as_ref(), pod))
        });
        for (name, members) in new.iter().flat_map(|policy| &policy.sets) {
            self.share(name, members);
        }
        let old = match new {
            Some(policy) => self.policies.insert(key.clone(), policy),
            None => self.policies.remove(key),
        };
        subjects.iter().for_each(|one| self.judge(one));
        for name in old.iter().flat_map(|policy| policy.sets.keys()) {
            self.release(name);
        }
    }

    fn keys_in(&self, namespace: &str) -> Vec<ObjectKey> {
        let from = self.pods.range(ObjectKey::new(namespace, "")..);
        from.map(|(key, _)| key).take_while(|key| key.namespace == namespace).cloned().collect()
    }

    /// The addresses that are a pod's alone.
    fn own_addresses(&self, key: &ObjectKey) -> Vec<IpAddr> {
        let is_own = |address: &&IpAddr| self.claims.get(address).is_some_and(|claimants| claimants.len() == 1);
        self.pods.get(key).into_iter().flat_map(|pod| pod.addresses.iter().filter(is_own)).copied().collect()
    }

    /// Puts in all that follows from a pod, or takes it out.
    fn place(&mut self, key: &ObjectKey, present: bool) {
        if !self.pods.contains_key(key) {
            return;
        }
        let within = [None, Some(key.namespace.clone())];
        let sets: Vec<String> = within.iter().filter_map(|one| self.within.get(one)).flatten().cloned().collect();
        sets.iter().for_each(|set| self.place_in(set, key, present));
        if !self.pods[key].is_here {
            return;
        }
        let addresses = self.own_addresses(key);
        if present {
            self.judge(key);
        }
        for address in addresses {
            self.table.place(PODS, Element { address, port: None }, present);
            if !present {
                Direction::BOTH.into_iter().for_each(|direction| self.table.acquit((direction, address)));
            }
        }
    }

    fn place_in(&mut self, set: &str, key: &ObjectKey, present: bool) {
        let (Some(shared), Some(pod)) = (self.sets.get(set), self.pods.get(key)) else { return };
        let namespace_labels = self.namespaces.get(&key.namespace);
        let candidate = Candidate { namespace: &key.namespace, namespace_labels, pod };
        for address in self.own_addresses(key) {
            for element in shared.members.elements(&candidate, address) {
                self.table.place(set, element, present);
            }
        }
    }

    /// Has a pod of this node judged by the policies that select it.
    fn judge(&mut self, key: &ObjectKey) {
        let addresses = self.own_addresses(key);
        let pod = &self.pods[key];
        let policies = self.policies.range(ObjectKey::new(key.namespace.as_str(), "")..);
        let policies = policies.take_while(|(one, _)| one.namespace == key.namespace).map(|(_, policy)| policy);
        let selecting: Vec<&Policy> = policies.filter(|policy| policy.selects(pod)).collect();
        for direction in Direction::BOTH {
            let name = chain_name(direction, &selecting, pod);
            for address in &addresses {
                match &name {
                    None => self.table.acquit((direction, *address)),
                    Some(name) => self.table.judge((direction, *address), name, || lines(direction, &selecting, pod)),
                }
            }
        }
    }

    /// One more policy asks a set; its members are looked for when it is new.
    fn share(&mut self, name: &str, members: &Members) {
        if let Some(shared) = self.sets.get_mut(name) {
            shared.users += 1;
            return;
        }
        let only = members.only_namespace().map(str::to_owned);
        let keys = match &only {
            Some(namespace) => self.keys_in(namespace),
            None => self.pods.keys().cloned().collect(),
        };
        let set = match members {
            Members::Peers(_) => Set::Addresses(BTreeSet::new()),
            Members::Ports { .. } => Set::Ports(BTreeSet::new()),
            Members::Blocks(ranges) => Set::Ranges(ranges.clone()),
        };
        self.table.add_set(name, set);
        self.within.entry(only).or_default().insert(name.to_owned());
        self.sets.insert(name.to_owned(), SharedSet { members: members.clone(), users: 1 });
        keys.iter().for_each(|key| self.place_in(name, key, true));
    }

    /// One policy fewer asks a set.
    fn release(&mut self, name: &str) {
        let Some(shared) = self.sets.get_mut(name) else { return };
        shared.users -= 1;
        if shared.users > 0 {
            return;
        }
        let only = shared.members.only_namespace().map(str::to_owned);
        self.sets.remove(name);
        if let Some(names) = self.within.get_mut(&only) {
            names.remove(name);
            if names.is_empty() {
                self.within.remove(&only);
            }
        }
        self.table.remove_set(name);
    }
}

/// The name of the chain for a pod that these policies select; `None` when none of them isolates it in this direction.
fn chain_name(direction: Direction, policies: &[&Policy], pod: &PodFacts) -> Option<String> {
    let rules = policies.iter().filter_map(|policy| policy.rules(direction));
    let parts: BTreeSet<String> = rules.map(|rules| format!("{} {}", rules.digest, rules.resolution(pod))).collect();
    (!parts.is_empty()).then(|| format!("{}{}", chain_prefix(direction), short_hash(&format!("{parts:?}"))))
}

/// What these policies allow together.
fn lines(direction: Direction, policies: &[&Policy], pod: &PodFacts) -> Vec<Line> {
    let rules = policies.iter().filter_map(|policy| policy.rules(direction));
    let lines: BTreeSet<Line> = rules.flat_map(|rules| rules.lines(pod)).collect();
    let everything = Line::Peer { set: None, ports: None };
    if lines.contains(&everything) { vec![everything] } else { lines.into_iter().collect() }
}
