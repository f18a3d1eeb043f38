//! Kinds of the group `policy`: what limits disruptions (upstream: `pkg/apis/policy`, `pkg/registry/policy`).

mod pod_disruption_budget;

use super::kind::Group;

pub(crate) const GROUP: Group = Group { name: "policy", versions: &[("v1", &[pod_disruption_budget::KIND])] };
