//! Kinds of the group `scheduling.k8s.io`: which pods go first (upstream: `pkg/apis/scheduling`,
//! `pkg/registry/scheduling`).

pub(crate) mod priority_class;
