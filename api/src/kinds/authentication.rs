//! Kinds of the group `authentication.k8s.io`: questions about who somebody is (upstream:
//! `pkg/apis/authentication`, `pkg/registry/authentication`).

use super::kind::{Group, Kind};

pub(crate) const GROUP: Group = Group {
    name: "authentication.k8s.io",
    versions: &[(
        "v1",
        &[
            Kind::cluster("selfsubjectreviews", "SelfSubjectReview").review(),
            Kind::cluster("tokenreviews", "TokenReview").review(),
        ],
    )],
};
