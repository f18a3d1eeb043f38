//! Kinds of the group `resource.k8s.io`: devices and claims on them (upstream: `pkg/apis/resource`, `pkg/registry/resource`).

pub(crate) mod capacity;
pub(crate) mod claim_status;
pub(crate) mod shared;
pub(crate) mod slice;
