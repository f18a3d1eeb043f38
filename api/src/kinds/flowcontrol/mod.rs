//! Kinds of the group `flowcontrol.apiserver.k8s.io`: priority and fairness of requests (upstream:
//! `pkg/apis/flowcontrol`, `pkg/registry/flowcontrol`).

mod flow_schema;
pub(crate) mod mandatory;
mod priority_level;

use super::kind::Group;

pub(crate) const GROUP: Group =
    Group { name: "flowcontrol.apiserver.k8s.io", versions: &[("v1", &[flow_schema::KIND, priority_level::KIND])] };
