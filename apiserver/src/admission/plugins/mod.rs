//! The admission plugins.

pub(super) mod admin_access;
pub(super) mod certificate_approval;
pub(super) mod certificate_subject_restriction;
pub(super) mod default_storage_class;
pub(super) mod default_toleration_seconds;
pub(super) mod limit_ranger;
pub(super) mod namespace_lifecycle;
pub(super) mod node_restriction;
pub(super) mod persistent_volume_claim_resize;
pub(super) mod pod_security;
mod pods;
pub(super) mod policy;
pub(super) mod priority;
pub(super) mod rbac_escalation;
pub(super) mod resource_quota;
pub(super) mod runtime_class;
pub(super) mod service_account;
pub(super) mod storage_object_in_use_protection;
pub(super) mod taint_nodes_by_condition;
pub(super) mod unprivileged;
pub(super) mod upstream;
pub(super) mod webhook;
