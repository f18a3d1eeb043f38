//! The decision cycle: one pod, one snapshot, one node or the reasons why there is none. In memory only.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::cache::Cache;
use crate::framework::{CycleState, Filter, NodeInfo, PodInfo, Profile, Rejection, Snapshot};

/// Below this many feasible nodes the search does not stop early.
const MIN_FEASIBLE: usize = 100;
/// The least part of the nodes, in percent, that an adaptive search looks for.
const MIN_PERCENTAGE: usize = 5;

/// What a cycle decided.
#[derive(Debug)]
pub enum Decision {
    Chosen(String),
    Rejected(Diagnosis),
}

/// Why no node fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes were refused for each reason.
    pub reasons: BTreeMap<Cow<'static, str>, usize>,
    /// The plugins that said no.
    pub plugins: BTreeSet<&'static str>,
    /// Set when the pod was refused as a whole, before nodes were looked at.
    pub whole: Option<String>,
    /// What PostFilter plugins said.
    pub after: Vec<String>,
}

impl fmt::Display for Diagnosis {
    /// The text of `FailedScheduling` events: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        if let Some(whole) = &self.whole {
            write!(f, "{whole}")?;
        }
        let mut texts: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        texts.sort_unstable();
        write!(f, "{}.", texts.join(", "))?;
        self.after.iter().try_for_each(|text| write!(f, " {text}"))
    }
}

impl Diagnosis {
    fn refuse(&mut self, plugin: &'static str, no: Rejection) {
        self.plugins.insert(plugin);
        for reason in no.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }
}

/// Decides for one pod after the other.
pub struct Scheduler {
    cache: Arc<Mutex<Cache>>,
    snapshot: Snapshot,
    /// Where the next search begins, so that all nodes get their turn.
    start: usize,
    random: SmallRng,
}

impl Scheduler {
    /// A scheduler over `cache`. `seed` decides between equally good nodes.
    pub fn new(cache: Arc<Mutex<Cache>>, seed: u64) -> Self {
        Self { cache, snapshot: Snapshot::default(), start: 0, random: SmallRng::seed_from_u64(seed) }
    }

