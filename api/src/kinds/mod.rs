//! The built-in kinds: what each of them does differently, beside its schema.
//!
//! [`strategy`] is the table: one row per kind. Versions of a kind share a row, which works on the storage version.
//! The functions named `*_hooks` are parts of that table, and long for that reason only.

pub(crate) mod admissionregistration;
pub(crate) mod apiextensions;
pub(crate) mod apiregistration;
pub(crate) mod apiserverinternal;
pub(crate) mod autoscaling;
pub(crate) mod batch;
pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod coordination;
pub(crate) mod core;
pub(crate) mod extensions;
pub(crate) mod flowcontrol;
pub(crate) mod kind;
pub(crate) mod networking;
pub(crate) mod pods;
pub(crate) mod rbac;
pub(crate) mod resource;
pub(crate) mod rules;
pub(crate) mod scheduling;
pub(crate) mod storage;
#[cfg(test)]
mod tests;
pub(crate) mod volume_claims;
pub(crate) mod warnings;
pub(crate) mod workload_status;
pub(crate) mod workloads;

use std::sync::Arc;

use crate::field::FieldError;
use crate::object::Object;
use crate::strategy::{MetadataRechecks, Strategy};
use kind::Hooks;
use rules::tree::{Errors, Node};

pub use flowcontrol::flow_schema::mandatory_spec;

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
            default: pods::defaults::pod,
            gated: rules::gates::POD,
            validate: pods::spec::pod,
            validate_new: pods::spec::new_pod,
            validate_subresource: core::pod::subresources::change,
            warn: warnings::pod,
            warn_prepared: warnings::app_armor,
            warn_status: warnings::pod_status,
            validate_change: core::pod::update::pod_change,
            validate_status: core::pod::status::pod,
            status: Some(core::pod::default_status),
            prepare_create: core::pod::prepare_create,
            prepare_status: core::pod::prepare_status,
            grace_period: core::pod::grace_period,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Service" => Hooks {
            default: core::service::service,
            status: Some(core::service::status),
            prepare_create: core::service::prepare_create,
            prepare_update: core::service::prepare_update,
            validate: core::service::validate::service,
            warn: warnings::service,
            warn_status: warnings::balancer_status,
            validate_change: core::service::validate::service_change,
            validate_status: core::service::validate::service_status,
            name: rules::naming::label_name,
            create_on_update: true,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Namespace" => Hooks {
            default: core::namespace,
            validate: core::secret::namespace,
            validate_subresource: core::secret::namespace_finalizers,
            validate_status: core::secret::namespace_status,
            prepare_create: core::prepare_namespace,
            prepare_update: core::prepare_namespace_update,
            begin_deletion: core::begin_namespace_deletion,
            holds_deletion: core::namespace_holds_deletion,
            name: rules::naming::label_name,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Node" => Hooks {
            default: core::node,
            status: Some(core::node_status),
            validate: core::node::node,
            warn: core::node::warn,
            validate_change: core::node::change,
            validate_status: core::node::change,
            keeps_status_on_create: true,
            ..Hooks::PLAIN
        },
        "ConfigMap" => Hooks {
            validate: core::secret::config_map,
            validate_change: core::secret::config_map_change,
            ..Hooks::PLAIN
        },
        "Secret" => Hooks {
            default: core::secret,
            validate: core::secret::secret,
            warn: warnings::secret,
            validate_change: core::secret::secret_change,
            ..Hooks::PLAIN
        },
        "ServiceAccount" => Hooks { warn: warnings::service_account, delete_returns_object: true, ..Hooks::PLAIN },
        "Endpoints" => Hooks {
            default: core::endpoints,
            validate: core::secret::endpoints,
            warn: warnings::endpoints,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "Event" => Hooks { default: core::event, validate: core::event::event, create_on_update: true, ..Hooks::PLAIN },
        "LimitRange" => Hooks {
            default: core::limit_range,
            validate: core::limit_range::limit_range,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "PodTemplate" => Hooks {
            default: core::pod_template,
            gated: rules::gates::POD_TEMPLATE,
            validate: pods::workload::pod_template,
            warn: warnings::pod_template,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "PersistentVolume" => Hooks {
            default: volume_claims::volume,
            validate: core::persistent_volume_claim::volume,
            warn: pods::volumes::warn::volume,
            validate_change: core::persistent_volume_claim::volume_change,
            prepare_create: volume_claims::prepare_volume,
            prepare_status: volume_claims::prepare_volume_status,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "PersistentVolumeClaim" => Hooks {
            default: volume_claims::claim,
            validate: core::persistent_volume_claim::claim,
            warn: pods::volumes::warn::claim,
            validate_change: core::persistent_volume_claim::claim_change,
            validate_status: core::persistent_volume_claim::claim_status,
            prepare_create: volume_claims::prepare_claim,
            prepare_update: volume_claims::prepare_claim_update,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "ReplicationController" => Hooks {
            default: workloads::replication_controller,
            gated: rules::gates::WORKLOAD,
            validate: pods::workload::replication_controller,
            validate_status: workload_status::replica_set,
            warn: warnings::workload,
            status: Some(workloads::replica_status),
            orphans: true,
            ..Hooks::PLAIN
        },
        "ResourceQuota" => Hooks {
            default: cluster::with_spec,
            status: Some(|_| {}),
            validate: core::limit_range::resource_quota,
            validate_change: core::limit_range::resource_quota_change,
            validate_status: core::limit_range::resource_quota_status,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn workload_hooks(kind: &str) -> Hooks {
    match kind {
        "Deployment" => Hooks {
            default: workloads::deployment,
            status: Some(|_| {}),
            gated: rules::gates::WORKLOAD,
            validate: pods::workload::deployment,
            validate_status: workload_status::deployment,
            is_new_generation: workloads::deployment_is_new_generation,
            warn: warnings::workload,
            validate_change: pods::workload::selector_change,
            ..Hooks::PLAIN
        },
        "ReplicaSet" => Hooks {
            default: workloads::replica_set,
            status: Some(workloads::replica_status),
            gated: rules::gates::WORKLOAD,
            validate: pods::workload::replica_set,
            validate_status: workload_status::replica_set,
            warn: warnings::workload,
            validate_change: pods::workload::selector_change,
            ..Hooks::PLAIN
        },
        "StatefulSet" => Hooks {
            default: workloads::stateful_set,
            name: rules::naming::label_name,
            status: Some(workloads::stateful_set_status),
            gated: rules::gates::STATEFUL_SET,
            validate: pods::workload::stateful_set,
            validate_status: workload_status::stateful_set,
            warn: warnings::stateful_set,
            validate_change: pods::workload::stateful_set_change,
            ..Hooks::PLAIN
        },
        "DaemonSet" => Hooks {
            default: workloads::daemon_set,
            status: Some(workloads::daemon_set_status),
            fields_as_annotations: &[workloads::TEMPLATE_GENERATION],
            prepare_create: workloads::prepare_daemon_set,
            prepare_update: workloads::prepare_daemon_set_update,
            gated: rules::gates::WORKLOAD,
            validate: pods::workload::daemon_set,
            validate_status: workload_status::daemon_set,
            warn: warnings::daemon_set,
            validate_change: pods::workload::selector_change,
            ..Hooks::PLAIN
        },
        "ControllerRevision" => Hooks {
            default: workloads::controller_revision,
            validate: pods::workload::controller_revision,
            validate_change: pods::workload::controller_revision_change,
            ..Hooks::PLAIN
        },
        "Job" => Hooks {
            default: batch::job::job,
            status: Some(|_| {}),
            prepare_create: batch::job::prepare_job,
            gated: rules::gates::WORKLOAD,
            validate: batch::job::validate::job,
            validate_status: batch::job::status::job,
            orphans: true,
            silent_deletion_warning: Some(batch::job::ORPHANS),
            warn: warnings::job,
            validate_change: batch::job::validate::job_change,
            ..Hooks::PLAIN
        },
        "CronJob" => Hooks {
            default: batch::job::cron_job,
            status: Some(|_| {}),
            gated: rules::gates::CRON_JOB,
            validate: batch::job::validate::cron_job,
            validate_new: batch::job::validate::new_cron_job,
            warn: warnings::cron_job,
            ..Hooks::PLAIN
        },
        "HorizontalPodAutoscaler" => Hooks {
            default: networking::autoscaler,
            status: Some(networking::autoscaler_status),
            validate: autoscaling::horizontal_pod_autoscaler::autoscaler,
            validate_status: workload_status::autoscaler,
            ..Hooks::PLAIN
        },
        "PodDisruptionBudget" => Hooks {
            default: cluster::with_spec,
            status: Some(networking::disruption_budget_status),
            validate: autoscaling::horizontal_pod_autoscaler::disruption_budget,
            validate_status: workload_status::disruption_budget,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn storage_hooks(kind: &str) -> Hooks {
    match kind {
        "StorageClass" => Hooks {
            default: cluster::storage_class,
            validate: storage::volume_attachment::class,
            validate_change: storage::volume_attachment::class_change,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSIDriver" => Hooks {
            default: cluster::csi_driver,
            prepare_update: cluster::prepare_csi_driver_update,
            validate: storage::volume_attachment::driver,
            validate_change: storage::volume_attachment::driver_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSINode" => Hooks {
            validate: storage::volume_attachment::csi_node,
            validate_change: storage::volume_attachment::csi_node_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSIStorageCapacity" => Hooks {
            validate: storage::volume_attachment::storage_capacity,
            validate_change: storage::volume_attachment::storage_capacity_change,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "VolumeAttachment" => Hooks {
            default: cluster::volume_attachment,
            status: Some(cluster::volume_attachment_status),
            validate: storage::volume_attachment::attachment,
            validate_new: storage::volume_attachment::new_attachment,
            validate_change: storage::volume_attachment::attachment_change,
            validate_status: storage::volume_attachment::attachment_status_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "VolumeAttributesClass" => Hooks {
            validate: storage::volume_attachment::attributes_class,
            validate_change: storage::volume_attachment::attributes_class_change,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn networking_hooks(kind: &str) -> Hooks {
    match kind {
        "Ingress" => Hooks {
            default: cluster::with_spec,
            status: Some(core::service::ingress_status),
            warn: warnings::ingress,
            warn_status: warnings::balancer_status,
            validate: networking::ingress::ingress,
            validate_new: networking::ingress::new_ingress,
            validate_status: networking::ingress::ingress_status,
            ..Hooks::PLAIN
        },
        "IngressClass" => Hooks {
            default: networking::ingress_class,
            validate: networking::ingress::ingress_class,
            validate_change: networking::ingress::ingress_class_change,
            ..Hooks::PLAIN
        },
        "NetworkPolicy" => Hooks {
            default: networking::network_policy,
            validate: networking::ingress::network_policy,
            warn: warnings::network_policy,
            ..Hooks::PLAIN
        },
        "EndpointSlice" => Hooks {
            default: networking::endpoint_slice,
            prepare_create: networking::prepare_endpoint_slice,
            prepare_update: networking::prepare_endpoint_slice_update,
            warn: warnings::endpoint_slice,
            validate: networking::ingress::endpoint_slice,
            validate_change: networking::ingress::endpoint_slice_change,
            is_new_generation: networking::slice_is_new_generation,
            ..Hooks::PLAIN
        },
        "ServiceCIDR" => Hooks {
            default: cluster::with_spec,
            status: Some(|_| {}),
            validate: networking::ingress::service_cidr,
            validate_change: networking::ingress::service_cidr_change,
            ..Hooks::PLAIN
        },
        "IPAddress" => Hooks {
            default: cluster::with_spec,
            validate: networking::ingress::ip_address,
            validate_change: networking::ingress::ip_address_change,
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
            default: extensions::definition,
            validate: apiextensions::definition::validate::definition,
            warn: apiextensions::definition::validate::warnings,
            validate_new: apiextensions::definition::validate::new_definition,
            prepare_create: extensions::prepare_definition,
            prepare_update: extensions::prepare_definition_update,
            validate_change: apiextensions::definition::validate::definition_change,
            validate_status: apiextensions::definition::validate::definition_status,
            begin_deletion: extensions::begin_definition_deletion,
            holds_deletion: |definition| !definition.is_being_deleted(),
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "APIService" => Hooks {
            default: extensions::api_service,
            validate: apiregistration::api_service::api_service,
            prepare_create: extensions::prepare_api_service,
            validate_status: apiregistration::api_service::api_service_status,
            name: rules::naming::path_segment_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => Hooks {
            validation_may_take_long: true,
            default: extensions::webhooks,
            validate_new: admissionregistration::webhooks::webhooks,
            validate_change: admissionregistration::webhooks::changed_webhooks,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "ValidatingAdmissionPolicy" => Hooks {
            validation_may_take_long: true,
            status: Some(|_| {}),
            default: extensions::admission_policy,
            validate_new: admissionregistration::policies::validating_policy,
            validate_change: admissionregistration::policies::changed_validating_policy,
            validate_status: admissionregistration::policies::policy_status,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingAdmissionPolicy" => Hooks {
            validation_may_take_long: true,
            default: extensions::admission_policy,
            validate_new: admissionregistration::policies::mutating_policy,
            validate_change: admissionregistration::policies::changed_mutating_policy,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "ValidatingAdmissionPolicyBinding" => Hooks {
            default: extensions::admission_policy_binding,
            validate: admissionregistration::policies::validating_policy_binding,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingAdmissionPolicyBinding" => Hooks {
            default: extensions::admission_policy_binding,
            validate: admissionregistration::policies::mutating_policy_binding,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        _ => Hooks::PLAIN,
    }
}

fn cluster_hooks(kind: &str) -> Hooks {
    match kind {
        "Event" => Hooks {
            default: core::event,
            validate: core::event::reported,
            validate_new: core::event::new_reported,
            validate_change: core::event::reported_change,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "Role" => rbac_hooks(networking::role, rbac::bindings::role),
        "ClusterRole" => rbac_hooks(networking::role, rbac::bindings::cluster_role),
        "RoleBinding" => Hooks {
            validate_change: rbac::bindings::role_binding_change,
            ..rbac_hooks(networking::role_binding, rbac::bindings::role_binding)
        },
        "ClusterRoleBinding" => Hooks {
            validate_change: rbac::bindings::role_binding_change,
            ..rbac_hooks(networking::role_binding, rbac::bindings::cluster_role_binding)
        },
        "Lease" => Hooks {
            default: cluster::with_spec,
            prepare_create: cluster::prepare_lease,
            prepare_update: cluster::prepare_lease_update,
            validate: coordination::lease::lease,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "LeaseCandidate" => Hooks {
            default: cluster::with_spec,
            validate: coordination::lease::candidate,
            validate_change: coordination::lease::candidate_change,
            name: coordination::lease::candidate_name,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "RuntimeClass" => Hooks {
            default: cluster::runtime_class,
            validate: scheduling::priority_class::runtime_class,
            validate_change: scheduling::priority_class::runtime_class_change,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "PriorityClass" => Hooks {
            default: cluster::priority_class,
            validate: scheduling::priority_class::priority_class,
            validate_change: scheduling::priority_class::priority_class_change,
            update_skips_rules: true,
            is_new_generation: |_, _| false,
            ..Hooks::PLAIN
        },
        "FlowSchema" => Hooks {
            default: cluster::flow_schema,
            status: Some(|_| {}),
            validate: flowcontrol::flow_schema::schema,
            validate_status: flowcontrol::flow_schema::status,
            ..Hooks::PLAIN
        },
        "PriorityLevelConfiguration" => Hooks {
            default: cluster::priority_level,
            status: Some(|_| {}),
            validate: flowcontrol::flow_schema::level,
            validate_status: flowcontrol::flow_schema::status,
            ..Hooks::PLAIN
        },
        "CertificateSigningRequest" => Hooks {
            default: cluster::signing_request,
            status: Some(|_| {}),
            validate: certificates::signing_request::signing_request,
            prepare_create: cluster::prepare_signing_request,
            prepare_update: cluster::prepare_signing_request_update,
            prepare_status: cluster::prepare_signing_request_status,
            validate_subresource: certificates::cluster_trust_bundle::change,
            tracks_spec: false,
            name: rules::naming::any_name,
            ..Hooks::PLAIN
        },
        "ClusterTrustBundle" => Hooks {
            default: cluster::with_spec,
            validate: certificates::cluster_trust_bundle::cluster_trust_bundle,
            validate_new: certificates::cluster_trust_bundle::new_cluster_trust_bundle,
            validate_change: certificates::cluster_trust_bundle::cluster_trust_bundle_change,
            name: rules::naming::any_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "StorageVersion" => Hooks {
            validate_status: apiserverinternal::storage_version::version_status,
            name: apiserverinternal::storage_version::version_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "StorageVersionMigration" => Hooks {
            validate: apiserverinternal::storage_version::migration,
            validate_change: apiserverinternal::storage_version::migration_change,
            validate_status: apiserverinternal::storage_version::migration_status,
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
    let row = Hooks { default: cluster::with_spec, delete_returns_object: true, ..Hooks::PLAIN };
    match kind {
        "DeviceClass" => {
            Hooks { validate_new: resource::shared::class, validate_change: resource::shared::class_change, ..row }
        }
        "DeviceTaintRule" => Hooks {
            validate_new: resource::shared::taint_rule,
            validate_change: resource::shared::taint_rule_change,
            validate_status: resource::shared::taint_rule_status,
            ..row
        },
        "ResourceClaim" => Hooks {
            default: cluster::resource_claim,
            status: Some(|_| {}),
            validate_new: resource::shared::claim,
            validate_change: resource::shared::claim_change,
            prepare_status: resource::claim_status::prepare,
            validate_status: resource::claim_status::change,
            ..row
        },
        "ResourceClaimTemplate" => Hooks {
            default: cluster::resource_claim_template,
            validate_new: resource::shared::claim_template,
            validate_change: resource::shared::claim_template_change,
            ..row
        },
        "ResourceSlice" => Hooks {
            default: cluster::resource_slice,
            validate_new: resource::slice::slice,
            validate_change: resource::slice::slice_change,
            ..row
        },
        _ => row,
    }
}

fn rbac_hooks(default: kind::Default, validate: kind::Validate) -> Hooks {
    Hooks { default, validate, name: rules::naming::path_segment_name, create_on_update: true, ..Hooks::PLAIN }
}
