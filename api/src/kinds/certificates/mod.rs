//! Kinds of the group `certificates.k8s.io`: certificates and whom to trust (upstream: `pkg/apis/certificates`,
//! `pkg/registry/certificates`).

mod cluster_trust_bundle;
mod pod_certificate_request;
mod signing_request;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "certificates.k8s.io",
    versions: &[
        ("v1", &[signing_request::KIND]),
        ("v1beta1", &[cluster_trust_bundle::KIND, pod_certificate_request::KIND]),
        ("v1alpha1", &[cluster_trust_bundle::KIND.stored_in("v1beta1")]),
    ],
};
