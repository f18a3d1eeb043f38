//! Volumes that no node can provide yet are refused, and say so, instead of leaving a pod that never starts.

use crate::framework::{ClusterEvent, CycleState, Plugin, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot};

/// Rejects pods with claims of persistent volumes and of devices: nothing here binds them.
pub struct UnsupportedVolumes;

impl Plugin for UnsupportedVolumes {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        matches!(event, ClusterEvent::PodUpdated { .. })
    }
}

impl PreFilter for UnsupportedVolumes {
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        let Some(spec) = pod.spec() else { return Ok(PreFilterResult::default()) };
        for volume in spec.volumes.iter().flatten() {
            if let Some(claim) = &volume.persistent_volume_claim {
                return Err(Rejection::unresolvable(format!(
                    "persistentvolumeclaim {:?}: persistent volumes are not supported by this scheduler",
                    claim.claim_name
                )));
            }
            if volume.ephemeral.is_some() {
                return Err(Rejection::unresolvable(format!(
                    "volume {:?}: generic ephemeral volumes are not supported by this scheduler",
                    volume.name
                )));
            }
        }
        match spec.resource_claims.as_deref() {
            Some([claim, ..]) => Err(Rejection::unresolvable(format!(
                "resource claim {:?}: dynamic resource allocation is not supported by this scheduler",
                claim.name
            ))),
            _ => Ok(PreFilterResult { nodes: None, skip: true }),
        }
    }
}
