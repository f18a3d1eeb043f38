//! Kinds of the group `node.k8s.io`: how nodes run containers (upstream: `pkg/apis/node`, `pkg/registry/node`).

pub(crate) mod runtime_class;
