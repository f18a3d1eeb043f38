//! No node gets more volumes of a storage driver than the driver has room for there (upstream's `NodeVolumeLimits`).
//!
//! What counts is what the pods of the node use, and what is attached to it for pods that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::volumes::claims_of;

use super::volume_binding::uses;
use crate::framework::{
    ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot,
    StorageEvent,
};
use crate::profile::PluginSpec;
use crate::volumes::{DriverVolume, Volumes};

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("NodeVolumeLimits", |slot| {
    let volumes = Arc::clone(&slot.handles.volumes);
    slot.plain(NodeVolumeLimits { volumes }).prepared_filter().end()
});

const FULL: &str = "node(s) exceed max volume count";

/// Counts volumes of drivers.
pub(crate) struct NodeVolumeLimits {
    pub(crate) volumes: Arc<Volumes>,
}

/// The volumes of drivers that the pod needs.
struct Needed(BTreeSet<DriverVolume>);

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn may_help(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::Storage(StorageEvent::Drivers) => true,
            ClusterEvent::AssignedPodDeleted(other) => !claims_of(other).is_empty(),
            ClusterEvent::Storage(StorageEvent::Claim(claim)) => uses(pod, claim),
            ClusterEvent::Storage(StorageEvent::Volume { old, .. }) => old.is_none(),
            _ => false,
        }
    }
}

impl PreFilter for NodeVolumeLimits {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> Result<PreFilterResult, Rejection> {
        let needed = self.volumes.of_drivers([&*pod.pod]);
        let skip = needed.is_empty();
        state.put(Needed(needed));
        Ok(PreFilterResult { nodes: None, skip })
    }
}

impl Filter for NodeVolumeLimits {
    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(Needed(needed)) = state.get::<Needed>() else { return Ok(()) };
        if let Some(driver) = self.volumes.missing_driver(&node.name, needed) {
            return Err(Rejection::unresolvable(format!("CSI driver {driver} is not installed on the node")));
        }
        let limits = self.volumes.limits(&node.name, needed);
        if limits.is_empty() {
            return Ok(());
        }
        let mut there = self.volumes.of_drivers(node.pods.iter().map(|other| &*other.pod));
        there.extend(self.volumes.attached(&node.name));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        there.union(needed).for_each(|volume| *counts.entry(&volume.driver).or_default() += 1);
        // A node that has too many already may still get a pod that needs none that is new.
        let adds = |driver: &str| needed.iter().any(|volume| volume.driver == driver && !there.contains(volume));
        let is_over = |(driver, room): (&String, &usize)| counts.get(driver.as_str()) > Some(room) && adds(driver);
        if limits.iter().any(is_over) { Err(Rejection::unschedulable(FULL)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn claim(name: &str) -> Value {
        json!({ "metadata": { "name": name, "namespace": "n" }, "spec": { "volumeName": name } })
    }

    fn volume(name: &str) -> Value {
        json!({ "metadata": { "name": name }, "spec": { "csi": { "driver": "d", "volumeHandle": name } } })
    }

    fn pod(name: &str, claims: &[&str]) -> Arc<PodInfo> {
        let volumes: Vec<_> = claims
            .iter()
            .map(|claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }))
            .collect();
        let metadata = json!({ "name": name, "namespace": "n", "uid": name });
        let pod = json!({ "metadata": metadata, "spec": { "containers": [], "volumes": volumes } });
        Arc::new(PodInfo::new(Arc::new(from_value(pod).unwrap())))
    }

    fn plugin() -> NodeVolumeLimits {
        let names = ["a", "b", "c", "left"];
        let open = json!({ "metadata": { "name": "open", "namespace": "n" }, "spec": { "storageClassName": "disks" } });
        let claims = names.map(claim).into_iter().chain([open]).collect();
        let volumes = Volumes::knowing(claims, names.map(volume).into());
        volumes.know_class(json!({ "metadata": { "name": "disks" }, "provisioner": "d" }));
        NodeVolumeLimits { volumes }
    }

    fn check(plugin: &NodeVolumeLimits, pod: &PodInfo, there: &[Arc<PodInfo>]) -> Result<(), Rejection> {
        let mut node = NodeInfo::new(Arc::new(from_value(json!({ "metadata": { "name": "node" } })).unwrap()));
        there.iter().for_each(|pod| node.add(Arc::clone(pod)));
        let mut state = CycleState::default();
        plugin.pre_filter(&mut state, pod, &Snapshot::default()).unwrap();
        plugin.filter(&state, pod, &node)
    }

    fn room(count: usize) -> Value {
        let driver = json!({ "name": "d", "nodeID": "x", "allocatable": { "count": count } });
        json!({ "metadata": { "name": "node" }, "spec": { "drivers": [driver] } })
    }

    #[test]
    fn a_node_has_so_many_volumes_of_a_driver_and_no_more() {
        let plugin = plugin();
        let full = Err(Rejection::unschedulable(FULL));
        let there = [pod("p", &["a"])];
        assert_eq!(check(&plugin, &pod("q", &["b"]), &there), Ok(()), "nobody says how many");
        plugin.volumes.know_csi_node(room(2));
        assert_eq!(check(&plugin, &pod("q", &["b"]), &there), Ok(()));
        assert_eq!(check(&plugin, &pod("q", &["b", "c"]), &there), full);
        assert_eq!(check(&plugin, &pod("q", &["b", "open"]), &there), full, "one that is still to be made counts");
        assert_eq!(check(&plugin, &pod("q", &["a", "b"]), &there), Ok(()), "one that is there already does not");
        let attachment = json!({
            "metadata": { "name": "x" }, "spec": { "attacher": "d", "nodeName": "node", "source": { "persistentVolumeName": "left" } },
        });
        plugin.volumes.know_attachment(attachment);
        assert_eq!(check(&plugin, &pod("q", &["b"]), &there), full, "what is attached for nobody takes room");
        assert_eq!(check(&plugin, &pod("q", &["a"]), &there), Ok(()));
        plugin.volumes.know_csi_node(room(1));
        assert_eq!(check(&plugin, &pod("q", &["a"]), &there), Ok(()), "which is too many already, but none is new");
    }

    #[test]
    fn a_driver_may_keep_pods_off_nodes_where_it_is_not() {
        let plugin = plugin();
        let driver = |prevent: bool| json!({ "metadata": { "name": "d" }, "spec": { "preventPodSchedulingIfMissing": prevent } });
        plugin.volumes.know_driver(driver(false));
        assert_eq!(check(&plugin, &pod("q", &["a"]), &[]), Ok(()));
        plugin.volumes.know_driver(driver(true));
        let missing = Err(Rejection::unresolvable("CSI driver d is not installed on the node"));
        assert_eq!(check(&plugin, &pod("q", &["a"]), &[]), missing);
        assert_eq!(check(&plugin, &pod("q", &[]), &[]), Ok(()));
        plugin.volumes.know_csi_node(room(1));
        assert_eq!(check(&plugin, &pod("q", &["a"]), &[]), Ok(()));
    }
}
