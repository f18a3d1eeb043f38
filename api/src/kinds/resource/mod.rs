//! Kinds of the group `resource.k8s.io`: devices and claims on them (upstream: `pkg/apis/resource`,
//! `pkg/registry/resource`).

pub(crate) mod capacity;
pub(crate) mod claim;
pub(crate) mod claim_status;
pub(crate) mod claim_template;
pub(crate) mod device_class;
pub(crate) mod shared;
pub(crate) mod shown;
pub(crate) mod slice;
pub(crate) mod taint_rule;
