//! Which pods of a node would have to go: all of less priority at first, then as many as possible stay after all.

use std::sync::Arc;

use super::budgets::Budgets;
use super::importance;
use crate::framework::{CycleState, Failed, NodeInfo, PodInfo, Rejection};

/// The pods to evict, the most important first.
#[derive(Debug)]
pub(super) struct Victims {
    pub(super) pods: Vec<Arc<PodInfo>>,
    /// How many of them break a budget.
    pub(super) violations: usize,
}

/// The victims on a node, at least one; or why evictions there do not help.
pub(super) fn select(
    cycle: &Failed<'_>,
    pod: &PodInfo,
    node: &Arc<NodeInfo>,
    budgets: &Budgets<'_>,
) -> Result<Victims, Rejection> {
    let mut lesser: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|other| other.priority < pod.priority).cloned().collect();
    if lesser.is_empty() {
        return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
    }
    let mut trial = Trial { cycle, pod, state: cycle.state.clone(), node: NodeInfo::clone(node) };
    lesser.iter().for_each(|other| trial.remove(other));
    trial.fits()?;
    lesser.sort_by(|a, b| importance(a, b));
    let (violating, others) = budgets.part(lesser);
    let mut pods: Vec<Arc<PodInfo>> = violating.into_iter().filter(|other| !trial.reprieve(other)).collect();
    let violations = pods.len();
    pods.extend(others.into_iter().filter(|other| !trial.reprieve(other)));
    pods.sort_by(|a, b| importance(a, b));
    // Nobody has to go when the pod was refused because of what is on another node: this one is no help.
    if pods.is_empty() {
        return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
    }
    Ok(Victims { pods, violations })
}

/// A copy of a node, and of what was prepared for the pod, to try things on.
struct Trial<'a> {
    cycle: &'a Failed<'a>,
    pod: &'a PodInfo,
    state: CycleState,
    node: NodeInfo,
}

impl Trial<'_> {
    fn remove(&mut self, other: &PodInfo) {
        let Failed { filters, snapshot, .. } = self.cycle;
        filters.remove_pod(&mut self.state, self.pod, other, &mut self.node, snapshot);
    }

    fn fits(&self) -> Result<(), Rejection> {
        let Failed { filters, snapshot, .. } = self.cycle;
        filters.check(&self.state, self.pod, &self.node, snapshot).map_err(|refusal| refusal.no)
    }

    /// Puts a pod back, if there is room for both.
    fn reprieve(&mut self, other: &Arc<PodInfo>) -> bool {
        let Failed { filters, snapshot, .. } = self.cycle;
        filters.add_pod(&mut self.state, self.pod, other, &mut self.node, snapshot);
        let stays = self.fits().is_ok();
        if !stays {
            self.remove(other);
        }
        stays
    }
}
