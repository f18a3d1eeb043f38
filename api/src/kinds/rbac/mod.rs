//! Kinds of the group `rbac.authorization.k8s.io`: who may do what (upstream: `pkg/apis/rbac`, `pkg/registry/rbac`).

mod bindings;
mod roles;

use super::kind::Group;

pub(crate) const GROUP: Group = Group {
    name: "rbac.authorization.k8s.io",
    versions: &[("v1", &[bindings::CLUSTER_ROLE_BINDING, roles::CLUSTER_ROLE, bindings::ROLE_BINDING, roles::ROLE])],
};
