//! Kinds of the group `policy`: what limits disruptions (upstream: `pkg/apis/policy`, `pkg/registry/policy`).

pub(crate) mod pod_disruption_budget;
