//! Kinds of the group `authorization.k8s.io`: questions about what somebody may do (upstream:
//! `pkg/apis/authorization`, `pkg/registry/authorization`).

use super::kind::{Group, Kind};

pub(crate) const GROUP: Group = Group {
    name: "authorization.k8s.io",
    versions: &[(
        "v1",
        &[
            Kind::namespaced("localsubjectaccessreviews", "LocalSubjectAccessReview").review(),
            Kind::cluster("selfsubjectaccessreviews", "SelfSubjectAccessReview").review(),
            Kind::cluster("selfsubjectrulesreviews", "SelfSubjectRulesReview").review(),
            Kind::cluster("subjectaccessreviews", "SubjectAccessReview").review(),
        ],
    )],
};
