//! The decision cycle: one pod, one snapshot, one node or the reasons why there is none (upstream: `schedulingCycle`).
//! In memory only.

mod diagnosis;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

pub use self::diagnosis::Diagnosis;
use crate::cache::Cache;
use crate::framework::{CycleState, Failed, Filters, NodeInfo, PodInfo, PostFiltered, Profile, Rejection, Snapshot};

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
            Ok(allowed) => {
                let search = Search { filters: Filters::new(profile, &state), state: &state, pod };
                let nominated = nominated.as_deref();
                self.find(&search, profile, nominated, allowed.as_ref(), &mut diagnosis)
            }
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
            [only] => Decision::Chosen(only.name.to_string()),
            _ => Decision::Chosen(self.best(profile, &mut state, pod, &feasible)),
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

    /// The nodes that fit: the one that the pod is nominated for alone, if it does.
    fn find(
        &mut self,
        search: &Search<'_>,
        profile: &Profile,
        nominated: Option<&str>,
        allowed: Option<&Allowed>,
        diagnosis: &mut Diagnosis,
    ) -> Vec<Arc<NodeInfo>> {
        let first = nominated.and_then(|name| self.snapshot.node(name));
        if let Some(node) = first.filter(|node| search.check(node, &self.snapshot).is_ok()) {
            return vec![Arc::clone(node)];
        }
        match allowed {
            Some(allowed) => self.find_among(search, allowed, diagnosis),
            None => self.find_anywhere(search, profile.percentage_of_nodes_to_score, diagnosis),
        }
    }

    fn find_among(&self, search: &Search<'_>, allowed: &Allowed, diagnosis: &mut Diagnosis) -> Vec<Arc<NodeInfo>> {
        let known: Vec<usize> = allowed.nodes.iter().filter_map(|name| self.snapshot.position(name)).collect();
        let rest = self.snapshot.nodes.len() - known.len();
        if rest > 0 {
            let why = format!("node(s) didn't satisfy plugin(s) [{}]", allowed.plugins());
            diagnosis.count_many(why, rest);
            diagnosis.plugins.extend(&allowed.by);
        }
        known.into_iter().filter_map(|at| search.try_node(at, &self.snapshot, diagnosis)).collect()
    }

    fn find_anywhere(&mut self, search: &Search<'_>, percentage: u32, diagnosis: &mut Diagnosis) -> Vec<Arc<NodeInfo>> {
        let count = self.snapshot.nodes.len();
        let enough = enough(count, percentage);
        let mut feasible = Vec::with_capacity(enough.min(count));
        let mut looked = 0;
        while looked < count && feasible.len() < enough {
            let at = (self.start + looked) % count;
            looked += 1;
            feasible.extend(search.try_node(at, &self.snapshot, diagnosis));
        }
        self.start = (self.start + looked) % count;
        feasible
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

    fn best(&mut self, profile: &Profile, state: &mut CycleState, pod: &PodInfo, nodes: &[Arc<NodeInfo>]) -> String {
        let mut silent = BTreeSet::new();
        for plugin in &profile.pre_score {
            if !plugin.pre_score(state, pod, nodes, &self.snapshot) {
                silent.insert(plugin.name());
            }
        }
        let mut totals = vec![0_i64; nodes.len()];
        let mut scores = vec![0_i64; nodes.len()];
        for (plugin, weight) in profile.score.iter().filter(|(plugin, _)| !silent.contains(plugin.name())) {
            for (score, node) in scores.iter_mut().zip(nodes) {
                *score = plugin.score(state, pod, node);
            }
            plugin.normalize(state, nodes, &mut scores);
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

/// What PreFilter left of the nodes, and the plugins that did it.
struct Allowed {
    nodes: BTreeSet<String>,
    by: BTreeSet<&'static str>,
}

impl Allowed {
    fn plugins(&self) -> String {
        self.by.iter().copied().collect::<Vec<_>>().join(" ")
    }

    fn emptied(&self) -> String {
        match self.by.len() {
            1 => format!("node(s) didn't satisfy plugin {}", self.plugins()),
            _ => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", self.plugins()),
        }
    }
}

/// A pod that is looking for a node.
struct Search<'a> {
    filters: Filters<'a>,
    state: &'a CycleState,
    pod: &'a PodInfo,
}

impl Search<'_> {
    fn check(&self, node: &NodeInfo, snapshot: &Snapshot) -> Result<(), crate::framework::Refusal> {
        self.filters.check(self.state, self.pod, node, snapshot)
    }

    /// The node at this position, if the pod fits.
    fn try_node(&self, at: usize, snapshot: &Snapshot, diagnosis: &mut Diagnosis) -> Option<Arc<NodeInfo>> {
        let node = snapshot.nodes.get(at)?;
        match self.check(node, snapshot) {
            Ok(()) => Some(Arc::clone(node)),
            Err(refusal) => {
                diagnosis.refuse(at, refusal);
                None
            }
        }
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
