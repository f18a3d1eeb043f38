//! The built-in kinds: what each of them does differently, beside its schema.
//!
//! [`strategy`] is the table: one row per kind. Versions of a kind share a row, which works on the storage version.
//! The functions named `*_hooks` are parts of that table, and long for that reason only.

pub(crate) mod admissionregistration;
pub(crate) mod apiextensions;
pub(crate) mod apiregistration;
pub(crate) mod apiserverinternal;
pub(crate) mod apps;
pub(crate) mod autoscaling;
pub(crate) mod batch;
pub(crate) mod certificates;
pub(crate) mod coordination;
pub(crate) mod core;
pub(crate) mod discovery;
pub(crate) mod flowcontrol;
pub(crate) mod kind;
pub(crate) mod networking;
pub(crate) mod node;
pub(crate) mod pods;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod resource;
pub(crate) mod rules;
pub(crate) mod scheduling;
pub(crate) mod storage;
pub(crate) mod storagemigration;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::field::FieldError;
use crate::object::Object;
use crate::strategy::{MetadataRechecks, Strategy};
use kind::Hooks;
use rules::tree::{Errors, Node};

pub use flowcontrol::mandatory::mandatory_spec;

/// The strategy of a built-in kind; a kind without special rules gets the plain one.
pub fn strategy(group: &str, kind: &str) -> Arc<dyn Strategy> {
    let row = hooks(group, kind);
    Arc::new(Hooks { rechecks: rechecks(group, kind), status_changes_metadata: status_changes_metadata(kind), ..row })
}

/// What is wrong with the addresses of a Service, and with the families that it says they are of. This has to be known
/// before addresses are handed out, and so before the other rules are looked at.
pub fn service_addresses(service: &Object) -> Vec<FieldError> {
    let mut errors = Errors::default();
    core::service::validate::addresses(&Node::root(service.root()), &mut errors);
    errors.0
}

/// How often upstream's update rules of a kind repeat the checks of metadata, the whole and the change.
fn rechecks(group: &str, kind: &str) -> MetadataRechecks {
    let (whole, change) = match (group, kind) {
        ("", "Event") | ("policy", "PodDisruptionBudget") => (0, 0),
        ("", "PersistentVolume") | ("storage.k8s.io", "CSINode") => (2, 0),
        ("", "LimitRange")
        | ("discovery.k8s.io", "EndpointSlice")
        | ("admissionregistration.k8s.io", _)
        | ("storage.k8s.io", "VolumeAttachment") => (1, 0),
        (
            "",
            "ConfigMap"
            | "Secret"
            | "Endpoints"
            | "Namespace"
            | "Node"
            | "PersistentVolumeClaim"
            | "Pod"
            | "ServiceAccount",
        )
        | ("apps", "ControllerRevision")
        | ("batch", "Job")
        | ("networking.k8s.io", "Ingress" | "IngressClass" | "IPAddress")
        | ("storage.k8s.io", "StorageClass" | "CSIStorageCapacity" | "VolumeAttributesClass")
        | ("resource.k8s.io", "DeviceClass" | "ResourceClaim" | "ResourceClaimTemplate")
        | ("certificates.k8s.io", "CertificateSigningRequest")
        | ("rbac.authorization.k8s.io", _)
        | ("node.k8s.io", "RuntimeClass")
        | ("apiregistration.k8s.io", "APIService") => (1, 1),
        _ => (0, 1),
    };
    MetadataRechecks { whole, change }
}

/// Kinds whose `/status` leaves the metadata alone.
fn status_changes_metadata(kind: &str) -> bool {
    !matches!(
        kind,
        "Deployment"
            | "CustomResourceDefinition"
            | "APIService"
            | "ValidatingAdmissionPolicy"
            | "FlowSchema"
            | "PriorityLevelConfiguration"
            | "CertificateSigningRequest"
            | "ResourceClaim"
            | "VolumeAttachment"
            | "ServiceCIDR"
            | "StorageVersion"
    )
}

fn hooks(group: &str, kind: &str) -> Hooks {
    match group {
        "" => core_hooks(kind),
        "apps" | "batch" | "autoscaling" | "policy" => workload_hooks(kind),
        "storage.k8s.io" => storage_hooks(kind),
        "networking.k8s.io" | "discovery.k8s.io" => networking_hooks(kind),
        "admissionregistration.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io" => extension_hooks(kind),
        _ => cluster_hooks(kind),
    }
}

