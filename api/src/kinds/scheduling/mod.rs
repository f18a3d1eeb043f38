//! Kinds of the group `scheduling.k8s.io`: which pods go first (upstream: `pkg/apis/scheduling`,
//! `pkg/registry/scheduling`).

mod pod_group;
mod policy;
mod priority_class;
mod workload;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "scheduling.k8s.io",
    versions: &[("v1", &[priority_class::KIND]), ("v1alpha2", &[pod_group::KIND, workload::KIND])],
};
