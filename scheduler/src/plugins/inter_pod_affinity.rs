//! Where other pods are: pod affinity and anti-affinity.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};

use super::selectors::matches;
use crate::framework::{
    ClusterEvent, CycleState, Filter, MAX_SCORE, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, PreScore,
    Rejection, Score, Snapshot,
};

/// `spec.affinity.podAffinity` and `podAntiAffinity`.
///
/// `namespaceSelector` other than the empty one (all namespaces) is not supported: such a pod is rejected with a reason.
pub struct InterPodAffinity;

/// How many pods match, by topology key and value.
type Counts = HashMap<(String, String), i64>;

/// What PreFilter finds out for Filter.
struct Found {
    /// For each required affinity term: pods that match, by topology value.
    affinity: Vec<(String, HashMap<String, usize>)>,
    /// Topology pairs in which pods are that this pod does not want to be with.
    anti: Counts,
    /// Topology pairs in which pods are that do not want this pod.
    unwanted: Counts,
    /// Nothing matches the affinity anywhere, but the pod matches its own terms: the first of its group.
    is_first_of_group: bool,
}

/// Sums of preferences by topology pair.
struct Preferred(Counts);

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
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
        let (affinity, anti) = (required_affinity(pod), required_anti_affinity(pod));
        for term in affinity.iter().chain(anti) {
            if term
                .namespace_selector
                .as_ref()
                .is_some_and(|selector| selector.match_labels.is_some() || selector.match_expressions.is_some())
            {
                return Err(Rejection::unresolvable(
                    "pod (anti-)affinity with a namespaceSelector is not supported by this scheduler",
                ));
            }
        }
        let unwanted = unwanted(pod, snapshot);
        if affinity.is_empty() && anti.is_empty() && unwanted.is_empty() {
            return Ok(PreFilterResult { nodes: None, skip: true });
        }
        let mut found = Found { affinity: Vec::new(), anti: Counts::new(), unwanted, is_first_of_group: false };
        for term in affinity {
            found.affinity.push((term.topology_key.clone(), matching(pod, term, snapshot)));
        }
        for term in anti {
            for (value, count) in matching(pod, term, snapshot) {
                *found.anti.entry((term.topology_key.clone(), value)).or_default() +=
                    i64::try_from(count).unwrap_or(i64::MAX);
            }
        }
        let nothing_matches = found.affinity.iter().all(|(_, values)| values.is_empty());
        found.is_first_of_group = nothing_matches && affinity.iter().all(|term| is_match(pod, term, pod));
        state.put(found);
        Ok(PreFilterResult::default())
    }
}

impl Filter for InterPodAffinity {
    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(found) = state.get::<Found>() else { return Ok(()) };
        let labels = node.labels();
        let wanted = found.affinity.iter().all(|(key, values)| {
            labels.get(key).is_some_and(|value| found.is_first_of_group || values.contains_key(value))
        });
        if !wanted {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if contains(&found.anti, labels) {
            return Err(Rejection::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        if contains(&found.unwanted, labels) {
            return Err(Rejection::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }
}

impl PreScore for InterPodAffinity {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[Arc<NodeInfo>]) -> bool {
        let affinity = pod.spec().and_then(|spec| spec.affinity.as_ref());
        let wanted = affinity
            .and_then(|affinity| {
                affinity.pod_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_deref()
            })
            .unwrap_or_default();
        let shunned = affinity
            .and_then(|affinity| {
                affinity.pod_anti_affinity.as_ref()?.preferred_during_scheduling_ignored_during_execution.as_deref()
            })
            .unwrap_or_default();
        if wanted.is_empty() && shunned.is_empty() {
            return false;
        }
        let mut sums = Counts::new();
        let mut add = |terms: &[WeightedPodAffinityTerm], sign: i64| {
            for term in terms {
                for node in nodes {
                    let Some(value) = node.labels().get(&term.pod_affinity_term.topology_key) else { continue };
                    let count = node.pods.iter().filter(|other| is_match(pod, &term.pod_affinity_term, other)).count();
                    if count > 0 {
                        let pair = (term.pod_affinity_term.topology_key.clone(), value.clone());
                        *sums.entry(pair).or_default() +=
                            sign * i64::from(term.weight) * i64::try_from(count).unwrap_or(i64::MAX);
                    }
                }
            }
        };
        add(wanted, 1);
        add(shunned, -1);
        let any = !sums.is_empty();
        state.put(Preferred(sums));
        any
    }
}

impl Score for InterPodAffinity {
    fn score(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Preferred(sums)) = state.get::<Preferred>() else { return 0 };
        sums.iter().filter(|((key, value), _)| node.labels().get(key) == Some(value)).map(|(_, sum)| *sum).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let range = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = if range == 0 { 0 } else { MAX_SCORE * (*score - least) / range };
        }
    }
}

fn required_affinity(pod: &PodInfo) -> &[PodAffinityTerm] {
    let affinity = pod.spec().and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

fn required_anti_affinity(pod: &PodInfo) -> &[PodAffinityTerm] {
    let affinity = pod.spec().and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

/// Whether `other` is one of the pods that `owner`'s term speaks of.
fn is_match(owner: &PodInfo, term: &PodAffinityTerm, other: &PodInfo) -> bool {
    // An empty namespaceSelector means all namespaces; named ones add to it; neither means the owner's own.
    let everywhere = term.namespace_selector.is_some();
    let named = term.namespaces.as_deref().unwrap_or_default();
    let here = if named.is_empty() && !everywhere {
        other.namespace() == owner.namespace()
    } else {
        everywhere || named.iter().any(|name| name == other.namespace())
    };
    // matchLabelKeys were merged into the selector by the API server (KEP-3633).
    here && matches(term.label_selector.as_ref(), other.labels())
}

/// Pods that a term speaks of, counted by topology value.
fn matching(pod: &PodInfo, term: &PodAffinityTerm, snapshot: &Snapshot) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for node in snapshot.nodes() {
        let Some(value) = node.labels().get(&term.topology_key) else { continue };
        let count = node.pods.iter().filter(|other| is_match(pod, term, other)).count();
        if count > 0 {
            *counts.entry(value.clone()).or_default() += count;
        }
    }
    counts
}

/// Where pods are that do not want this one beside them.
fn unwanted(pod: &PodInfo, snapshot: &Snapshot) -> Counts {
    let mut counts = Counts::new();
    for node in snapshot.nodes() {
        for other in node.pods.iter().filter(|other| other.has_required_anti_affinity()) {
            for term in required_anti_affinity(other).iter().filter(|term| is_match(other, term, pod)) {
                if let Some(value) = node.labels().get(&term.topology_key) {
                    *counts.entry((term.topology_key.clone(), value.clone())).or_default() += 1;
                }
            }
        }
    }
    counts
}

fn contains(counts: &Counts, labels: &BTreeMap<String, String>) -> bool {
    counts.keys().any(|(key, value)| labels.get(key) == Some(value))
}
