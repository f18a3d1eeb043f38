//! Kinds of the group `discovery.k8s.io`: where Services lead (upstream: `pkg/apis/discovery`,
//! `pkg/registry/discovery`).

pub(crate) mod endpoint_slice;
