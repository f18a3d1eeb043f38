//! Kinds of the group `admissionregistration.k8s.io`: who has a say in requests (upstream:
//! `pkg/apis/admissionregistration`, `pkg/registry/admissionregistration`).

pub(crate) mod bindings;
pub(crate) mod policies;
pub(crate) mod webhooks;
