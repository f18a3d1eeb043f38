//! Kinds of the group `node.k8s.io`: how nodes run containers (upstream: `pkg/apis/node`, `pkg/registry/node`).

mod runtime_class;

use super::kind::Group;

pub(crate) const GROUP: Group = Group { name: "node.k8s.io", versions: &[("v1", &[runtime_class::KIND])] };
