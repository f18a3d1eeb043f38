//! The plugins that come with the scheduler, under upstream's names.

mod bankers_check;
mod binder;
mod devices;
pub(crate) mod fit;
mod gang_scheduling;
mod image_locality;
pub(crate) mod inter_pod_affinity;
mod node_affinity;
pub(crate) mod node_name;
mod node_ports;
pub(crate) mod node_unschedulable;
mod node_volume_limits;
pub(crate) mod preemption;
pub(crate) mod priority_sort;
pub(crate) mod scheduling_gates;
mod taint_toleration;
mod topology_spread;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

pub(crate) use self::preemption::{BY_SCHEDULER, DISRUPTION_TARGET};
use crate::framework::MAX_SCORE;
use crate::profile::PluginSpec;

/// All that there are. Filters and scores run in this order, filters from cheap to dear.
pub(crate) const ALL: &[PluginSpec] = &[
    scheduling_gates::PLUGIN,
    priority_sort::PLUGIN,
    node_unschedulable::PLUGIN,
    node_name::PLUGIN,
    taint_toleration::PLUGIN,
    node_affinity::PLUGIN,
    node_ports::PLUGIN,
    fit::PLUGIN,
    devices::PLUGIN,
    topology_spread::PLUGIN,
    inter_pod_affinity::PLUGIN,
    preemption::PLUGIN,
    fit::balanced::PLUGIN,
    image_locality::PLUGIN,
    volume_restrictions::PLUGIN,
    node_volume_limits::PLUGIN,
    volume_binding::PLUGIN,
    volume_zone::PLUGIN,
    // Before those who let others go: what it refuses must not have completed a gang.
    bankers_check::PLUGIN,
    gang_scheduling::PLUGIN,
    binder::PLUGIN,
];

/// Plugins of upstream that are not there: turning them off says nothing new, and turning them on does nothing.
pub(crate) const MISSING: &[&str] = &["NodeDeclaredFeatures"];

/// Scales scores so that the highest becomes [`MAX_SCORE`]; `reverse` turns more into less.
fn scale(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * MAX_SCORE / most };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
