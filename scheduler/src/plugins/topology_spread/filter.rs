//! `DoNotSchedule`: no domain may have too many more pods than the emptiest.

use std::collections::HashMap;
use std::sync::Arc;

use super::PodTopologySpread;
use super::constraint::{Constraint, has_all_labels};
use super::kept::{Domains, Groups, Purpose, counted};
use crate::framework::{CycleState, Filter, NodeInfo, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot};

/// What PreFilter finds out for Filter. The counts are shared by all who try what would be if pods came or went.
#[derive(Clone)]
struct Spread {
    constraints: Arc<[Constraint]>,
    counts: Arc<Groups>,
    /// By constraint and domain. Pods come and go in one domain only, the one of the node that is tried: the least of the
    /// others stays known.
    changes: Vec<HashMap<String, i64>>,
}

impl Spread {
    /// Each constraint with its domains and what has changed there.
    fn each(&self) -> impl Iterator<Item = (&Constraint, &Domains, &HashMap<String, i64>)> {
        let numbered = self.constraints.iter().zip(&self.changes).enumerate();
        numbered.map(|(number, (constraint, changes))| (constraint, self.counts.of(number), changes))
    }
}

/// The number of pods in the emptiest domain: none as long as there are too few domains.
fn fewest(constraint: &Constraint, domains: &Domains, value: &str, own: Option<i64>) -> i64 {
    if domains.len() < constraint.min_domains {
        return 0;
    }
    domains.fewest_besides(value).into_iter().chain(own).min().unwrap_or(0)
}

impl PreFilter for PodTopologySpread {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let constraints: Arc<[Constraint]> = self.constraints(pod, snapshot, "DoNotSchedule").into();
        if constraints.is_empty() {
            return Ok(PreFilterResult { nodes: None, skip: true });
        }
        let counts = counted(&constraints, pod, snapshot, Purpose::Filter);
        let changes = vec![HashMap::new(); constraints.len()];
        state.put(Spread { constraints, counts, changes });
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
    let Some(Spread { constraints, changes, .. }) = state.get_mut::<Spread>() else { return };
    if !has_all_labels(constraints, node) {
        return;
    }
    let spoken_of = constraints.iter().zip(changes).filter(|(constraint, _)| constraint.speaks_of(pod, other));
    for (constraint, changes) in spoken_of {
        let Some(value) = node.labels().get(&constraint.key) else { continue };
        if constraint.counts(pod, node) {
            *changes.entry(value.clone()).or_insert(0) += change;
        }
    }
}

impl Filter for PodTopologySpread {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(spread) = state.get::<Spread>() else { return Ok(()) };
        for (constraint, domains, changes) in spread.each() {
            let Some(value) = node.labels().get(&constraint.key) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let itself = i64::from(constraint.matches(pod.labels()));
            let there = domains.pods(value).map(|pods| pods + changes.get(value).copied().unwrap_or(0));
            if there.unwrap_or(0) + itself - fewest(constraint, domains, value, there) > constraint.max_skew {
                return Err(Rejection::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }
}
