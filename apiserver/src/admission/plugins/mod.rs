//! The admission plugins.

pub(super) mod admin_access;
pub(super) mod certificate_approval;
pub(super) mod default_storage_class;
pub(super) mod limit_ranger;
pub(super) mod namespace_lifecycle;
pub(super) mod node_restriction;
pub(super) mod persistent_volume_claim_resize;
pub(super) mod pod_security;
pub(super) mod policy;
pub(super) mod priority;
pub(super) mod rbac_escalation;
pub(super) mod resource_quota;
pub(super) mod service_account;
pub(super) mod unprivileged;
pub(super) mod upstream;
pub(super) mod webhook;
