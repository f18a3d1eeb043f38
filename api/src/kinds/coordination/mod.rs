//! Kinds of the group `coordination.k8s.io`: who leads (upstream: `pkg/apis/coordination`,
//! `pkg/registry/coordination`).

pub(crate) mod lease;
pub(crate) mod lease_candidate;
