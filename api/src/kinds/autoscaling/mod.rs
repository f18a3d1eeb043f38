//! Kinds of the group `autoscaling`: what changes numbers of replicas (upstream: `pkg/apis/autoscaling`,
//! `pkg/registry/autoscaling`).

pub(crate) mod horizontal_pod_autoscaler;
