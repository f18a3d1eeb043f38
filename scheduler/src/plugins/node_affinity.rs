//! Where a pod's spec wants it: `nodeSelector` and node affinity.

use std::collections::BTreeSet;

use facts::nodes::selector;
use k8s_openapi::api::core::v1::{NodeAffinity as Spec, NodeSelectorTerm, PreferredSchedulingTerm};
use serde::Deserialize;
use serde_json::Value;

use super::scale;
use crate::framework::{
    ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, PreScore, Rejection,
    Score, Snapshot,
};
use crate::profile::{ConfigError, PluginSpec, invalid, typed};

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("NodeAffinity", |slot| slot.configured(from_arguments)?.prepared_filter().prepared_score().end())
        .weighing(2);

/// `NodeAffinityArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NodeAffinityArgs {
    added_affinity: Option<Value>,
}

fn from_arguments(field: &str, args: NodeAffinityArgs) -> Result<NodeAffinity, ConfigError> {
    let Some(added) = args.added_affinity else { return Ok(NodeAffinity::default()) };
    let field = format!("{field}.addedAffinity");
    let added: Spec = typed(&field, added)?;
    let required = added.required_during_scheduling_ignored_during_execution.as_ref();
    if required.is_some_and(|required| required.node_selector_terms.is_empty()) {
        let at = format!("{field}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        return Err(invalid(&at, "must have at least one node selector term"));
    }
    Ok(NodeAffinity { added: Some(added) })
}

const NO_MATCH: &str = "node(s) didn't match Pod's node affinity/selector";
const NOT_ADDED: &str = "node(s) didn't match scheduler-enforced node affinity";

/// `spec.nodeSelector` and `spec.affinity.nodeAffinity`.
#[derive(Default)]
pub(crate) struct NodeAffinity {
    /// What the profile asks of nodes in addition to its pods.
    pub(crate) added: Option<Spec>,
}

impl NodeAffinity {
    fn allows(&self, node: &NodeInfo) -> bool {
        let required =
            self.added.as_ref().and_then(|added| added.required_during_scheduling_ignored_during_execution.as_ref());
        required.is_none_or(|required| selector::chooses(required, &node.name, node.labels()))
    }

    /// The preferences of the profile and of the pod.
    fn preferred<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a PreferredSchedulingTerm> {
        let specs = self.added.as_ref().into_iter().chain(spec(pod));
        specs.flat_map(|spec| spec.preferred_during_scheduling_ignored_during_execution.iter().flatten())
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        PLUGIN.name
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
    Some(&selector::required(pod.spec()?)?.node_selector_terms)
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
        let Some(terms) = required(pod) else {
            return Ok(PreFilterResult { nodes: None, skip: !selects && self.added.is_none() });
        };
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
        if !self.allows(node) {
            return Err(Rejection::unresolvable(NOT_ADDED));
        }
        let is_wanted = pod.spec().is_none_or(|spec| selector::allows(spec, &node.node));
        if is_wanted { Ok(()) } else { Err(Rejection::unresolvable(NO_MATCH)) }
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl PreScore for NodeAffinity {
    fn pre_score(&self, _state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeInfo], _snapshot: &Snapshot) -> bool {
        self.preferred(pod).next().is_some()
    }
}

impl Score for NodeAffinity {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let chosen = self.preferred(pod).filter(|term| selector::fits(&term.preference, &node.name, node.labels()));
        chosen.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        scale(scores, false);
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{Value, json};

    fn term(zone: &str) -> Value {
        json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]})
    }

    fn node(zone: &str) -> NodeInfo {
        let node = json!({"metadata": {"name": zone, "labels": {"zone": zone}}});
        NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap()))
    }

    fn pod(affinity: Value) -> PodInfo {
        let spec = json!({"containers": [], "affinity": {"nodeAffinity": affinity}});
        PodInfo::new(Arc::new(serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()))
    }

    #[test]
    fn what_a_profile_adds_is_asked_of_every_pod() {
        let only =
            |zone: &str| json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term(zone)]}});
        let plugin = NodeAffinity { added: Some(serde_json::from_value(only("a")).unwrap()) };
        let mut state = CycleState::default();
        let snapshot = Snapshot::default();
        assert!(!plugin.pre_filter(&mut state, &pod(json!({})), &snapshot).unwrap().skip);
        assert!(NodeAffinity::default().pre_filter(&mut state, &pod(json!({})), &snapshot).unwrap().skip);
        let reason =
            |pod: &PodInfo, zone: &str| plugin.filter(&state, pod, &node(zone)).err().map(|no| no.reasons[0].clone());
        assert_eq!(reason(&pod(json!({})), "a"), None);
        assert_eq!(reason(&pod(json!({})), "b").unwrap(), NOT_ADDED);
        assert_eq!(reason(&pod(only("b")), "a").unwrap(), NO_MATCH);
    }

    #[test]
    fn preferences_of_profile_and_pod_add_up() {
        let prefer = |zone: &str, weight: i32| json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": term(zone)}]});
        let plugin = NodeAffinity { added: Some(serde_json::from_value(prefer("a", 5)).unwrap()) };
        let pod = pod(prefer("a", 2));
        let mut state = CycleState::default();
        assert!(plugin.pre_score(&mut state, &pod, &[], &Snapshot::default()));
        assert_eq!(["a", "b"].map(|zone| plugin.score(&state, &pod, &node(zone))), [7, 0]);
    }
}
