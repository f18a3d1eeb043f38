//! The search for the nodes that fit.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Diagnosis;
use super::memory::{Known, Nodes};
use crate::framework::{CycleState, Filters, NodeInfo, PodInfo, Refusal, Snapshot};

/// What PreFilter left of the nodes, and the plugins that did it.
pub(super) struct Allowed {
    pub(super) nodes: BTreeSet<String>,
    pub(super) by: BTreeSet<&'static str>,
}

impl Allowed {
    pub(super) fn plugins(&self) -> String {
        self.by.iter().copied().collect::<Vec<_>>().join(" ")
    }

    pub(super) fn emptied(&self) -> String {
        match self.by.len() {
            1 => format!("node(s) didn't satisfy plugin {}", self.plugins()),
            _ => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", self.plugins()),
        }
    }
}

/// A pod that is looking for a node.
pub(super) struct Search<'a> {
    pub(super) filters: Filters<'a>,
    pub(super) state: &'a CycleState,
    pub(super) pod: &'a PodInfo,
    pub(super) snapshot: &'a Snapshot,
    /// What the local filters said for pods like this one.
    pub(super) known: &'a mut Nodes,
}

impl Search<'_> {
    /// Whether the pod fits on the node at this position, by all filters.
    pub(super) fn check(&self, at: usize) -> Result<(), Refusal> {
        self.filters.check(self.state, self.pod, self.node(at), self.snapshot)
    }

    fn node(&self, at: usize) -> &NodeInfo {
        &self.snapshot.nodes[at]
    }

    /// The positions of those that fit of the nodes that PreFilter left.
    pub(super) fn among(&mut self, allowed: &Allowed, diagnosis: &mut Diagnosis) -> Vec<usize> {
        let mut known: Vec<usize> = allowed.nodes.iter().filter_map(|name| self.snapshot.position(name)).collect();
        let rest = self.snapshot.nodes.len() - known.len();
        if rest > 0 {
            let why = format!("node(s) didn't satisfy plugin(s) [{}]", allowed.plugins());
            diagnosis.count_many(why, rest);
            diagnosis.plugins.extend(&allowed.by);
        }
        known.retain(|at| self.fits(*at, diagnosis));
        known
    }

    /// The positions of nodes that fit, from `start` on and until there are `enough`; the next search starts behind them.
    pub(super) fn anywhere(&mut self, start: &mut usize, enough: usize, diagnosis: &mut Diagnosis) -> Vec<usize> {
        let count = self.snapshot.nodes.len();
        let mut feasible = Vec::with_capacity(enough.min(count));
        let first = *start % count;
        let mut looked = 0;
        for at in (first..count).chain(0..first) {
            if feasible.len() >= enough {
                break;
            }
            looked += 1;
            if self.fits(at, diagnosis) {
                feasible.push(at);
            }
        }
        *start = (first + looked) % count;
        feasible
    }

    /// Whether the pod fits on the node at this position; notes why not.
    fn fits(&mut self, at: usize, diagnosis: &mut Diagnosis) -> bool {
        match self.ask(at) {
            Ok(()) => true,
            Err(refusal) => {
                diagnosis.refuse(at, &refusal);
                false
            }
        }
    }

    /// Asks the local filters only about what is not known, and nothing is known of a node that others are coming to.
    fn ask(&mut self, at: usize) -> Result<(), Arc<Refusal>> {
        if !self.snapshot.nominated.is_empty() && !self.snapshot.nominated(&self.node(at).name).is_empty() {
            return self.check(at).map_err(Arc::new);
        }
        if matches!(self.known.at(at), Known::Nothing) {
            let answer = self.filters.ask_local(self.state, self.pod, self.node(at));
            self.known.note(at, answer);
        }
        if let Known::Refused(refusal) = self.known.at(at) {
            return Err(Arc::clone(refusal));
        }
        if self.filters.are_all_local() {
            return Ok(());
        }
        self.filters.ask_others(self.state, self.pod, self.node(at)).map_err(Arc::new)
    }
}
