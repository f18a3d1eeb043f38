//! Kinds of the group `autoscaling`: what changes numbers of replicas (upstream: `pkg/apis/autoscaling`,
//! `pkg/registry/autoscaling`).

mod horizontal_pod_autoscaler;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "autoscaling",
    versions: &[("v2", &[horizontal_pod_autoscaler::KIND]), ("v1", &[horizontal_pod_autoscaler::KIND.stored_in("v2")])],
};
