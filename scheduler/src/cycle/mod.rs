//! The decision cycle: one pod, one snapshot, one node or the reasons why there is none (upstream: `schedulingCycle`).
//! In memory only.

mod diagnosis;
mod explain;
mod memory;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

pub use self::diagnosis::Diagnosis;
pub(crate) use self::explain::Explanation;
use self::memory::Memory;
use self::search::{Allowed, Search};
use crate::cache::Cache;
use crate::framework::{
    CycleState, Failed, Filters, NodeInfo, PodInfo, PostFiltered, Profile, Rejection, Score, Snapshot,
};

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

/// Decides for one pod after the other.
pub struct Scheduler {
    cache: Arc<Mutex<Cache>>,
    snapshot: Snapshot,
    memory: Memory,
    /// Where the next search begins, so that all nodes get their turn.
    start: usize,
    random: SmallRng,
}

impl Scheduler {
    /// A scheduler over `cache`. `seed` decides between equally good nodes.
    pub fn new(cache: Arc<Mutex<Cache>>, seed: u64) -> Self {
        let (snapshot, memory) = (Snapshot::default(), Memory::default());
        Self { cache, snapshot, memory, start: 0, random: SmallRng::seed_from_u64(seed) }
    }

    /// What the last decision was taken on.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Finds a node for the pod.
    pub fn decide(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> Decision {
        let nominated = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.update(&mut self.snapshot);
            cache.nominated_node(&pod.uid).map(str::to_owned)
        };
        let mut state = CycleState::default();
        let mut diagnosis = Diagnosis { nodes: self.snapshot.nodes.len(), ..Diagnosis::default() };
        if diagnosis.nodes == 0 {
            return Decision::Rejected(diagnosis);
        }
        let feasible = match self.pre_filter(profile, &mut state, pod) {
            Ok(allowed) => self.find(profile, &state, pod, (nominated.as_deref(), allowed.as_ref()), &mut diagnosis),
            Err((plugin, no)) => {
                diagnosis.refuse_all(plugin, &no);
                Vec::new()
            }
        };
        match feasible.as_slice() {
            [] => {
                diagnosis.after = self.post_filter(profile, &state, pod, nominated.as_deref(), &diagnosis);
                Decision::Rejected(diagnosis)
            }
            [only] => Decision::Chosen(self.name_of(*only)),
            _ => {
                let totals = self.score(profile, &mut state, pod, &feasible);
                Decision::Chosen(self.best(&feasible, &totals))
            }
        }
    }

    /// Asks all plugins, even when one refused the pod in a way that eviction may change: PostFilter needs what the others
    /// prepare.
    fn pre_filter(
        &self,
        profile: &Profile,
        state: &mut CycleState,
        pod: &PodInfo,
    ) -> Result<Option<Allowed>, (&'static str, Rejection)> {
        let mut allowed: Option<Allowed> = None;
        let mut refused = None;
        for plugin in &profile.pre_filter {
            let result = match plugin.pre_filter(state, pod, &self.snapshot) {
                Ok(result) => result,
                Err(no) if no.unresolvable => return Err((plugin.name(), no)),
                Err(no) => {
                    refused = Some((plugin.name(), no));
                    continue;
                }
            };
            if result.skip {
                state.skipped_filters.insert(plugin.name());
            }
            if let Some(nodes) = result.nodes {
                let all = allowed.get_or_insert_with(|| Allowed { nodes: nodes.clone(), by: BTreeSet::new() });
                all.nodes.retain(|name| nodes.contains(name));
                all.by.insert(plugin.name());
                if all.nodes.is_empty() {
                    return Err((plugin.name(), Rejection::unresolvable(all.emptied())));
                }
            }
        }
        refused.map_or(Ok(allowed), Err)
    }

