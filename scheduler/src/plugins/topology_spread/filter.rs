//! `DoNotSchedule`: no domain may have too many more pods than the emptiest.

use std::collections::HashMap;
use std::sync::Arc;

use super::PodTopologySpread;
use super::constraint::{Constraint, has_all_labels};
use crate::framework::{CycleState, Filter, NodeInfo, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot};

/// What PreFilter finds out for Filter, for each constraint.
#[derive(Clone)]
struct Spread(Vec<Domains>);

/// How many pods each domain has. The counts are shared by all who try what would be if pods came or went.
#[derive(Clone)]
struct Domains {
    constraint: Arc<Constraint>,
    counts: Arc<HashMap<String, i64>>,
    /// The two emptiest domains. Pods come and go in one domain only, the one of the node that is tried: the least of the
    /// others stays known.
    least: [Option<(String, i64)>; 2],
    changes: HashMap<String, i64>,
}

impl Domains {
    fn new(constraint: Constraint, counts: HashMap<String, i64>) -> Self {
        let mut least: [Option<(&String, i64)>; 2] = [None, None];
        for (value, count) in &counts {
            if least[0].is_none_or(|(_, first)| *count < first) {
                least = [Some((value, *count)), least[0]];
            } else if least[1].is_none_or(|(_, second)| *count < second) {
                least[1] = Some((value, *count));
            }
        }
        let least = least.map(|entry| entry.map(|(value, count)| (value.clone(), count)));
        Self { constraint: Arc::new(constraint), counts: Arc::new(counts), least, changes: HashMap::new() }
    }

    fn count(&self, value: &str) -> Option<i64> {
        let count = self.counts.get(value)?;
        Some(count + self.changes.get(value).copied().unwrap_or(0))
    }

    /// The number of pods in the emptiest domain: none as long as there are too few domains.
    fn fewest(&self, value: &str) -> i64 {
        if self.counts.len() < self.constraint.min_domains {
            return 0;
        }
        let others = self.least.iter().flatten().filter(|(other, _)| other != value).map(|(_, count)| *count);
        others.chain(self.count(value)).min().unwrap_or(0)
    }
}

impl PreFilter for PodTopologySpread {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let constraints = self.constraints(pod, snapshot, "DoNotSchedule");
        if constraints.is_empty() {
            return Ok(PreFilterResult { nodes: None, skip: true });
        }
        let mut counts = vec![HashMap::new(); constraints.len()];
        for node in snapshot.nodes().iter().filter(|node| has_all_labels(&constraints, node)) {
            for (constraint, counts) in constraints.iter().zip(&mut counts) {
                if let Some(value) = node.labels().get(&constraint.key).filter(|_| constraint.counts(pod, node)) {
                    *counts.entry(value.clone()).or_insert(0) += constraint.count(pod, node);
                }
            }
        }
        let domains = constraints.into_iter().zip(counts).map(|(constraint, counts)| Domains::new(constraint, counts));
        state.put(Spread(domains.collect()));
        Ok(PreFilterResult::default())
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, _snapshot: &Snapshot) {
        count(state, pod, other, node, 1);
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, _: &Snapshot) {
        count(state, pod, other, node, -1);
    }
}

fn count(state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, change: i64) {
    let Some(Spread(all)) = state.get_mut::<Spread>() else { return };
    if !all.iter().all(|domains| node.labels().contains_key(&domains.constraint.key)) {
        return;
    }
    for domains in all.iter_mut().filter(|domains| domains.constraint.speaks_of(pod, other)) {
        let Some(value) = node.labels().get(&domains.constraint.key) else { continue };
        if domains.constraint.counts(pod, node) {
            *domains.changes.entry(value.clone()).or_insert(0) += change;
        }
    }
}

impl Filter for PodTopologySpread {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(Spread(all)) = state.get::<Spread>() else { return Ok(()) };
        for domains in all {
            let constraint = &domains.constraint;
            let Some(value) = node.labels().get(&constraint.key) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let own = i64::from(constraint.matches(pod.labels()));
            if domains.count(value).unwrap_or(0) + own - domains.fewest(value) > constraint.max_skew {
                return Err(Rejection::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }
}
