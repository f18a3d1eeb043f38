//! Devices that no node can provide are refused, and say so, instead of leaving a pod that never starts.

use crate::framework::{ClusterEvent, CycleState, Plugin, PodInfo, PreFilter, PreFilterResult, Rejection, Snapshot};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("DynamicResources", |slot| {
    slot.ignore_arguments();
    slot.place(UnsupportedDevices).pre_filter().end()
});

/// Rejects pods with resource claims: nothing here allocates them.
pub(crate) struct UnsupportedDevices;

impl Plugin for UnsupportedDevices {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        matches!(event, ClusterEvent::PodUpdated { .. })
    }
}

impl PreFilter for UnsupportedDevices {
    fn pre_filter(
        &self,
        _state: &mut CycleState,
        pod: &PodInfo,
        _snapshot: &Snapshot,
    ) -> Result<PreFilterResult, Rejection> {
        match pod.spec().and_then(|spec| spec.resource_claims.as_deref()) {
            Some([claim, ..]) => Err(Rejection::unresolvable(format!(
                "resource claim {:?}: dynamic resource allocation is not supported by this scheduler",
                claim.name
            ))),
            _ => Ok(PreFilterResult { nodes: None, skip: true }),
        }
    }
}
