//! A pod is let in only if everybody who was let in can still finish: see [`crate::banker`]. Off unless a profile turns it on.

use crate::banker;
use crate::framework::{
    CLAIM, ClusterEvent, CycleState, Filter, GROUP_CLAIM, NodeInfo, Permit, PermitPlugin, Plugin, PodInfo, PreFilter,
    PreFilterResult, Rejection, Resources, Shown, Snapshot,
};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("BankersCheck", |slot| slot.plain(BankersCheck).prepared_filter().permit().end()).on_request();

/// The annotations `coracle.dev/claim` and `coracle.dev/group-claim`.
pub(crate) struct BankersCheck;

impl Plugin for BankersCheck {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::AssignedPodDeleted(_)
            | ClusterEvent::AssignedPodUpdated { .. }
            | ClusterEvent::NodeAdded(_)
            | ClusterEvent::PodUpdated { .. } => true,
            ClusterEvent::NodeUpdated { old, new } => {
                let room = |node: &k8s_openapi::api::core::v1::Node| node.status.as_ref()?.allocatable.clone();
                room(old) != room(new)
            }
            _ => false,
        }
    }
}

/// The resource of which more is claimed than there is.
fn too_much(claimed: &Resources, there: impl Fn(&str) -> i64) -> Option<(&str, i64, i64)> {
    let mut amounts = claimed.amounts().map(|(name, amount)| (name, amount, there(name)));
    amounts.find(|(_, amount, there)| amount > there)
}

impl PreFilter for BankersCheck {
    /// Claims that are wrong, or that all nodes together could not meet, are refused before anybody else is asked.
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        if let Some(wrong) = pod.wrong_claim() {
            return Err(Rejection::unresolvable(wrong.to_string()));
        }
        let there = |name: &str| {
            snapshot.nodes().iter().fold(0_i64, |sum, node| sum.saturating_add(node.allocatable.amount(name)))
        };
        let group = pod.claim().and_then(|claim| claim.group.as_ref());
        if let Some((name, amount, there)) = group.and_then(|group| too_much(group, there)) {
            let (amount, there) = (Shown(name, amount), Shown(name, there));
            let why = format!("annotation {GROUP_CLAIM}: claims {amount} {name}, more than the {there} of all nodes");
            return Err(Rejection::unresolvable(why));
        }
        Ok(PreFilterResult { nodes: None, skip: pod.claim().is_none() })
    }
}

impl Filter for BankersCheck {
    /// A pod grows where it is: a node that is smaller than its claim is none for it.
    fn filter(&self, _state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let more = pod.claim().and_then(|claim| too_much(&claim.own, |name| node.allocatable.amount(name)));
        match more {
            None => Ok(()),
            Some((name, ..)) => Err(Rejection::unresolvable(format!("node(s) have less {name} than {CLAIM} claims"))),
        }
    }
}

impl PermitPlugin for BankersCheck {
    fn permit(&self, pod: &PodInfo, node: &str, snapshot: &Snapshot) -> Permit {
        match banker::refusal(snapshot, pod, node) {
            None => Permit::Allow,
            Some(why) => Permit::Reject(Rejection::unschedulable(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::cache::Cache;
    use crate::cycle::{Decision, Scheduler};
    use crate::framework::Profile;

    fn pod(name: &str, most: &str) -> Arc<PodInfo> {
        let annotations = json!({CLAIM: json!({"cpu": most}).to_string()});
        let requests = json!({"cpu": "1"});
        let pod = json!({
            "metadata": {"name": name, "uid": name, "annotations": annotations},
            "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]},
        });
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
    }

    fn cluster() -> Arc<Mutex<Cache>> {
        let mut cache = Cache::default();
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "pods": "9"}}});
        cache.set_node(&Arc::new(serde_json::from_value(node).unwrap()));
        Arc::new(Mutex::new(cache))
    }

    #[test]
    fn decisions_one_after_the_other_see_each_other() {
        let cache = cluster();
        let mut scheduler = Scheduler::new(Arc::clone(&cache), 0);
        let mut permit = |pod: &Arc<PodInfo>| {
            let Decision::Chosen(node) = scheduler.decide(&Profile::default(), pod) else { panic!("there is room") };
            cache.lock().unwrap().assume(Arc::clone(pod), &node);
            BankersCheck.permit(pod, &node, scheduler.snapshot())
        };
        assert_eq!(permit(&pod("a", "4")), Permit::Allow);
        assert!(matches!(permit(&pod("b", "4")), Permit::Reject(_)), "each alone would be safe");
    }

    #[test]
    fn a_claim_that_no_node_can_meet_is_refused_by_each() {
        let cache = cluster();
        let mut scheduler = Scheduler::new(cache, 0);
        let profile = Profile {
            pre_filter: vec![Arc::new(BankersCheck)],
            filter: vec![Arc::new(BankersCheck)],
            ..Profile::default()
        };
        let mut refused = |most: &str| match scheduler.decide(&profile, &pod("a", most)) {
            Decision::Chosen(_) => None,
            Decision::Rejected(why) => Some(why.to_string()),
        };
        assert_eq!(refused("4"), None);
        let less = "0/1 nodes are available: 1 node(s) have less cpu than coracle.dev/claim claims.";
        assert_eq!(refused("5").as_deref(), Some(less));
        let lie = "0/1 nodes are available: annotation coracle.dev/claim: claims 500m cpu, less than the 1 requested.";
        assert_eq!(refused("500m").as_deref(), Some(lie));
    }
}
