//! Spreads pods evenly over zones, nodes or other domains (KEP-895), upstream's `PodTopologySpread`.

mod arguments;
mod constraint;
mod filter;
mod kept;
mod score;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use self::constraint::Constraint;
use crate::framework::{ClusterEvent, Plugin, PodInfo, Snapshot};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("PodTopologySpread", |slot| {
    slot.configured(arguments::read)?.prepared_filter().prepared_score().end()
})
.weighing(2);

/// The label of the domain that is one node.
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// `spec.topologySpreadConstraints`: `DoNotSchedule` filters, `ScheduleAnyway` scores.
pub(crate) struct PodTopologySpread {
    /// For pods without constraints of their own, about the pods of the same services and controllers.
    defaults: Vec<TopologySpreadConstraint>,
    /// Whether these are the ones that come with the scheduler: they do not ask for all labels on each node.
    is_system: bool,
}

impl Default for PodTopologySpread {
    fn default() -> Self {
        let constraint = |key: &str, max_skew| TopologySpreadConstraint {
            topology_key: key.to_owned(),
            max_skew,
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        };
        Self { defaults: vec![constraint(HOSTNAME, 3), constraint(ZONE, 5)], is_system: true }
    }
}

impl PodTopologySpread {
    /// With the cluster's own defaults.
    pub(crate) fn with_defaults(defaults: Vec<TopologySpreadConstraint>) -> Self {
        Self { defaults, is_system: false }
    }

    fn constraints(&self, pod: &PodInfo, snapshot: &Snapshot, action: &str) -> Vec<Constraint> {
        let of = |all: &[TopologySpreadConstraint]| -> Vec<Constraint> {
            let these = all.iter().filter(|constraint| constraint.when_unsatisfiable == action);
            these.map(|constraint| Constraint::new(constraint, pod)).collect()
        };
        match own(pod) {
            [] => constraint::about_its_group(of(&self.defaults), pod, snapshot),
            own => of(own),
        }
    }

    /// Whether nodes without one of the labels are left out.
    fn asks_for_all_labels(&self, pod: &PodInfo) -> bool {
        !own(pod).is_empty() || !self.is_system
    }
}

fn own(pod: &PodInfo) -> &[TopologySpreadConstraint] {
    pod.spec().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default()
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
    fn may_help(&self, _pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels || old.spec != new.spec
            }
            ClusterEvent::NamespaceChanged | ClusterEvent::Storage(_) => false,
            _ => true,
        }
    }
}
