//! Where a pod's spec wants it: `nodeSelector` and node affinity.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeAffinity as Spec, NodeSelectorTerm};

use super::scale;
use super::selectors::matches_term;
use crate::framework::{
    ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, PreScore, Rejection,
    Score, Snapshot,
};

const NO_MATCH: &str = "node(s) didn't match Pod's node affinity/selector";

/// `spec.nodeSelector` and `spec.affinity.nodeAffinity`.
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::PodUpdated { .. } => true,
            _ => false,
        }
    }
}

fn spec(pod: &PodInfo) -> Option<&Spec> {
    pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()
}

fn required(pod: &PodInfo) -> Option<&[NodeSelectorTerm]> {
    let terms = &spec(pod)?.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    Some(terms)
}

/// The nodes that a term names through `metadata.name`, if it does.
fn named(term: &NodeSelectorTerm) -> Option<BTreeSet<String>> {
    let rules = term.match_fields.iter().flatten().filter(|rule| rule.key == "metadata.name" && rule.operator == "In");
    let mut sets = rules.map(|rule| rule.values.iter().flatten().cloned().collect::<BTreeSet<_>>());
    let first = sets.next()?;
    Some(sets.fold(first, |all, one| all.intersection(&one).cloned().collect()))
}

impl PreFilter for NodeAffinity {
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let selects =
            pod.spec().and_then(|spec| spec.node_selector.as_ref()).is_some_and(|selector| !selector.is_empty());
        let Some(terms) = required(pod) else { return Ok(PreFilterResult { nodes: None, skip: !selects }) };
        // Terms are alternatives, so names bound the search only when each term has some.
        let names: Option<Vec<BTreeSet<String>>> = terms.iter().map(named).collect();
        match names.map(|sets| sets.into_iter().flatten().collect::<BTreeSet<_>>()) {
            Some(none) if none.is_empty() && !terms.is_empty() => {
                Err(Rejection::unresolvable("pod affinity terms conflict"))
            }
            nodes => Ok(PreFilterResult { nodes: nodes.filter(|nodes| !nodes.is_empty()), skip: false }),
        }
    }
}

impl Filter for NodeAffinity {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut selector = pod.spec().and_then(|spec| spec.node_selector.as_ref()).into_iter().flatten();
        let selected = selector.all(|(key, value)| node.labels().get(key) == Some(value));
        let wanted = required(pod).is_none_or(|terms| terms.iter().any(|term| matches_term(term, node)));
        if selected && wanted { Ok(()) } else { Err(Rejection::unresolvable(NO_MATCH)) }
    }
}

impl PreScore for NodeAffinity {
    fn pre_score(&self, _state: &mut CycleState, pod: &PodInfo, _nodes: &[Arc<NodeInfo>]) -> bool {
        spec(pod).is_some_and(|spec| {
            spec.preferred_during_scheduling_ignored_during_execution.as_ref().is_some_and(|terms| !terms.is_empty())
        })
    }
}

impl Score for NodeAffinity {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let terms = spec(pod)
            .and_then(|spec| spec.preferred_during_scheduling_ignored_during_execution.as_deref())
            .unwrap_or_default();
        terms.iter().filter(|term| matches_term(&term.preference, node)).map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, false);
    }
}
