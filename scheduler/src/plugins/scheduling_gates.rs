//! Pods with scheduling gates are not tried (KEP-3521).

use crate::framework::{ClusterEvent, Plugin, PodInfo, PreEnqueue, Rejection};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("SchedulingGates", |slot| slot.plain(SchedulingGates).pre_enqueue().end());

/// `spec.schedulingGates`.
pub(crate) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        matches!(event, ClusterEvent::PodUpdated { .. })
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        let gates: Vec<&str> = pod
            .spec()
            .and_then(|spec| spec.scheduling_gates.as_ref())
            .into_iter()
            .flatten()
            .map(|gate| gate.name.as_str())
            .collect();
        if gates.is_empty() {
            return Ok(());
        }
        Err(Rejection::unresolvable(format!("waiting for scheduling gates: [{}]", gates.join(" "))))
    }
}
