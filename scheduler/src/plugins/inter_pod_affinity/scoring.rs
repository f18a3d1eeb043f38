//! Preferences: the terms of the pod about those that run, and their terms about the pod.

use super::InterPodAffinity;
use super::counts::Counts;
use super::kept::{Preferred, preferred};
use crate::framework::{AffinityTerm, CycleState, MAX_SCORE, NodeInfo, PodInfo, PreScore, Score, Snapshot};

impl PreScore for InterPodAffinity {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo], snapshot: &Snapshot) -> bool {
        let prefers = !pod.affinity().preferred.is_empty() || !pod.affinity().preferred_anti.is_empty();
        if !prefers && (self.ignore_preferences_of_others || snapshot.with_affinity.is_empty()) {
            return false;
        }
        let part = |node: &NodeInfo| self.preferences(pod, node, snapshot, prefers);
        let preferred = preferred(pod, snapshot, (self.hard_weight, prefers), part);
        let any = !preferred.0.is_empty();
        state.share(preferred);
        any
    }
}

impl InterPodAffinity {
    /// What the pods of a node add; `None` for nothing. Of a pod without preferences, only those with terms matter.
    fn preferences(&self, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot, prefers: bool) -> Option<Preferred> {
        let mut sums = Counts::default();
        let pods = if prefers { &node.pods } else { &node.with_affinity };
        pods.iter().for_each(|other| self.weigh(&mut sums, pod, other, node, snapshot));
        (!sums.is_empty()).then_some(Preferred(sums))
    }

    fn weigh(&self, sums: &mut Counts, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) {
        let mut add = |terms: &[(AffinityTerm, i64)], about: &PodInfo, sign: i64| {
            for (term, weight) in terms.iter().filter(|(term, _)| term.matches(about, snapshot)) {
                sums.add(&term.topology_key, node, sign * weight);
            }
        };
        let (own, theirs) = (pod.affinity(), other.affinity());
        add(&own.preferred, other, 1);
        add(&own.preferred_anti, other, -1);
        add(&theirs.preferred, pod, 1);
        add(&theirs.preferred_anti, pod, -1);
        for term in theirs.required.iter().filter(|term| term.matches(pod, snapshot)) {
            sums.add(&term.topology_key, node, self.hard_weight);
        }
    }
}

impl Score for InterPodAffinity {
    fn score(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> i64 {
        state.get::<Preferred>().map_or(0, |Preferred(sums)| sums.sums(node).sum())
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let range = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = if range == 0 { 0 } else { MAX_SCORE * (*score - least) / range };
        }
    }
}