fn core_hooks(kind: &str) -> Hooks {
    match kind {
        "Pod" => Hooks {
            default: core::pod::default,
            gated: pods::gates::POD,
            validate: core::pod::validate,
            validate_new: core::pod::validate_new,
            validate_subresource: core::pod::subresources::change,
            warn: core::pod::warn::pod,
            warn_prepared: core::pod::warn::app_armor,
            warn_status: core::pod::warn::status,
            validate_change: core::pod::update::change,
            validate_status: core::pod::status::validate,
            status: Some(core::pod::fill_status),
            prepare_create: core::pod::prepare_create,
            prepare_status: core::pod::prepare_status,
            grace_period: core::pod::grace_period,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Service" => Hooks {
            default: core::service::default,
            status: Some(core::service::fill_status),
            prepare_create: core::service::prepare_create,
            prepare_update: core::service::prepare_update,
            validate: core::service::validate::service,
            warn: core::service::warn::service,
            warn_status: rules::load_balancer::warn,
            validate_change: core::service::validate::change,
            validate_status: core::service::validate::status,
            name: rules::naming::label_name,
            create_on_update: true,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Namespace" => Hooks {
            default: core::namespace::default,
            validate: core::namespace::validate,
            validate_subresource: core::namespace::validate_subresource,
            validate_status: core::namespace::validate_status,
            prepare_create: core::namespace::prepare_create,
            prepare_update: core::namespace::prepare_update,
            begin_deletion: core::namespace::begin_deletion,
            holds_deletion: core::namespace::holds_deletion,
            name: rules::naming::label_name,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Node" => Hooks {
            default: core::node::default,
            status: Some(core::node::fill_status),
            validate: core::node::validate,
            warn: core::node::warn,
            validate_change: core::node::validate_change,
            validate_status: core::node::validate_change,
            keeps_status_on_create: true,
            ..Hooks::PLAIN
        },
        "ConfigMap" => Hooks {
            validate: core::config_map::validate,
            validate_change: core::config_map::validate_change,
            ..Hooks::PLAIN
        },
        "Secret" => Hooks {
            default: core::secret::default,
            validate: core::secret::validate,
            warn: core::secret::warn,
            validate_change: core::secret::validate_change,
            ..Hooks::PLAIN
        },
        "ServiceAccount" => Hooks { warn: core::service_account::warn, delete_returns_object: true, ..Hooks::PLAIN },
        "Endpoints" => Hooks {
            default: core::endpoints::default,
            validate: core::endpoints::validate,
            warn: core::endpoints::warn,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "Event" => Hooks {
            default: core::event::default,
            validate: core::event::validate,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "LimitRange" => Hooks {
            default: core::limit_range::default,
            validate: core::limit_range::validate,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "PodTemplate" => Hooks {
            default: core::pod_template::default,
            gated: pods::gates::POD_TEMPLATE,
            validate: core::pod_template::validate,
            warn: core::pod_template::warn,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "PersistentVolume" => Hooks {
            default: core::persistent_volume::default,
            validate: core::persistent_volume::validate,
            warn: core::persistent_volume::warn,
            validate_change: core::persistent_volume::validate_change,
            prepare_create: core::persistent_volume::prepare_create,
            prepare_status: core::persistent_volume::prepare_status,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "PersistentVolumeClaim" => Hooks {
            default: core::persistent_volume_claim::default,
            validate: core::persistent_volume_claim::validate,
            warn: core::persistent_volume_claim::warn,
            validate_change: core::persistent_volume_claim::validate_change,
            validate_status: core::persistent_volume_claim::validate_status,
            prepare_create: core::persistent_volume_claim::prepare_create,
            prepare_update: core::persistent_volume_claim::prepare_update,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "ReplicationController" => Hooks {
            default: core::replication_controller::default,
            gated: pods::gates::WORKLOAD,
            validate: core::replication_controller::validate,
            validate_status: pods::workload::validate_status,
            warn: pods::workload::warn,
            status: Some(pods::workload::fill_status),
            orphans: true,
            ..Hooks::PLAIN
        },
        "ResourceQuota" => Hooks {
            default: rules::fill::with_spec,
            status: Some(|_| {}),
            validate: core::resource_quota::validate,
            validate_change: core::resource_quota::validate_change,
            validate_status: core::resource_quota::validate_status,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn workload_hooks(kind: &str) -> Hooks {
    match kind {
        "Deployment" => Hooks {
            default: apps::deployment::default,
            status: Some(|_| {}),
            gated: pods::gates::WORKLOAD,
            validate: apps::deployment::validate,
            validate_status: apps::deployment::validate_status,
            is_new_generation: apps::deployment::is_new_generation,
            warn: pods::workload::warn,
            validate_change: pods::workload::selector_change,
            ..Hooks::PLAIN
        },
        "ReplicaSet" => Hooks {
            default: apps::replica_set::default,
            status: Some(pods::workload::fill_status),
            gated: pods::gates::WORKLOAD,
            validate: apps::replica_set::validate,
            validate_status: pods::workload::validate_status,
            warn: pods::workload::warn,
            validate_change: pods::workload::selector_change,
            ..Hooks::PLAIN
        },
        "StatefulSet" => Hooks {
            default: apps::stateful_set::default,
            name: rules::naming::label_name,
            status: Some(apps::stateful_set::fill_status),
            gated: pods::gates::STATEFUL_SET,
            validate: apps::stateful_set::validate,
            validate_status: apps::stateful_set::validate_status,
            warn: apps::stateful_set::warn,
            validate_change: apps::stateful_set::validate_change,
            ..Hooks::PLAIN
        },
        "DaemonSet" => Hooks {
            default: apps::daemon_set::default,
            status: Some(apps::daemon_set::fill_status),
            fields_as_annotations: &[apps::daemon_set::TEMPLATE_GENERATION],
            prepare_create: apps::daemon_set::prepare_create,
            prepare_update: apps::daemon_set::prepare_update,
            gated: pods::gates::WORKLOAD,
            validate: apps::daemon_set::validate,
            validate_status: apps::daemon_set::validate_status,
            warn: apps::daemon_set::warn,
            validate_change: pods::workload::selector_change,
            ..Hooks::PLAIN
        },
        "ControllerRevision" => Hooks {
            default: apps::controller_revision::default,
            validate: apps::controller_revision::validate,
            validate_change: apps::controller_revision::validate_change,
            ..Hooks::PLAIN
        },
        "Job" => Hooks {
            default: batch::job::default,
            status: Some(|_| {}),
            prepare_create: batch::job::prepare_create,
            gated: pods::gates::WORKLOAD,
            validate: batch::job::validate::job,
            validate_status: batch::job::status::job,
            orphans: true,
            silent_deletion_warning: Some(batch::job::ORPHANS),
            warn: batch::job::warn,
            validate_change: batch::job::validate::change,
            ..Hooks::PLAIN
        },
        "CronJob" => Hooks {
            default: batch::cron_job::default,
            status: Some(|_| {}),
            gated: pods::gates::CRON_JOB,
            validate: batch::cron_job::validate,
            validate_new: batch::cron_job::validate_new,
            warn: batch::cron_job::warn,
            ..Hooks::PLAIN
        },
        "HorizontalPodAutoscaler" => Hooks {
            default: autoscaling::horizontal_pod_autoscaler::default,
            status: Some(autoscaling::horizontal_pod_autoscaler::fill_status),
            validate: autoscaling::horizontal_pod_autoscaler::validate,
            validate_status: autoscaling::horizontal_pod_autoscaler::validate_status,
            ..Hooks::PLAIN
        },
        "PodDisruptionBudget" => Hooks {
            default: rules::fill::with_spec,
            status: Some(policy::pod_disruption_budget::fill_status),
            validate: policy::pod_disruption_budget::validate,
            validate_status: policy::pod_disruption_budget::validate_status,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn storage_hooks(kind: &str) -> Hooks {
    match kind {
        "StorageClass" => Hooks {
            default: storage::storage_class::default,
            validate: storage::storage_class::validate,
            validate_change: storage::storage_class::validate_change,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSIDriver" => Hooks {
            default: storage::csi_driver::default,
            prepare_update: storage::csi_driver::prepare_update,
            validate: storage::csi_driver::validate,
            validate_change: storage::csi_driver::validate_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSINode" => Hooks {
            validate: storage::csi_node::validate,
            validate_change: storage::csi_node::validate_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSIStorageCapacity" => Hooks {
            validate: storage::csi_storage_capacity::validate,
            validate_change: storage::csi_storage_capacity::validate_change,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "VolumeAttachment" => Hooks {
            default: storage::volume_attachment::default,
            status: Some(storage::volume_attachment::fill_status),
            validate: storage::volume_attachment::validate,
            validate_new: storage::volume_attachment::validate_new,
            validate_change: storage::volume_attachment::validate_change,
            validate_status: storage::volume_attachment::validate_status,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "VolumeAttributesClass" => Hooks {
            validate: storage::volume_attributes_class::validate,
            validate_change: storage::volume_attributes_class::validate_change,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn networking_hooks(kind: &str) -> Hooks {
    match kind {
        "Ingress" => Hooks {
            default: rules::fill::with_spec,
            status: Some(networking::ingress::fill_status),
            warn: networking::ingress::warn,
            warn_status: rules::load_balancer::warn,
            validate: networking::ingress::validate,
            validate_new: networking::ingress::validate_new,
            validate_status: networking::ingress::validate_status,
            ..Hooks::PLAIN
        },
        "IngressClass" => Hooks {
            default: networking::ingress_class::default,
            validate: networking::ingress_class::validate,
            validate_change: networking::ingress_class::validate_change,
            ..Hooks::PLAIN
        },
        "NetworkPolicy" => Hooks {
            default: networking::network_policy::default,
            validate: networking::network_policy::validate,
            warn: networking::network_policy::warn,
            ..Hooks::PLAIN
        },
        "EndpointSlice" => Hooks {
            default: discovery::endpoint_slice::default,
            prepare_create: discovery::endpoint_slice::prepare_create,
            prepare_update: discovery::endpoint_slice::prepare_update,
            warn: discovery::endpoint_slice::warn,
            validate: discovery::endpoint_slice::validate,
            validate_change: discovery::endpoint_slice::validate_change,
            is_new_generation: discovery::endpoint_slice::is_new_generation,
            ..Hooks::PLAIN
        },
        "ServiceCIDR" => Hooks {
            default: rules::fill::with_spec,
            status: Some(|_| {}),
            validate: networking::service_cidr::validate,
            validate_change: networking::service_cidr::validate_change,
            ..Hooks::PLAIN
        },
        "IPAddress" => Hooks {
            default: rules::fill::with_spec,
            validate: networking::ip_address::validate,
            validate_change: networking::ip_address::validate_change,
            name: rules::naming::ip_name,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn extension_hooks(kind: &str) -> Hooks {
    match kind {
        "CustomResourceDefinition" => Hooks {
            validation_may_take_long: true,
            default: apiextensions::definition::default,
            validate: apiextensions::definition::validate::definition,
            warn: apiextensions::definition::validate::warnings,
            validate_new: apiextensions::definition::validate::new_definition,
            prepare_create: apiextensions::definition::prepare_create,
            prepare_update: apiextensions::definition::prepare_update,
            validate_change: apiextensions::definition::validate::definition_change,
            validate_status: apiextensions::definition::validate::definition_status,
            begin_deletion: apiextensions::definition::begin_deletion,
            holds_deletion: |definition| !definition.is_being_deleted(),
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "APIService" => Hooks {
            default: apiregistration::api_service::default,
            validate: apiregistration::api_service::validate,
            prepare_create: apiregistration::api_service::prepare_create,
            validate_status: apiregistration::api_service::validate_status,
            name: rules::naming::path_segment_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => Hooks {
            validation_may_take_long: true,
            default: admissionregistration::webhooks::default,
            validate_new: admissionregistration::webhooks::webhooks,
            validate_change: admissionregistration::webhooks::changed_webhooks,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "ValidatingAdmissionPolicy" => Hooks {
            validation_may_take_long: true,
            status: Some(|_| {}),
            default: admissionregistration::policies::default,
            validate_new: admissionregistration::policies::validating_policy,
            validate_change: admissionregistration::policies::changed_validating_policy,
            validate_status: admissionregistration::policies::policy_status,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingAdmissionPolicy" => Hooks {
            validation_may_take_long: true,
            default: admissionregistration::policies::default,
            validate_new: admissionregistration::policies::mutating_policy,
            validate_change: admissionregistration::policies::changed_mutating_policy,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "ValidatingAdmissionPolicyBinding" => Hooks {
            default: admissionregistration::bindings::default,
            validate: admissionregistration::bindings::validating_policy_binding,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingAdmissionPolicyBinding" => Hooks {
            default: admissionregistration::bindings::default,
            validate: admissionregistration::bindings::mutating_policy_binding,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn cluster_hooks(kind: &str) -> Hooks {
    match kind {
        "Event" => Hooks {
            default: core::event::default,
            validate: core::event::reported,
            validate_new: core::event::new_reported,
            validate_change: core::event::reported_change,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "Role" => rbac_hooks(rbac::roles::default, rbac::roles::role),
        "ClusterRole" => rbac_hooks(rbac::roles::default, rbac::roles::cluster_role),
        "RoleBinding" => Hooks {
            validate_change: rbac::bindings::validate_change,
            ..rbac_hooks(rbac::bindings::default, rbac::bindings::role_binding)
        },
        "ClusterRoleBinding" => Hooks {
            validate_change: rbac::bindings::validate_change,
            ..rbac_hooks(rbac::bindings::default, rbac::bindings::cluster_role_binding)
        },
        "Lease" => Hooks {
            default: rules::fill::with_spec,
            prepare_create: coordination::lease::prepare_create,
            prepare_update: coordination::lease::prepare_update,
            validate: coordination::lease::validate,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "LeaseCandidate" => Hooks {
            default: rules::fill::with_spec,
            validate: coordination::lease_candidate::validate,
            validate_change: coordination::lease_candidate::validate_change,
            name: coordination::lease_candidate::validate_name,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "RuntimeClass" => Hooks {
            default: node::runtime_class::default,
            validate: node::runtime_class::validate,
            validate_change: node::runtime_class::validate_change,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "PriorityClass" => Hooks {
            default: scheduling::priority_class::default,
            validate: scheduling::priority_class::validate,
            validate_change: scheduling::priority_class::validate_change,
            update_skips_rules: true,
            is_new_generation: |_, _| false,
            ..Hooks::PLAIN
        },
        "FlowSchema" => Hooks {
            default: flowcontrol::flow_schema::default,
            status: Some(|_| {}),
            validate: flowcontrol::flow_schema::validate,
            validate_status: flowcontrol::flow_schema::validate_status,
            ..Hooks::PLAIN
        },
        "PriorityLevelConfiguration" => Hooks {
            default: flowcontrol::priority_level::default,
            status: Some(|_| {}),
            validate: flowcontrol::priority_level::validate,
            validate_status: flowcontrol::flow_schema::validate_status,
            ..Hooks::PLAIN
        },
        "CertificateSigningRequest" => Hooks {
            default: certificates::signing_request::default,
            status: Some(|_| {}),
            validate: certificates::signing_request::validate,
            prepare_create: certificates::signing_request::prepare_create,
            prepare_update: certificates::signing_request::prepare_update,
            prepare_status: certificates::signing_request::prepare_status,
            validate_subresource: certificates::signing_request::validate_subresource,
            tracks_spec: false,
            name: rules::naming::any_name,
            ..Hooks::PLAIN
        },
        "ClusterTrustBundle" => Hooks {
            default: rules::fill::with_spec,
            validate: certificates::cluster_trust_bundle::validate,
            validate_new: certificates::cluster_trust_bundle::validate_new,
            validate_change: certificates::cluster_trust_bundle::validate_change,
            name: rules::naming::any_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "StorageVersion" => Hooks {
            validate_status: apiserverinternal::storage_version::validate_status,
            name: apiserverinternal::storage_version::validate_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "StorageVersionMigration" => Hooks {
            validate: storagemigration::storage_version_migration::validate,
            validate_change: storagemigration::storage_version_migration::validate_change,
            validate_status: storagemigration::storage_version_migration::validate_status,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "ResourcePoolStatusRequest" => Hooks { delete_returns_object: true, ..Hooks::PLAIN },
        "DeviceClass" | "DeviceTaintRule" | "ResourceClaim" | "ResourceClaimTemplate" | "ResourceSlice" => {
            device_hooks(kind)
        }
        _ => Hooks::PLAIN,
    }
}

fn device_hooks(kind: &str) -> Hooks {
    let row = Hooks { default: rules::fill::with_spec, delete_returns_object: true, ..Hooks::PLAIN };
    match kind {
        "DeviceClass" => Hooks {
            validate_new: resource::device_class::validate_new,
            validate_change: resource::device_class::validate_change,
            ..row
        },
        "DeviceTaintRule" => Hooks {
            validate_new: resource::taint_rule::validate_new,
            validate_change: resource::taint_rule::validate_change,
            validate_status: resource::taint_rule::validate_status,
            ..row
        },
        "ResourceClaim" => Hooks {
            default: resource::claim::default,
            status: Some(|_| {}),
            validate_new: resource::claim::validate_new,
            validate_change: resource::claim::validate_change,
            prepare_status: resource::claim_status::prepare,
            validate_status: resource::claim_status::change,
            ..row
        },
        "ResourceClaimTemplate" => Hooks {
            default: resource::claim_template::default,
            validate_new: resource::claim_template::validate_new,
            validate_change: resource::claim_template::validate_change,
            ..row
        },
        "ResourceSlice" => Hooks {
            default: resource::slice::default,
            validate_new: resource::slice::validate_new,
            validate_change: resource::slice::validate_change,
            ..row
        },
        _ => row,
    }
}

fn rbac_hooks(default: kind::Default, validate: rules::tree::Validate) -> Hooks {
    Hooks { default, validate, name: rules::naming::path_segment_name, create_on_update: true, ..Hooks::PLAIN }
}
