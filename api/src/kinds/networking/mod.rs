//! Kinds of the group `networking.k8s.io`: what leads traffic (upstream: `pkg/apis/networking`,
//! `pkg/registry/networking`).

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "networking.k8s.io",
    versions: &[
        ("v1", &[ingress_class::KIND, ingress::KIND, ip_address::KIND, network_policy::KIND, service_cidr::KIND]),
        ("v1beta1", &[ip_address::KIND.stored_in("v1"), service_cidr::KIND.stored_in("v1")]),
    ],
};
