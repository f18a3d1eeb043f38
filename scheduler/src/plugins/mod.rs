//! The plugins that come with the scheduler, under upstream's names.

mod binder;
mod devices;
mod fit;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod preemption;
mod priority_sort;
mod scheduling_gates;
mod selectors;
mod taint_toleration;
mod topology_spread;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

pub use binder::DefaultBinder;
pub use devices::UnsupportedDevices;
pub(crate) use fit::arguments as fit_arguments;
pub use fit::{BalancedAllocation, Fit, FitStrategy, Point, Resource};
pub use image_locality::ImageLocality;
pub use inter_pod_affinity::InterPodAffinity;
pub use node_affinity::NodeAffinity;
pub use node_name::NodeName;
pub use node_ports::NodePorts;
pub use node_unschedulable::NodeUnschedulable;
pub use preemption::DefaultPreemption;
pub(crate) use preemption::{BY_SCHEDULER, DISRUPTION_TARGET};
pub use priority_sort::PrioritySort;
pub use scheduling_gates::SchedulingGates;
pub use taint_toleration::TaintToleration;
pub use topology_spread::PodTopologySpread;
pub use volume_binding::VolumeBinding;
pub(crate) use volume_binding::bind_timeout;
pub use volume_restrictions::VolumeRestrictions;
pub use volume_zone::VolumeZone;

use crate::framework::MAX_SCORE;

/// Scales scores so that the highest becomes [`MAX_SCORE`]; `reverse` turns more into less.
fn scale(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * MAX_SCORE / most };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
