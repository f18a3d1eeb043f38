//! Kinds of the group `admissionregistration.k8s.io`: who has a say in requests (upstream:
//! `pkg/apis/admissionregistration`, `pkg/registry/admissionregistration`).

mod bindings;
mod policies;
mod webhooks;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "admissionregistration.k8s.io",
    versions: &[
        (
            "v1",
            &[
                policies::MUTATING,
                bindings::MUTATING,
                webhooks::MUTATING,
                policies::VALIDATING,
                bindings::VALIDATING,
                webhooks::VALIDATING,
            ],
        ),
        ("v1beta1", &[policies::MUTATING.stored_in("v1"), bindings::MUTATING.stored_in("v1")]),
        ("v1alpha1", &[policies::MUTATING.stored_in("v1"), bindings::MUTATING.stored_in("v1")]),
    ],
};
