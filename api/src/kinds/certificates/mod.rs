//! Kinds of the group `certificates.k8s.io`: certificates and whom to trust (upstream: `pkg/apis/certificates`,
//! `pkg/registry/certificates`).

pub(crate) mod cluster_trust_bundle;
pub(crate) mod signing_request;
