//! Spreads pods evenly over zones, nodes or other domains (KEP-895).

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::selectors::{matches, matches_term};
use super::taint_toleration::tolerates;
use crate::framework::{
    ClusterEvent, CycleState, Filter, MAX_SCORE, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, PreScore,
    Rejection, Score, Snapshot,
};

/// `spec.topologySpreadConstraints`: `DoNotSchedule` filters, `ScheduleAnyway` scores.
pub struct PodTopologySpread;

/// How many matching pods each domain has, for each constraint.
struct Domains(Vec<HashMap<String, usize>>);

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels || old.spec != new.spec
            }
            _ => true,
        }
    }
}

fn constraints<'a>(pod: &'a PodInfo, action: &'static str) -> Vec<&'a TopologySpreadConstraint> {
    let all = pod.spec().and_then(|spec| spec.topology_spread_constraints.as_ref());
    all.into_iter().flatten().filter(|constraint| constraint.when_unsatisfiable == action).collect()
}

/// Whether a node counts for a constraint: its policies on affinity and taints.
fn counts(pod: &PodInfo, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> bool {
    let honors = |policy: Option<&str>, default: &str| policy.unwrap_or(default) == "Honor";
    if honors(constraint.node_affinity_policy.as_deref(), "Honor") && !wants(pod, node) {
        return false;
    }
    let hard = |effect: &str| effect == "NoSchedule" || effect == "NoExecute";
    !honors(constraint.node_taints_policy.as_deref(), "Ignore")
        || node.taints().iter().all(|taint| !hard(&taint.effect) || tolerates(pod, taint))
}

fn wants(pod: &PodInfo, node: &NodeInfo) -> bool {
    let Some(spec) = pod.spec() else { return true };
    let required = spec.affinity.as_ref().and_then(|affinity| {
        affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    });
    spec.node_selector.iter().flatten().all(|(key, value)| node.labels().get(key) == Some(value))
        && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

/// Pods of the same namespace that the constraint speaks of. `matchLabelKeys` narrow it to pods with the same values.
fn count_pods(pod: &PodInfo, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> usize {
    let same = |other: &PodInfo| {
        constraint
            .match_label_keys
            .iter()
            .flatten()
            .all(|key| pod.labels().get(key).is_none_or(|value| other.labels().get(key) == Some(value)))
    };
    let live = node
        .pods
        .iter()
        .filter(|other| other.pod.metadata.deletion_timestamp.is_none() && other.namespace() == pod.namespace());
    live.filter(|other| matches(constraint.label_selector.as_ref(), other.labels()) && same(other)).count()
}

fn domains<'a>(
    pod: &PodInfo,
    constraints: &[&TopologySpreadConstraint],
    nodes: impl Iterator<Item = &'a Arc<NodeInfo>> + Clone,
) -> Domains {
    let mut all = Vec::new();
    for constraint in constraints {
        let mut found = HashMap::new();
        for node in nodes.clone() {
            let complete = constraints.iter().all(|constraint| node.labels().contains_key(&constraint.topology_key));
            let Some(value) =
                node.labels().get(&constraint.topology_key).filter(|_| complete && counts(pod, constraint, node))
            else {
                continue;
            };
            *found.entry(value.clone()).or_default() += count_pods(pod, constraint, node);
        }
        all.push(found);
    }
    Domains(all)
}

impl PreFilter for PodTopologySpread {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let hard = constraints(pod, "DoNotSchedule");
        if hard.is_empty() {
            return Ok(PreFilterResult { nodes: None, skip: true });
        }
        state.put(domains(pod, &hard, snapshot.nodes().iter()));
        Ok(PreFilterResult::default())
    }
}

impl Filter for PodTopologySpread {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(Domains(all)) = state.get::<Domains>() else { return Ok(()) };
        for (constraint, domains) in constraints(pod, "DoNotSchedule").into_iter().zip(all) {
            let Some(value) = node.labels().get(&constraint.topology_key) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let enough =
                constraint.min_domains.is_none_or(|least| domains.len() >= usize::try_from(least).unwrap_or(0));
            let fewest = if enough { domains.values().copied().min().unwrap_or(0) } else { 0 };
            let own = usize::from(matches(constraint.label_selector.as_ref(), pod.labels()));
            let skew = domains.get(value).copied().unwrap_or(0) + own
                - fewest.min(domains.get(value).copied().unwrap_or(0) + own);
            if skew > usize::try_from(constraint.max_skew).unwrap_or(0) {
                return Err(Rejection::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }
}

/// The same for the constraints that only score.
struct SoftDomains(Domains);

impl PreScore for PodTopologySpread {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[Arc<NodeInfo>]) -> bool {
        let soft = constraints(pod, "ScheduleAnyway");
        if soft.is_empty() {
            return false;
        }
        state.put(SoftDomains(domains(pod, &soft, nodes.iter())));
        true
    }
}

impl Score for PodTopologySpread {
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(SoftDomains(Domains(all))) = state.get::<SoftDomains>() else { return 0 };
        let soft = constraints(pod, "ScheduleAnyway");
        let counts = soft.iter().zip(all).map(|(constraint, domains)| {
            node.labels().get(&constraint.topology_key).and_then(|value| domains.get(value)).copied()
        });
        // A node outside every domain is the worst choice: count it as the fullest.
        counts
            .zip(all)
            .map(|(count, domains)| {
                i64::try_from(count.unwrap_or_else(|| domains.values().copied().max().unwrap_or(0) + 1))
                    .unwrap_or(i64::MAX)
            })
            .sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (least, most) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            *score = if most == least { MAX_SCORE } else { MAX_SCORE * (most - *score) / (most - least) };
        }
    }
}