    /// The positions of the nodes that fit: that of the one which the pod is nominated for alone, if it does.
    fn find(
        &mut self,
        profile: &Profile,
        state: &CycleState,
        pod: &Arc<PodInfo>,
        (nominated, allowed): (Option<&str>, Option<&Allowed>),
        diagnosis: &mut Diagnosis,
    ) -> Vec<usize> {
        let snapshot = &self.snapshot;
        let known = self.memory.of(profile, pod, snapshot);
        let mut search = Search { filters: Filters::new(profile, state), state, pod, snapshot, known };
        if let Some(at) = nominated.and_then(|name| snapshot.position(name)).filter(|at| search.check(*at).is_ok()) {
            return vec![at];
        }
        match allowed {
            Some(allowed) => search.among(allowed, diagnosis),
            None => {
                let enough = enough(snapshot.nodes.len(), profile.percentage_of_nodes_to_score);
                search.anywhere(&mut self.start, enough, diagnosis)
            }
        }
    }

    fn post_filter(
        &mut self,
        profile: &Profile,
        state: &CycleState,
        pod: &PodInfo,
        nominated: Option<&str>,
        diagnosis: &Diagnosis,
    ) -> Option<PostFiltered> {
        let filters = Filters::new(profile, state);
        let cycle = Failed {
            state,
            snapshot: &self.snapshot,
            filters: &filters,
            resolvable: &diagnosis.resolvable,
            nominated,
            random: self.random.random(),
        };
        let mut last = None;
        for plugin in &profile.post_filter {
            let outcome = plugin.post_filter(&cycle, pod);
            if matches!(outcome, PostFiltered::Preempt(_)) {
                return Some(outcome);
            }
            last = Some(outcome);
        }
        last
    }

    /// The weighed sum of all scores for each of the nodes that fit.
    fn score(&mut self, profile: &Profile, state: &mut CycleState, pod: &Arc<PodInfo>, feasible: &[usize]) -> Vec<i64> {
        let snapshot = &self.snapshot;
        let nodes: Vec<&NodeInfo> = feasible.iter().map(|at| &*snapshot.nodes[*at]).collect();
        let mut silent = BTreeSet::new();
        for plugin in &profile.pre_score {
            if !plugin.pre_score(state, pod, &nodes, snapshot) {
                silent.insert(plugin.name());
            }
        }
        let speaks = |plugin: &dyn Score| !silent.contains(plugin.name());
        let known = self.memory.of(profile, pod, snapshot);
        let of_local = |at: usize, plugin: usize| {
            let plugin = &*profile.score[plugin].0;
            (plugin.is_local() && speaks(plugin)).then(|| plugin.score(state, pod, &snapshot.nodes[at]))
        };
        feasible.iter().for_each(|at| known.score(*at, |plugin| of_local(*at, plugin)));
        let mut totals = vec![0_i64; nodes.len()];
        let mut scores = vec![0_i64; nodes.len()];
        for (number, (plugin, weight)) in profile.score.iter().enumerate().filter(|(_, (plugin, _))| speaks(&**plugin))
        {
            if plugin.is_local() {
                let column = known.scores(number);
                scores.iter_mut().zip(feasible).for_each(|(score, at)| *score = column[*at]);
            } else {
                scores.iter_mut().zip(&nodes).for_each(|(score, node)| *score = plugin.score(state, pod, node));
            }
            plugin.normalize(state, &nodes, &mut scores);
            totals.iter_mut().zip(&scores).for_each(|(total, score)| *total += score * weight);
        }
        totals
    }

    /// One of the nodes with the most points.
    fn best(&mut self, feasible: &[usize], totals: &[i64]) -> String {
        let most = totals.iter().copied().max().unwrap_or(0);
        let best = feasible.iter().zip(totals).filter(|(_, total)| **total == most);
        let ties: Vec<usize> = best.map(|(at, _)| *at).collect();
        let chosen = ties[self.random.random_range(0..ties.len())];
        self.name_of(chosen)
    }

    fn name_of(&self, at: usize) -> String {
        self.snapshot.nodes[at].name.to_string()
    }
}

/// How many feasible nodes are enough: all in small clusters, down to 5 % in large ones.
fn enough(nodes: usize, percentage: u32) -> usize {
    let percentage = match percentage {
        0 => 50_usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE),
        fixed => fixed as usize,
    };
    (nodes * percentage / 100).max(MIN_FEASIBLE)
}