    /// Finds a node for the pod.
    pub fn decide(&mut self, profile: &Profile, pod: &PodInfo) -> Decision {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).update(&mut self.snapshot);
        let mut state = CycleState::default();
        let mut diagnosis = Diagnosis { nodes: self.snapshot.nodes.len(), ..Diagnosis::default() };
        let feasible = match self.pre_filter(profile, &mut state, pod) {
            Ok(allowed) => self.filter(profile, &state, pod, allowed.as_ref(), &mut diagnosis),
            Err((plugin, no)) => {
                diagnosis.plugins.insert(plugin);
                diagnosis.whole = Some(no.reasons.join(", "));
                Vec::new()
            }
        };
        match feasible.as_slice() {
            [] => {
                self.post_filter(profile, &state, pod, &mut diagnosis);
                Decision::Rejected(diagnosis)
            }
            [only] => Decision::Chosen(only.name.to_string()),
            _ => Decision::Chosen(self.best(profile, &mut state, pod, &feasible)),
        }
    }

    fn pre_filter(
        &self,
        profile: &Profile,
        state: &mut CycleState,
        pod: &PodInfo,
    ) -> Result<Option<BTreeSet<String>>, (&'static str, Rejection)> {
        let mut allowed: Option<BTreeSet<String>> = None;
        for plugin in &profile.pre_filter {
            let result = plugin.pre_filter(state, pod, &self.snapshot).map_err(|no| (plugin.name(), no))?;
            if result.skip {
                state.skipped_filters.insert(plugin.name());
            }
            if let Some(nodes) = result.nodes {
                allowed = Some(match allowed {
                    Some(before) => before.intersection(&nodes).cloned().collect(),
                    None => nodes,
                });
            }
        }
        Ok(allowed)
    }

    fn filter(
        &mut self,
        profile: &Profile,
        state: &CycleState,
        pod: &PodInfo,
        allowed: Option<&BTreeSet<String>>,
        diagnosis: &mut Diagnosis,
    ) -> Vec<Arc<NodeInfo>> {
        let filters: Vec<&dyn Filter> = profile
            .filter
            .iter()
            .map(|plugin| &**plugin)
            .filter(|plugin| !state.skipped_filters.contains(plugin.name()))
            .collect();
        if let Some(names) = allowed {
            let known = names.iter().filter_map(|name| self.snapshot.node(name));
            let feasible = known.filter(|node| passes(&filters, state, pod, node, diagnosis)).cloned().collect();
            let rest = self.snapshot.nodes.len().saturating_sub(names.len());
            if rest > 0 {
                *diagnosis.reasons.entry("node(s) didn't satisfy plugin(s) [NodeAffinity]".into()).or_default() += rest;
                diagnosis.plugins.insert("NodeAffinity");
            }
            return feasible;
        }
        let nodes = &self.snapshot.nodes;
        let enough = enough(nodes.len(), profile.percentage_of_nodes_to_score);
        let mut feasible = Vec::with_capacity(enough.min(nodes.len()));
        let mut looked = 0;
        while looked < nodes.len() && feasible.len() < enough {
            let node = &nodes[(self.start + looked) % nodes.len()];
            looked += 1;
            if passes(&filters, state, pod, node, diagnosis) {
                feasible.push(Arc::clone(node));
            }
        }
        if !nodes.is_empty() {
            self.start = (self.start + looked) % nodes.len();
        }
        feasible
    }

    fn post_filter(&self, profile: &Profile, state: &CycleState, pod: &PodInfo, diagnosis: &mut Diagnosis) {
        for plugin in &profile.post_filter {
            match plugin.post_filter(state, pod, &self.snapshot) {
                // Room is being made: the pod waits for it in the queue.
                Ok(_nominated) => return,
                Err(no) => diagnosis.after.extend(no.reasons.into_iter().map(Cow::into_owned)),
            }
        }
    }

    fn best(&mut self, profile: &Profile, state: &mut CycleState, pod: &PodInfo, nodes: &[Arc<NodeInfo>]) -> String {
        let mut silent = BTreeSet::new();
        for plugin in &profile.pre_score {
            if !plugin.pre_score(state, pod, nodes) {
                silent.insert(plugin.name());
            }
        }
        let mut totals = vec![0_i64; nodes.len()];
        let mut scores = vec![0_i64; nodes.len()];
        for (plugin, weight) in profile.score.iter().filter(|(plugin, _)| !silent.contains(plugin.name())) {
            for (score, node) in scores.iter_mut().zip(nodes) {
                *score = plugin.score(state, pod, node);
            }
            plugin.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weight;
            }
        }
        let most = totals.iter().copied().max().unwrap_or(0);
        let ties: Vec<&Arc<NodeInfo>> =
            nodes.iter().zip(&totals).filter(|(_, total)| **total == most).map(|(node, _)| node).collect();
        ties[self.random.random_range(0..ties.len())].name.to_string()
    }
}

fn passes(
    filters: &[&dyn Filter],
    state: &CycleState,
    pod: &PodInfo,
    node: &NodeInfo,
    diagnosis: &mut Diagnosis,
) -> bool {
    for plugin in filters {
        if let Err(no) = plugin.filter(state, pod, node) {
            diagnosis.refuse(plugin.name(), no);
            return false;
        }
    }
    true
}

/// How many feasible nodes are enough: all in small clusters, down to 5 % in large ones.
fn enough(nodes: usize, percentage: u32) -> usize {
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE),
        fixed => fixed as usize,
    };
    (nodes * percentage / 100).max(MIN_FEASIBLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_clusters_are_searched_in_part() {
        assert_eq!([50, 100, 1000, 5000, 10_000].map(|nodes| enough(nodes, 0)), [100, 100, 420, 500, 500]);
        assert_eq!(enough(5000, 100), 5000);
    }

    #[test]
    fn a_diagnosis_reads_as_upstream() {
        let mut diagnosis = Diagnosis { nodes: 3, ..Diagnosis::default() };
        assert_eq!(Diagnosis::default().to_string(), "no nodes available to schedule pods");
        diagnosis.refuse("a", Rejection::unschedulable("Insufficient cpu"));
        diagnosis.refuse("b", Rejection::unresolvable("node(s) were unschedulable"));
        diagnosis.refuse("b", Rejection::unresolvable("node(s) were unschedulable"));
        assert_eq!(diagnosis.to_string(), "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.");
    }
}
