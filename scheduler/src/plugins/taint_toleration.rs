//! Taints keep pods away from nodes unless they tolerate them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Taint, Toleration};

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
                let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
                untolerated(pod, taints).is_none()
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
}

impl Score for TaintToleration {
    fn score(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let soft = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint));
        i64::try_from(soft.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[Arc<NodeInfo>], scores: &mut [i64]) {
        scale(scores, true);
    }
}

fn untolerated<'a>(pod: &PodInfo, taints: &'a [Taint]) -> Option<&'a Taint> {
    let hard = taints.iter().filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute");
    hard.into_iter().find(|taint| !tolerates(pod, taint))
}

/// Whether the pod tolerates the taint.
pub(super) fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    let tolerations = pod.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| covers(toleration, taint))
}

/// `Gt` and `Lt` compare numbers (KEP-5471).
fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let same = |own: Option<&str>, other: &str| own.is_none_or(|own| own.is_empty() || own == other);
    if !same(toleration.effect.as_deref(), &taint.effect) || !same(toleration.key.as_deref(), &taint.key) {
        return false;
    }
    let own = toleration.value.as_deref().unwrap_or("");
    let theirs = taint.value.as_deref().unwrap_or("");
    let numbers = || own.parse::<i64>().ok().zip(theirs.parse::<i64>().ok());
    match toleration.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => own == theirs,
        "Gt" => numbers().is_some_and(|(own, theirs)| theirs > own),
        "Lt" => numbers().is_some_and(|(own, theirs)| theirs < own),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(toleration: Value, taint: Value, want: bool) {
        let toleration: Toleration = serde_json::from_value(toleration).unwrap();
        let taint: Taint = serde_json::from_value(taint).unwrap();
        assert_eq!(covers(&toleration, &taint), want);
    }

    #[test]
    fn tolerations_cover_taints_as_the_api_says() {
        let taint = || json!({"key": "a", "value": "b", "effect": "NoSchedule"});
        check(json!({"operator": "Exists"}), taint(), true);
        check(json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), taint(), false);
        check(json!({"key": "a", "value": "b"}), taint(), true);
        check(json!({"key": "a", "value": "c"}), taint(), false);
        check(
            json!({"key": "a", "operator": "Gt", "value": "5"}),
            json!({"key": "a", "value": "7", "effect": "NoSchedule"}),
            true,
        );
    }
}
