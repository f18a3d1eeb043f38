//! The built-in kinds: what each of them does differently, beside its schema.
//!
//! [`strategy`] is the table: one row per kind. Versions of a kind share a row, which works on the storage version.
//! The functions named `*_hooks` are parts of that table, and long for that reason only.

mod addresses;
mod affinity;
mod autoscaling_rules;
mod batch;
mod batch_rules;
mod certificate_rules;
mod claim_status;
mod cluster;
mod cluster_rules;
mod containers;
mod core;
mod core_rules;
mod definition_rules;
mod device_capacity;
mod device_rules;
mod dump;
mod environment;
mod event_rules;
mod extension_rules;
mod extensions;
mod flow_rules;
mod gated;
mod hooks;
mod job_policies;
mod job_status;
mod lease_rules;
mod limit_rules;
mod meta;
mod mounts;
mod networking;
mod networking_rules;
mod node_rules;
mod pem;
mod pod;
mod pod_annotations;
mod pod_defaults;
mod pod_gated;
mod pod_spec;
mod pod_status_rules;
mod pod_subresources;
mod pod_update;
mod pod_warnings;
mod policy_rules;
mod probes;
mod projections;
mod ratchet;
mod rbac_rules;
mod resource_rules;
pub(crate) mod resources;
pub(crate) mod rules;
mod schema_rules;
mod security;
mod service;
mod service_rules;
mod signing_rules;
mod slice_rules;
mod storage;
mod storage_classes;
mod stored_versions;
#[cfg(test)]
mod tests;
mod tree;
mod url;
mod volume_claims;
mod volume_paths;
mod volume_sources;
mod volume_warnings;
mod volumes;
mod warnings;
mod webhook_rules;
mod windows;
mod workload_rules;
mod workload_status;
mod workloads;

use std::sync::Arc;

pub use flow_rules::mandatory_spec;

use crate::field::FieldError;
use crate::object::Object;
use crate::strategy::{MetadataRechecks, Strategy};
use hooks::Hooks;
use tree::{Errors, Node};

/// The strategy of a built-in kind; a kind without special rules gets the plain one.
pub fn strategy(group: &str, kind: &str) -> Arc<dyn Strategy> {
    let row = hooks(group, kind);
    Arc::new(Hooks { rechecks: rechecks(group, kind), status_changes_metadata: status_changes_metadata(kind), ..row })
}

