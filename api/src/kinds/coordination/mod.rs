//! Kinds of the group `coordination.k8s.io`: who leads (upstream: `pkg/apis/coordination`,
//! `pkg/registry/coordination`).

mod lease;
mod lease_candidate;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "coordination.k8s.io",
    versions: &[
        ("v1", &[lease::KIND]),
        ("v1beta1", &[lease_candidate::KIND]),
        ("v1alpha2", &[lease_candidate::KIND.stored_in("v1beta1")]),
    ],
};
