//! Kinds of the group `rbac.authorization.k8s.io`: who may do what (upstream: `pkg/apis/rbac`, `pkg/registry/rbac`).

pub(crate) mod bindings;
pub(crate) mod roles;
