//! Cordoned nodes take no new pods.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use crate::framework::{ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, Rejection};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("NodeUnschedulable", |slot| slot.plain(NodeUnschedulable).filter().end());

/// `spec.unschedulable`.
pub(crate) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeUpdated { new: node, .. } => {
                is_allowed(pod, node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false))
            }
            ClusterEvent::PodUpdated { .. } => true,
            _ => false,
        }
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let cordoned = node.node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        if is_allowed(pod, cordoned) { Ok(()) } else { Err(Rejection::unresolvable("node(s) were unschedulable")) }
    }

    fn is_local(&self) -> bool {
        true
    }
}

fn is_allowed(pod: &PodInfo, cordoned: bool) -> bool {
    if !cordoned {
        return true;
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    tolerates(pod, &taint)
}