/// What is wrong with the addresses of a Service, and with the families that it says they are of. This has to be known
/// before addresses are handed out, and so before the other rules are looked at.
pub fn service_addresses(service: &Object) -> Vec<FieldError> {
    let mut errors = Errors::default();
    service_rules::addresses(&Node::root(service.root()), &mut errors);
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
            default: pod_defaults::pod,
            gated: gated::POD,
            validate: pod_spec::pod,
            validate_new: pod_spec::new_pod,
            validate_subresource: pod_subresources::change,
            warn: warnings::pod,
            warn_prepared: warnings::app_armor,
            warn_status: warnings::pod_status,
            validate_change: pod_update::pod_change,
            validate_status: pod_status_rules::pod,
            status: Some(pod::default_status),
            prepare_create: pod::prepare_create,
            prepare_status: pod::prepare_status,
            grace_period: pod::grace_period,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Service" => Hooks {
            default: service::service,
            status: Some(service::status),
            prepare_create: service::prepare_create,
            prepare_update: service::prepare_update,
            validate: service_rules::service,
            warn: warnings::service,
            warn_status: warnings::balancer_status,
            validate_change: service_rules::service_change,
            validate_status: service_rules::service_status,
            name: rules::label_name,
            create_on_update: true,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Namespace" => Hooks {
            default: core::namespace,
            validate: core_rules::namespace,
            validate_subresource: core_rules::namespace_finalizers,
            validate_status: core_rules::namespace_status,
            prepare_create: core::prepare_namespace,
            prepare_update: core::prepare_namespace_update,
            begin_deletion: core::begin_namespace_deletion,
            holds_deletion: core::namespace_holds_deletion,
            name: rules::label_name,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "Node" => Hooks {
            default: core::node,
            status: Some(core::node_status),
            validate: node_rules::node,
            warn: node_rules::warn,
            validate_change: node_rules::change,
            validate_status: node_rules::change,
            keeps_status_on_create: true,
            ..Hooks::PLAIN
        },
        "ConfigMap" => {
            Hooks { validate: core_rules::config_map, validate_change: core_rules::config_map_change, ..Hooks::PLAIN }
        }
        "Secret" => Hooks {
            default: core::secret,
            validate: core_rules::secret,
            warn: warnings::secret,
            validate_change: core_rules::secret_change,
            ..Hooks::PLAIN
        },
        "ServiceAccount" => Hooks { warn: warnings::service_account, delete_returns_object: true, ..Hooks::PLAIN },
        "Endpoints" => Hooks {
            default: core::endpoints,
            validate: core_rules::endpoints,
            warn: warnings::endpoints,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "Event" => Hooks { default: core::event, validate: event_rules::event, create_on_update: true, ..Hooks::PLAIN },
        "LimitRange" => Hooks {
            default: core::limit_range,
            validate: limit_rules::limit_range,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "PodTemplate" => Hooks {
            default: core::pod_template,
            gated: gated::POD_TEMPLATE,
            validate: workload_rules::pod_template,
            warn: warnings::pod_template,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "PersistentVolume" => Hooks {
            default: volume_claims::volume,
            validate: storage::volume,
            warn: volume_warnings::volume,
            validate_change: storage::volume_change,
            prepare_create: volume_claims::prepare_volume,
            prepare_status: volume_claims::prepare_volume_status,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "PersistentVolumeClaim" => Hooks {
            default: volume_claims::claim,
            validate: storage::claim,
            warn: volume_warnings::claim,
            validate_change: storage::claim_change,
            validate_status: storage::claim_status,
            prepare_create: volume_claims::prepare_claim,
            prepare_update: volume_claims::prepare_claim_update,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "ReplicationController" => Hooks {
            default: workloads::replication_controller,
            gated: gated::WORKLOAD,
            validate: workload_rules::replication_controller,
            validate_status: workload_status::replica_set,
            warn: warnings::workload,
            status: Some(workloads::replica_status),
            orphans: true,
            ..Hooks::PLAIN
        },
        "ResourceQuota" => Hooks {
            default: cluster::with_spec,
            status: Some(|_| {}),
            validate: limit_rules::resource_quota,
            validate_change: limit_rules::resource_quota_change,
            validate_status: limit_rules::resource_quota_status,
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
            gated: gated::WORKLOAD,
            validate: workload_rules::deployment,
            validate_status: workload_status::deployment,
            is_new_generation: workloads::deployment_is_new_generation,
            warn: warnings::workload,
            validate_change: workload_rules::selector_change,
            ..Hooks::PLAIN
        },
        "ReplicaSet" => Hooks {
            default: workloads::replica_set,
            status: Some(workloads::replica_status),
            gated: gated::WORKLOAD,
            validate: workload_rules::replica_set,
            validate_status: workload_status::replica_set,
            warn: warnings::workload,
            validate_change: workload_rules::selector_change,
            ..Hooks::PLAIN
        },
        "StatefulSet" => Hooks {
            default: workloads::stateful_set,
            name: rules::label_name,
            status: Some(workloads::stateful_set_status),
            gated: gated::STATEFUL_SET,
            validate: workload_rules::stateful_set,
            validate_status: workload_status::stateful_set,
            warn: warnings::stateful_set,
            validate_change: workload_rules::stateful_set_change,
            ..Hooks::PLAIN
        },
        "DaemonSet" => Hooks {
            default: workloads::daemon_set,
            status: Some(workloads::daemon_set_status),
            fields_as_annotations: &[workloads::TEMPLATE_GENERATION],
            prepare_create: workloads::prepare_daemon_set,
            prepare_update: workloads::prepare_daemon_set_update,
            gated: gated::WORKLOAD,
            validate: workload_rules::daemon_set,
            validate_status: workload_status::daemon_set,
            warn: warnings::daemon_set,
            validate_change: workload_rules::selector_change,
            ..Hooks::PLAIN
        },
        "ControllerRevision" => Hooks {
            default: workloads::controller_revision,
            validate: workload_rules::controller_revision,
            validate_change: workload_rules::controller_revision_change,
            ..Hooks::PLAIN
        },
        "Job" => Hooks {
            default: batch::job,
            status: Some(|_| {}),
            prepare_create: batch::prepare_job,
            gated: gated::WORKLOAD,
            validate: batch_rules::job,
            validate_status: job_status::job,
            orphans: true,
            silent_deletion_warning: Some(batch::ORPHANS),
            warn: warnings::job,
            validate_change: batch_rules::job_change,
            ..Hooks::PLAIN
        },
        "CronJob" => Hooks {
            default: batch::cron_job,
            status: Some(|_| {}),
            gated: gated::CRON_JOB,
            validate: batch_rules::cron_job,
            validate_new: batch_rules::new_cron_job,
            warn: warnings::cron_job,
            ..Hooks::PLAIN
        },
        "HorizontalPodAutoscaler" => Hooks {
            default: networking::autoscaler,
            status: Some(networking::autoscaler_status),
            validate: autoscaling_rules::autoscaler,
            validate_status: workload_status::autoscaler,
            ..Hooks::PLAIN
        },
        "PodDisruptionBudget" => Hooks {
            default: cluster::with_spec,
            status: Some(networking::disruption_budget_status),
            validate: autoscaling_rules::disruption_budget,
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
            validate: storage_classes::class,
            validate_change: storage_classes::class_change,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSIDriver" => Hooks {
            default: cluster::csi_driver,
            prepare_update: cluster::prepare_csi_driver_update,
            validate: storage_classes::driver,
            validate_change: storage_classes::driver_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSINode" => Hooks {
            validate: storage_classes::csi_node,
            validate_change: storage_classes::csi_node_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "CSIStorageCapacity" => Hooks {
            validate: storage_classes::storage_capacity,
            validate_change: storage_classes::storage_capacity_change,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "VolumeAttachment" => Hooks {
            default: cluster::volume_attachment,
            status: Some(cluster::volume_attachment_status),
            validate: storage_classes::attachment,
            validate_new: storage_classes::new_attachment,
            validate_change: storage_classes::attachment_change,
            validate_status: storage_classes::attachment_status_change,
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "VolumeAttributesClass" => Hooks {
            validate: storage_classes::attributes_class,
            validate_change: storage_classes::attributes_class_change,
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
            status: Some(service::ingress_status),
            warn: warnings::ingress,
            warn_status: warnings::balancer_status,
            validate: networking_rules::ingress,
            validate_new: networking_rules::new_ingress,
            validate_status: networking_rules::ingress_status,
            ..Hooks::PLAIN
        },
        "IngressClass" => Hooks {
            default: networking::ingress_class,
            validate: networking_rules::ingress_class,
            validate_change: networking_rules::ingress_class_change,
            ..Hooks::PLAIN
        },
        "NetworkPolicy" => Hooks {
            default: networking::network_policy,
            validate: networking_rules::network_policy,
            warn: warnings::network_policy,
            ..Hooks::PLAIN
        },
        "EndpointSlice" => Hooks {
            default: networking::endpoint_slice,
            prepare_create: networking::prepare_endpoint_slice,
            prepare_update: networking::prepare_endpoint_slice_update,
            warn: warnings::endpoint_slice,
            validate: networking_rules::endpoint_slice,
            validate_change: networking_rules::endpoint_slice_change,
            is_new_generation: networking::slice_is_new_generation,
            ..Hooks::PLAIN
        },
        "ServiceCIDR" => Hooks {
            default: cluster::with_spec,
            status: Some(|_| {}),
            validate: networking_rules::service_cidr,
            validate_change: networking_rules::service_cidr_change,
            ..Hooks::PLAIN
        },
        "IPAddress" => Hooks {
            default: cluster::with_spec,
            validate: networking_rules::ip_address,
            validate_change: networking_rules::ip_address_change,
            name: rules::ip_name,
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
            validate: definition_rules::definition,
            warn: definition_rules::warnings,
            validate_new: definition_rules::new_definition,
            prepare_create: extensions::prepare_definition,
            prepare_update: extensions::prepare_definition_update,
            validate_change: definition_rules::definition_change,
            validate_status: definition_rules::definition_status,
            begin_deletion: extensions::begin_definition_deletion,
            holds_deletion: |definition| !definition.is_being_deleted(),
            unconditional_update: false,
            delete_returns_object: true,
            ..Hooks::PLAIN
        },
        "APIService" => Hooks {
            default: extensions::api_service,
            validate: extension_rules::api_service,
            prepare_create: extensions::prepare_api_service,
            validate_status: extension_rules::api_service_status,
            name: rules::path_segment_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => Hooks {
            validation_may_take_long: true,
            default: extensions::webhooks,
            validate_new: webhook_rules::webhooks,
            validate_change: webhook_rules::changed_webhooks,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "ValidatingAdmissionPolicy" => Hooks {
            validation_may_take_long: true,
            status: Some(|_| {}),
            default: extensions::admission_policy,
            validate_new: policy_rules::validating_policy,
            validate_change: policy_rules::changed_validating_policy,
            validate_status: policy_rules::policy_status,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingAdmissionPolicy" => Hooks {
            validation_may_take_long: true,
            default: extensions::admission_policy,
            validate_new: policy_rules::mutating_policy,
            validate_change: policy_rules::changed_mutating_policy,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "ValidatingAdmissionPolicyBinding" => Hooks {
            default: extensions::admission_policy_binding,
            validate: policy_rules::validating_policy_binding,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "MutatingAdmissionPolicyBinding" => Hooks {
            default: extensions::admission_policy_binding,
            validate: policy_rules::mutating_policy_binding,
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
            validate: event_rules::reported,
            validate_new: event_rules::new_reported,
            validate_change: event_rules::reported_change,
            create_on_update: true,
            ..Hooks::PLAIN
        },
        "Role" => rbac_hooks(networking::role, rbac_rules::role),
        "ClusterRole" => rbac_hooks(networking::role, rbac_rules::cluster_role),
        "RoleBinding" => Hooks {
            validate_change: rbac_rules::role_binding_change,
            ..rbac_hooks(networking::role_binding, rbac_rules::role_binding)
        },
        "ClusterRoleBinding" => Hooks {
            validate_change: rbac_rules::role_binding_change,
            ..rbac_hooks(networking::role_binding, rbac_rules::cluster_role_binding)
        },
        "Lease" => Hooks {
            default: cluster::with_spec,
            prepare_create: cluster::prepare_lease,
            prepare_update: cluster::prepare_lease_update,
            validate: lease_rules::lease,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "LeaseCandidate" => Hooks {
            default: cluster::with_spec,
            validate: lease_rules::candidate,
            validate_change: lease_rules::candidate_change,
            name: lease_rules::candidate_name,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "RuntimeClass" => Hooks {
            default: cluster::runtime_class,
            validate: cluster_rules::runtime_class,
            validate_change: cluster_rules::runtime_class_change,
            create_on_update: true,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "PriorityClass" => Hooks {
            default: cluster::priority_class,
            validate: cluster_rules::priority_class,
            validate_change: cluster_rules::priority_class_change,
            update_skips_rules: true,
            is_new_generation: |_, _| false,
            ..Hooks::PLAIN
        },
        "FlowSchema" => Hooks {
            default: cluster::flow_schema,
            status: Some(|_| {}),
            validate: flow_rules::schema,
            validate_status: flow_rules::status,
            ..Hooks::PLAIN
        },
        "PriorityLevelConfiguration" => Hooks {
            default: cluster::priority_level,
            status: Some(|_| {}),
            validate: flow_rules::level,
            validate_status: flow_rules::status,
            ..Hooks::PLAIN
        },
        "CertificateSigningRequest" => Hooks {
            default: cluster::signing_request,
            status: Some(|_| {}),
            validate: signing_rules::signing_request,
            prepare_create: cluster::prepare_signing_request,
            prepare_update: cluster::prepare_signing_request_update,
            prepare_status: cluster::prepare_signing_request_status,
            validate_subresource: certificate_rules::change,
            tracks_spec: false,
            name: rules::any_name,
            ..Hooks::PLAIN
        },
        "ClusterTrustBundle" => Hooks {
            default: cluster::with_spec,
            validate: certificate_rules::cluster_trust_bundle,
            validate_new: certificate_rules::new_cluster_trust_bundle,
            validate_change: certificate_rules::cluster_trust_bundle_change,
            name: rules::any_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "StorageVersion" => Hooks {
            validate_status: stored_versions::version_status,
            name: stored_versions::version_name,
            unconditional_update: false,
            ..Hooks::PLAIN
        },
        "StorageVersionMigration" => Hooks {
            validate: stored_versions::migration,
            validate_change: stored_versions::migration_change,
            validate_status: stored_versions::migration_status,
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
            Hooks { validate_new: device_rules::class, validate_change: device_rules::class_change, ..row }
        }
        "DeviceTaintRule" => Hooks {
            validate_new: device_rules::taint_rule,
            validate_change: device_rules::taint_rule_change,
            validate_status: device_rules::taint_rule_status,
            ..row
        },
        "ResourceClaim" => Hooks {
            default: cluster::resource_claim,
            status: Some(|_| {}),
            validate_new: device_rules::claim,
            validate_change: device_rules::claim_change,
            prepare_status: claim_status::prepare,
            validate_status: claim_status::change,
            ..row
        },
        "ResourceClaimTemplate" => Hooks {
            default: cluster::resource_claim_template,
            validate_new: device_rules::claim_template,
            validate_change: device_rules::claim_template_change,
            ..row
        },
        "ResourceSlice" => Hooks {
            default: cluster::resource_slice,
            validate_new: slice_rules::slice,
            validate_change: slice_rules::slice_change,
            ..row
        },
        _ => row,
    }
}

fn rbac_hooks(default: hooks::Default, validate: hooks::Validate) -> Hooks {
    Hooks { default, validate, name: rules::path_segment_name, create_on_update: true, ..Hooks::PLAIN }
}
