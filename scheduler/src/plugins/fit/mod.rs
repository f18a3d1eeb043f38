//! Room on nodes: what pods ask for must fit, and the load is spread (or packed) and balanced.

mod arguments;
pub(super) mod balanced;
mod strategy;

use self::balanced::BalancedAllocation;
use self::strategy::{FitStrategy, Point, Resource};

use crate::framework::{ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, Rejection, Score};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("NodeResourcesFit", |slot| slot.configured(arguments::fit)?.filter().score().end()).weighing(1);

/// `NodeResourcesFit`: filters by requests and scores by what is left.
pub(crate) struct Fit {
    pub(crate) strategy: FitStrategy,
    /// The resources that count in scores, with their weights.
    pub(crate) resources: Vec<(Resource, i64)>,
    /// Extended resources that the filter does not look at.
    pub(crate) ignored: Vec<String>,
    /// Groups of such resources: what comes before the `/` of their names.
    pub(crate) ignored_groups: Vec<String>,
}

impl Default for Fit {
    fn default() -> Self {
        let resources = Resource::usual().into_iter().map(|resource| (resource, 1)).collect();
        Self { strategy: FitStrategy::default(), resources, ignored: Vec::new(), ignored_groups: Vec::new() }
    }
}

impl Fit {
    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split_once('/').map_or("", |(group, _)| group);
        self.ignored.iter().any(|name| name == resource) || self.ignored_groups.iter().any(|name| name == group)
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(_)
            | ClusterEvent::AssignedPodDeleted(_)
            | ClusterEvent::AssignedPodUpdated { .. } => true,
            ClusterEvent::NodeUpdated { old, new } => {
                let room = |node: &k8s_openapi::api::core::v1::Node| {
                    node.status.as_ref().and_then(|status| status.allocatable.clone())
                };
                room(old) != room(new)
            }
            ClusterEvent::PodUpdated { .. } => true,
            ClusterEvent::AssignedPodAdded(_)
            | ClusterEvent::NamespaceChanged
            | ClusterEvent::Storage(_)
            | ClusterEvent::PodGroupChanged(_) => false,
        }
    }
}

impl Filter for Fit {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut short = Vec::new();
        let mut impossible = false;
        let mut check = |wanted: i64, used: i64, total: i64, name: &dyn Fn() -> std::borrow::Cow<'static, str>| {
            if wanted > 0 && wanted > total - used {
                impossible |= wanted > total;
                short.push(name());
            }
        };
        check(
            1,
            i64::try_from(node.pods.len()).unwrap_or(i64::MAX),
            i64::try_from(node.allowed_pods).unwrap_or(i64::MAX),
            &|| "Too many pods".into(),
        );
        let (wanted, used, total) = (&pod.requests, &node.requested, &node.allocatable);
        check(wanted.milli_cpu, used.milli_cpu, total.milli_cpu, &|| "Insufficient cpu".into());
        check(wanted.memory, used.memory, total.memory, &|| "Insufficient memory".into());
        check(wanted.ephemeral_storage, used.ephemeral_storage, total.ephemeral_storage, &|| {
            "Insufficient ephemeral-storage".into()
        });
        for (resource, amount) in wanted.others.iter().filter(|(resource, _)| !self.ignores(resource)) {
            let of = |amounts: &std::collections::BTreeMap<String, i64>| amounts.get(resource).copied().unwrap_or(0);
            check(*amount, of(&used.others), of(&total.others), &|| format!("Insufficient {resource}").into());
        }
        if short.is_empty() { Ok(()) } else { Err(Rejection { reasons: short, unresolvable: impossible }) }
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl Score for Fit {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        self.strategy.score(&self.resources, pod, node)
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

    fn pod(requests: Value) -> PodInfo {
        let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
        PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn node() -> NodeInfo {
        let node =
            json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "2"}}});
        NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap()))
    }

    fn reasons(requests: Value, node: &NodeInfo) -> (Vec<String>, bool) {
        match Fit::default().filter(&CycleState::default(), &pod(requests), node) {
            Ok(()) => (Vec::new(), false),
            Err(no) => (no.reasons.iter().map(ToString::to_string).collect(), no.unresolvable),
        }
    }

    #[test]
    fn every_shortage_is_named() {
        let (named, impossible) = reasons(json!({"cpu": "2", "memory": "2Gi", "x.io/y": "1"}), &node());
        assert_eq!(named, ["Insufficient cpu", "Insufficient memory", "Insufficient x.io/y"]);
        assert!(impossible);
    }

    #[test]
    fn a_full_node_may_be_emptied_but_a_small_one_stays_small() {
        let mut node = node();
        node.add(Arc::new(pod(json!({"cpu": "600m"}))));
        assert_eq!(reasons(json!({"cpu": "500m"}), &node), (vec!["Insufficient cpu".to_owned()], false));
        node.add(Arc::new(pod(json!({}))));
        assert_eq!(reasons(json!({}), &node), (vec!["Too many pods".to_owned()], false));
    }

    #[test]
    fn emptier_nodes_score_higher() {
        let (empty, mut busy) = (node(), node());
        busy.add(Arc::new(pod(json!({"cpu": "500m", "memory": "512Mi"}))));
        let pod = pod(json!({"cpu": "100m", "memory": "100Mi"}));
        let score = |node: &NodeInfo| Fit::default().score(&CycleState::default(), &pod, node);
        assert!(score(&empty) > score(&busy));
    }
}
