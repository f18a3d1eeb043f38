//! A claim of the access mode `ReadWriteOncePod` is used by one pod at a time (upstream's `VolumeRestrictions`). That one
//! disk cannot be attached twice, the controller that attaches sees to.

use std::sync::Arc;

use api::volumes::claims_of;
use client::ObjectKey;
use k8s_openapi::api::core::v1::Pod;

use super::volume_binding::uses;
use crate::framework::{
    ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot,
    StorageEvent,
};
use crate::profile::PluginSpec;
use crate::volumes::Volumes;

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("VolumeRestrictions", |slot| {
    let volumes = Arc::clone(&slot.handles.volumes);
    slot.plain(VolumeRestrictions { volumes }).prepared_filter().end()
});

const IN_USE: &str =
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

/// Keeps pods away from claims that another pod has for itself.
pub(crate) struct VolumeRestrictions {
    pub(crate) volumes: Arc<Volumes>,
}

/// The exclusive claims of a pod, and who uses them.
struct Exclusive {
    claims: Vec<ObjectKey>,
    /// The nodes of pods that use them, one entry for each pod.
    users: Vec<Arc<str>>,
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn may_help(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::AssignedPodDeleted(other) => shares_claim(&pod.pod, other),
            ClusterEvent::Storage(StorageEvent::Claim(claim)) => uses(pod, claim),
            _ => false,
        }
    }
}

/// Whether two pods name the same claim.
fn shares_claim(pod: &Pod, other: &Pod) -> bool {
    let (one, two) = (named(pod), named(other));
    one.iter().any(|claim| two.contains(claim))
}

fn named(pod: &Pod) -> Vec<ObjectKey> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims = claims_of(pod).into_iter().filter(|used| !used.is_made);
    claims.map(|used| ObjectKey::new(namespace, used.name)).collect()
}

fn uses_any(pod: &PodInfo, claims: &[ObjectKey]) -> bool {
    let is_near = claims.iter().any(|claim| claim.namespace == pod.namespace());
    is_near && named(&pod.pod).iter().any(|claim| claims.contains(claim))
}

impl PreFilter for VolumeRestrictions {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let claims = self.volumes.exclusive_claims(&pod.pod).map_err(Rejection::unresolvable)?;
        if claims.is_empty() {
            return Ok(PreFilterResult { nodes: None, skip: true });
        }
        let mut users = Vec::new();
        for node in snapshot.nodes() {
            let here = node.pods.iter().filter(|other| uses_any(other, &claims));
            users.extend(here.map(|_| Arc::clone(&node.name)));
        }
        state.put(Exclusive { claims, users });
        Ok(PreFilterResult::default())
    }
}

impl Filter for VolumeRestrictions {
    /// Users on this node are counted on the node itself, which may be one that pods were taken off.
    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(exclusive) = state.get::<Exclusive>() else { return Ok(()) };
        let is_elsewhere = exclusive.users.iter().any(|user| *user != node.name);
        if is_elsewhere || node.pods.iter().any(|other| uses_any(other, &exclusive.claims)) {
            return Err(Rejection::unschedulable(IN_USE));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn pod(name: &str, claim: &str) -> Arc<PodInfo> {
        let volumes = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }]);
        let metadata = json!({ "name": name, "namespace": "n", "uid": name });
        let pod = json!({ "metadata": metadata, "spec": { "containers": [], "volumes": volumes } });
        Arc::new(PodInfo::new(Arc::new(from_value(pod).unwrap())))
    }

    fn node(name: &str, pods: &[Arc<PodInfo>]) -> NodeInfo {
        let mut node = NodeInfo::new(Arc::new(from_value(json!({ "metadata": { "name": name } })).unwrap()));
        pods.iter().for_each(|pod| node.add(Arc::clone(pod)));
        node
    }

    #[test]
    fn an_exclusive_claim_in_use_keeps_others_off_every_node_until_its_user_goes() {
        let claim = |name: &str, mode: &str| json!({ "metadata": { "name": name, "namespace": "n" }, "spec": { "accessModes": [mode] } });
        let claims = vec![claim("own", "ReadWriteOncePod"), claim("shared", "ReadWriteOnce")];
        let plugin = VolumeRestrictions { volumes: Volumes::knowing(claims, Vec::new()) };
        let (user, other) = (pod("user", "own"), pod("other", "shared"));
        let (a, b) = (node("a", &[user, other]), node("b", &[]));
        let snapshot = Snapshot { nodes: vec![Arc::new(a.clone()), Arc::new(b.clone())], ..Snapshot::default() };
        let mut state = CycleState::default();
        assert!(plugin.pre_filter(&mut state, &pod("p", "shared"), &snapshot).unwrap().skip);
        let no = plugin.pre_filter(&mut state, &pod("p", "gone"), &snapshot).unwrap_err();
        assert_eq!(no, Rejection::unresolvable("persistentvolumeclaim \"gone\" not found"));
        let pod = pod("p", "own");
        assert!(!plugin.pre_filter(&mut state, &pod, &snapshot).unwrap().skip);
        let in_use = Err(Rejection::unschedulable(IN_USE));
        assert_eq!(plugin.filter(&state, &pod, &a), in_use);
        assert_eq!(plugin.filter(&state, &pod, &b), in_use);
        let mut without = a.clone();
        without.remove("user");
        assert_eq!(plugin.filter(&state, &pod, &without), Ok(()), "as if the user had been evicted");
    }
}
