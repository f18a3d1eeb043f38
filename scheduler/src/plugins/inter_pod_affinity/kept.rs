//! What pods of one kind find around them, kept from one to the next.

use std::sync::{Arc, PoisonError};

use facts::labels::Labels;

use super::counts::Counts;
use super::{Found, matches_all};
use crate::framework::{Affinity, NodeInfo, PodInfo, Recent, Snapshot, Sums, Tally};

/// So many kinds of pods are remembered.
const KINDS: usize = 8;

/// All that the sums depend on besides the nodes and the pods on them.
#[derive(Debug, PartialEq)]
struct Kind {
    namespace: String,
    labels: Labels,
    affinity: Affinity,
    namespaces_changed: u64,
    /// How running pods weigh in scores; nothing in filters.
    hard_weight: i64,
}

impl Kind {
    fn of(pod: &PodInfo, snapshot: &Snapshot, hard_weight: i64) -> Self {
        Self {
            namespace: pod.namespace().to_owned(),
            labels: pod.labels().clone(),
            affinity: pod.affinity().clone(),
            namespaces_changed: snapshot.namespaces_changed,
            hard_weight,
        }
    }

    fn is_of(&self, pod: &PodInfo, snapshot: &Snapshot, hard_weight: i64) -> bool {
        self.namespaces_changed == snapshot.namespaces_changed
            && self.hard_weight == hard_weight
            && self.namespace == pod.namespace()
            && self.labels == *pod.labels()
            && self.affinity == *pod.affinity()
    }
}

/// Tallies by kinds of pods.
struct Tallies<S: Sums>(Recent<Kind, Tally<S>>);

impl<S: Sums> Default for Tallies<S> {
    fn default() -> Self {
        Self(Recent::new(KINDS))
    }
}

/// What a pod that asks something of others, or not, finds out for its filter.
pub(super) fn found(pod: &PodInfo, snapshot: &Snapshot, asks: bool) -> Arc<Found> {
    let tallies = snapshot.kept.get::<Tallies<Found>>();
    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || {
        let wants_itself = matches_all(&pod.affinity().required, pod, snapshot);
        (Kind::of(pod, snapshot, 0), Tally::new(Found { wants_itself, ..Found::default() }))
    };
    let tally = tallies.0.get_or_insert(|kind| kind.is_of(pod, snapshot, 0), new);
    let all = if asks { 0..snapshot.nodes.len() } else { 0..0 };
    let others = snapshot.with_anti_affinity.iter().copied().filter(|_| !asks);
    tally.update(snapshot, || all.chain(others), |node| part(pod, node, snapshot, asks))
}

fn part(pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot, asks: bool) -> Option<Found> {
    let mut found = Found::default();
    node.with_anti_affinity.iter().for_each(|other| found.count_unwanted(pod, other, node, snapshot, 1));
    if asks {
        node.pods.iter().for_each(|other| found.count_wanted(pod, other, node, snapshot, 1));
    }
    let is_empty = found.unwanted.is_empty() && found.affinity.is_empty() && found.anti.is_empty();
    (!is_empty).then_some(found)
}

impl Sums for Found {
    type Part = Self;

    fn add(&mut self, part: &Self) {
        self.merge(part, 1);
    }

    fn subtract(&mut self, part: &Self) {
        self.merge(part, -1);
    }
}

impl Found {
    fn merge(&mut self, part: &Self, sign: i64) {
        self.affinity.merge(&part.affinity, sign);
        self.anti.merge(&part.anti, sign);
        self.unwanted.merge(&part.unwanted, sign);
    }
}

/// Sums of preferences by domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Preferred(pub(super) Counts);

/// What a pod that has preferences about others, or not, finds out for its scores: `part` says what a node adds.
pub(super) fn preferred(
    pod: &PodInfo,
    snapshot: &Snapshot,
    (hard_weight, prefers): (i64, bool),
    part: impl Fn(&NodeInfo) -> Option<Preferred>,
) -> Arc<Preferred> {
    let tallies = snapshot.kept.get::<Tallies<Preferred>>();
    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || (Kind::of(pod, snapshot, hard_weight), Tally::new(Preferred::default()));
    let tally = tallies.0.get_or_insert(|kind| kind.is_of(pod, snapshot, hard_weight), new);
    let all = if prefers { 0..snapshot.nodes.len() } else { 0..0 };
    let others = snapshot.with_affinity.iter().copied().filter(|_| !prefers);
    tally.update(snapshot, || all.chain(others), part)
}

impl Sums for Preferred {
    type Part = Self;

    fn add(&mut self, part: &Self) {
        self.0.merge(&part.0, 1);
    }

    fn subtract(&mut self, part: &Self) {
        self.0.merge(&part.0, -1);
    }
}
