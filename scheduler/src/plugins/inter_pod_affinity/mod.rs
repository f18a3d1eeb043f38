//! Where other pods are: pod affinity and anti-affinity, upstream's `InterPodAffinity`.
//!
//! Required terms filter, preferred ones score. Both ways count: what the pod asks of those that run, and what those that
//! run ask of it.

mod counts;
mod kept;
mod scoring;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use self::counts::Counts;
use crate::framework::{
    AffinityTerm, ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, Rejection,
    Snapshot,
};
use crate::profile::{ConfigError, PluginSpec, invalid};

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("InterPodAffinity", |slot| {
    slot.configured(from_arguments)?.prepared_filter().prepared_score().end()
})
.weighing(2);

/// `InterPodAffinityArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct InterPodAffinityArgs {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

fn from_arguments(field: &str, args: InterPodAffinityArgs) -> Result<InterPodAffinity, ConfigError> {
    let hard_weight = args.hard_pod_affinity_weight.unwrap_or(1);
    if !(0..=100).contains(&hard_weight) {
        return Err(invalid(&format!("{field}.hardPodAffinityWeight"), "must be 0 to 100"));
    }
    Ok(InterPodAffinity { hard_weight, ignore_preferences_of_others: args.ignore_preferred_terms_of_existing_pods })
}

/// `spec.affinity.podAffinity` and `podAntiAffinity`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InterPodAffinity {
    /// What a required affinity of a running pod to this one counts in scores, 0 to 100.
    pub(crate) hard_weight: i64,
    /// Do not score the preferences of running pods for a pod that has none itself.
    pub(crate) ignore_preferences_of_others: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self { hard_weight: 1, ignore_preferences_of_others: false }
    }
}

/// What PreFilter finds out for Filter.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Pods that match all affinity terms of the pod.
    affinity: Counts,
    /// Pods that the pod does not want to be with.
    anti: Counts,
    /// Pods that do not want to be with the pod.
    unwanted: Counts,
    /// Whether the pod matches its own affinity, so that it may be the first of its group.
    wants_itself: bool,
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::Storage(_) => false,
            _ => true,
        }
    }
}

impl PreFilter for InterPodAffinity {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let own = pod.affinity();
        let asks = !own.required.is_empty() || !own.required_anti.is_empty();
        if !asks && snapshot.with_anti_affinity.is_empty() {
            return Ok(PreFilterResult { nodes: None, skip: true });
        }
        let found = kept::found(pod, snapshot, asks);
        let skip = !asks && found.unwanted.is_empty();
        if !skip {
            state.share(found);
        }
        Ok(PreFilterResult { nodes: None, skip })
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) {
        count(state, pod, other, node, snapshot, 1);
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) {
        count(state, pod, other, node, snapshot, -1);
    }
}

fn count(state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot, change: i64) {
    let Some(found) = state.get_mut::<Found>() else { return };
    found.count_unwanted(pod, other, node, snapshot, change);
    found.count_wanted(pod, other, node, snapshot, change);
}

impl Found {
    /// Counts a pod by what it does not want beside it.
    fn count_unwanted(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot, change: i64) {
        for term in other.affinity().required_anti.iter().filter(|term| term.matches(pod, snapshot)) {
            self.unwanted.add(&term.topology_key, node, change);
        }
    }

    /// Counts a pod by what the pod that looks for a node wants beside it, and what not.
    fn count_wanted(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, snapshot: &Snapshot, change: i64) {
        let own = pod.affinity();
        if matches_all(&own.required, other, snapshot) {
            own.required.iter().for_each(|term| self.affinity.add(&term.topology_key, node, change));
        }
        for term in own.required_anti.iter().filter(|term| term.matches(other, snapshot)) {
            self.anti.add(&term.topology_key, node, change);
        }
    }

    /// The first pod of a group, which is affine to itself, may start anywhere.
    fn is_near(&self, terms: &[AffinityTerm], node: &NodeInfo) -> bool {
        let has_domains = terms.iter().all(|term| node.labels().contains_key(&term.topology_key));
        let has_pods = || terms.iter().all(|term| self.affinity.get(&term.topology_key, node) > 0);
        has_domains && (has_pods() || (self.affinity.is_empty() && self.wants_itself))
    }
}

/// One pod must match all terms: that each is matched by some pod is not enough.
fn matches_all(terms: &[AffinityTerm], pod: &PodInfo, snapshot: &Snapshot) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(pod, snapshot))
}

impl Filter for InterPodAffinity {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(found) = state.get::<Found>() else { return Ok(()) };
        let own = pod.affinity();
        if !found.is_near(&own.required, node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if own.required_anti.iter().any(|term| found.anti.get(&term.topology_key, node) > 0) {
            return Err(Rejection::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        if found.unwanted.sums(node).any(|sum| sum > 0) {
            return Err(Rejection::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }
}
