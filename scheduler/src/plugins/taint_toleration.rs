//! Taints keep pods away from nodes unless they tolerate them.

use facts::nodes::{self, taints};
use k8s_openapi::api::core::v1::Taint;

use super::scale;
use crate::framework::{ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, Rejection, Score};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("TaintToleration", |slot| slot.plain(TaintToleration).filter().score().end()).weighing(3);

/// `NoSchedule` and `NoExecute` taints filter, `PreferNoSchedule` taints score.
pub(crate) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeUpdated { new: node, .. } => {
                untolerated(pod, nodes::taints(node)).is_none()
            }
            ClusterEvent::PodUpdated { .. } => true,
            _ => false,
        }
    }
}

impl Filter for TaintToleration {
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match untolerated(pod, node.taints()) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or("");
                Err(Rejection::unresolvable(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)))
            }
        }
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl Score for TaintToleration {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let soft = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint));
        i64::try_from(soft.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        scale(scores, true);
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// The first taint that keeps the pod away.
pub(super) fn untolerated<'a>(pod: &PodInfo, taints: &'a [Taint]) -> Option<&'a Taint> {
    let hard = taints.iter().filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute");
    hard.into_iter().find(|taint| !tolerates(pod, taint))
}

/// Whether the pod tolerates the taint.
pub(super) fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    taints::tolerates(pod.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default(), taint)
}
