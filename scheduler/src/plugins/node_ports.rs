//! Two pods cannot take the same port of a node.

use crate::framework::{
    ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot,
};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("NodePorts", |slot| slot.plain(NodePorts).prepared_filter().end());

/// `hostPort`.
pub(crate) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        matches!(
            event,
            ClusterEvent::NodeAdded(_) | ClusterEvent::NodeUpdated { .. } | ClusterEvent::AssignedPodDeleted(_)
        )
    }
}

impl PreFilter for NodePorts {
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        Ok(PreFilterResult { nodes: None, skip: pod.ports.is_empty() })
    }
}

impl Filter for NodePorts {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = pod.ports.iter().any(|wanted| node.ports.iter().any(|used| used.conflicts(wanted)));
        if taken {
            Err(Rejection::unschedulable("node(s) didn't have free ports for the requested pod ports"))
        } else {
            Ok(())
        }
    }

    fn is_local(&self) -> bool {
        true
    }
}
