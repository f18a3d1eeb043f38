//! Kinds of the group `flowcontrol.apiserver.k8s.io`: priority and fairness of requests (upstream:
//! `pkg/apis/flowcontrol`, `pkg/registry/flowcontrol`).

pub(crate) mod flow_schema;
pub(crate) mod mandatory;
pub(crate) mod priority_level;
