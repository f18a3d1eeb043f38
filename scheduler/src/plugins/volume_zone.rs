//! Pods go where the labels of their volumes say that these are (upstream's `VolumeZone`).

use std::sync::Arc;

use super::volume_binding::uses;
use crate::framework::{
    ClusterEvent, CycleState, Filter, NodeInfo, Plugin, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot,
    StorageEvent,
};
use crate::profile::PluginSpec;
use crate::volumes::{Topology, Volumes};

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("VolumeZone", |slot| {
    let volumes = Arc::clone(&slot.handles.volumes);
    slot.plain(VolumeZone { volumes }).prepared_filter().end()
});

const NO_ZONE: &str = "node(s) had no available volume zone";

/// Compares zones and regions of volumes and nodes.
pub(crate) struct VolumeZone {
    pub(crate) volumes: Arc<Volumes>,
}

/// Where the pod's volumes are.
struct Asked(Vec<Topology>);

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn may_help(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::Storage(StorageEvent::Claim(claim)) => uses(pod, claim),
            ClusterEvent::Storage(StorageEvent::Volume { old, new }) => {
                old.as_ref().is_none_or(|old| old.metadata.labels != new.metadata.labels)
            }
            ClusterEvent::Storage(StorageEvent::Class { old, .. }) => old.is_none(),
            _ => false,
        }
    }
}

impl PreFilter for VolumeZone {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let asked = self.volumes.topologies(&pod.pod).map_err(Rejection::unresolvable)?;
        let skip = asked.is_empty();
        state.put(Asked(asked));
        Ok(PreFilterResult { nodes: None, skip })
    }
}

impl Filter for VolumeZone {
    fn filter(&self, state: &CycleState, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(Asked(asked)) = state.get::<Asked>() else { return Ok(()) };
        let labels = node.labels();
        if Topology::is_known(labels) && !asked.iter().all(|topology| topology.holds(labels)) {
            return Err(Rejection::unresolvable(NO_ZONE));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_pod_stays_in_the_zone_of_its_volume() {
        let claim = json!({ "metadata": { "name": "c", "namespace": "n" }, "spec": { "volumeName": "v" } });
        let zone = json!({ "topology.kubernetes.io/zone": "z" });
        let volume = json!({ "metadata": { "name": "v", "labels": zone } });
        let plugin = VolumeZone { volumes: Volumes::knowing(vec![claim], vec![volume]) };
        let volumes = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]);
        let pod = json!({ "metadata": { "namespace": "n" }, "spec": { "containers": [], "volumes": volumes } });
        let pod = PodInfo::new(Arc::new(from_value(pod).unwrap()));
        let mut state = CycleState::default();
        assert!(!plugin.pre_filter(&mut state, &pod, &Snapshot::default()).unwrap().skip);
        let check = |labels: Value| {
            let node = json!({ "metadata": { "name": "a", "labels": labels } });
            plugin.filter(&state, &pod, &NodeInfo::new(Arc::new(from_value(node).unwrap()))).is_ok()
        };
        assert!(check(json!({})) && check(zone));
        assert!(!check(json!({ "topology.kubernetes.io/zone": "y" })));
        assert!(!check(json!({ "topology.kubernetes.io/region": "r" })));
    }
}
