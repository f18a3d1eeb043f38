//! A pod that names a node goes to that node only.

use crate::framework::{ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, Rejection};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("NodeName", |slot| slot.plain(NodeName).filter().end());

/// `spec.nodeName`.
pub(crate) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded(_))
    }
}

impl Filter for NodeName {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match pod.spec().and_then(|spec| spec.node_name.as_deref()) {
            Some(name) if !name.is_empty() && name != &*node.name => {
                Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }

    fn is_local(&self) -> bool {
        true
    }
}
