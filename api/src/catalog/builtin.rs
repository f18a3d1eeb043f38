//! The table of built-in resources: a row for each resource in each version, in the order of discovery.

use std::sync::Arc;

use crate::kinds;
use crate::resource::{Columns, GroupVersionKind, Resource, SelectableField, Subresource, Text, Verb};
use crate::schema::builtin::builtin;

/// The rows of [`TABLE`] as resources.
pub(super) fn rows() -> impl Iterator<Item = Arc<Resource>> {
    TABLE.iter().flat_map(|version| version.rows.iter().map(|row| Arc::new(resource(version, row))))
}

fn resource(version: &Version, row: &Row) -> Resource {
    let schemas = builtin();
    let schema = schemas.kind(version.group, version.version, row.kind).expect("every row has a definition");
    let (storage_group, storage_version) = row.storage.unwrap_or((version.group, version.version));
    let borrowed = |texts: &'static [&'static str]| texts.iter().map(|text| Text::Borrowed(*text)).collect();
    Resource {
        group: version.group.into(),
        version: version.version.into(),
        plural: row.plural.into(),
        singular: row.singular.into(),
        kind: row.kind.into(),
        list_kind: format!("{}List", row.kind).into(),
        short_names: borrowed(row.short_names),
        categories: borrowed(row.categories),
        namespaced: row.namespaced,
        verbs: row.verbs.to_vec(),
        subresources: row.subresources().collect(),
        storage_group: storage_group.into(),
        storage_version: storage_version.into(),
        hash_version: row.hash_version.map(Text::Borrowed),
        storage_prefix: row.prefix.unwrap_or(row.plural).into(),
        schemas: Arc::clone(schemas.schemas()),
        schema: schema.id(),
        selectable_fields: row.fields.iter().map(selectable).collect(),
        has_generation: row.generation,
        strategy: kinds::strategy(version.group, row.kind),
        columns: Columns::BuiltIn,
        deprecation: row.deprecation.map(Text::Borrowed),
        custom: None,
    }
}

fn selectable((name, path, absent): &(&'static str, &'static str, &'static str)) -> SelectableField {
    let path = path.split('.').map(Text::Borrowed).collect();
    SelectableField { name: Text::Borrowed(name), path, absent: Text::Borrowed(absent) }
}

struct Version {
    group: &'static str,
    version: &'static str,
    rows: &'static [Row],
}

const fn version(group: &'static str, version: &'static str, rows: &'static [Row]) -> Version {
    Version { group, version, rows }
}

/// A field selector: its name, the path of its value in the stored version, and what an absent value selects as.
type Field = (&'static str, &'static str, &'static str);

#[derive(Clone, Copy)]
struct Row {
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    verbs: &'static [Verb],
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    subs: [Option<Sub>; 10],
    generation: bool,
    prefix: Option<&'static str>,
    storage: Option<(&'static str, &'static str)>,
    hash_version: Option<&'static str>,
    fields: &'static [Field],
    deprecation: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Sub {
    name: &'static str,
    /// Group, version and kind of its bodies where they are not the resource's.
    of: Option<(&'static str, &'static str, &'static str)>,
    verbs: &'static [&'static str],
}

const NAMESPACED: bool = true;
const CLUSTER: bool = false;
const CREATE: &[&str] = &["create"];
const CHANGE: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

const fn row(plural: &'static str, singular: &'static str, kind: &'static str, namespaced: bool) -> Row {
    Row {
        plural,
        singular,
        kind,
        namespaced,
        verbs: &Verb::STORED,
        short_names: &[],
        categories: &[],
        subs: [None; 10],
        generation: false,
        prefix: None,
        storage: None,
        hash_version: None,
        fields: &[],
        deprecation: None,
    }
}

impl Row {
    fn subresources(&self) -> impl Iterator<Item = Subresource> {
        self.subs.iter().flatten().map(|sub| Subresource {
            name: sub.name.into(),
            kind: sub.of.map(|(group, version, kind)| GroupVersionKind {
                group: group.into(),
                version: version.into(),
                kind: kind.into(),
            }),
            verbs: sub.verbs.iter().map(|verb| Text::Borrowed(*verb)).collect(),
        })
    }

    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    /// In the category `all`.
    const fn all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    /// In the category `api-extensions`.
    const fn extension(mut self) -> Self {
        self.categories = &["api-extensions"];
        self
    }

    const fn verbs(mut self, verbs: &'static [Verb]) -> Self {
        self.verbs = verbs;
        self
    }

    /// Answered when created, never stored.
    const fn review(self) -> Self {
        self.verbs(&[Verb::Create])
    }

    /// A subresource with bodies of the resource's own kind.
    const fn sub(self, name: &'static str, verbs: &'static [&'static str]) -> Self {
        self.add(Sub { name, of: None, verbs })
    }

    /// A subresource with bodies of another kind.
    const fn sub_of(
        self,
        name: &'static str,
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        self.add(Sub { name, of: Some((group, version, kind)), verbs })
    }

    const fn add(mut self, sub: Sub) -> Self {
        let mut at = 0;
        while self.subs[at].is_some() {
            at += 1;
        }
        self.subs[at] = Some(sub);
        self
    }

    const fn status(self) -> Self {
        self.sub("status", CHANGE)
    }

    const fn scale(self) -> Self {
        self.sub_of("scale", "autoscaling", "v1", "Scale", CHANGE)
    }

    /// Counts changes of the spec.
    const fn generation(mut self) -> Self {
        self.generation = true;
        self
    }

    /// Lies elsewhere in the store than below its plural.
    const fn prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Is stored in another group or version.
    const fn stored_in(mut self, group: &'static str, version: &'static str) -> Self {
        self.storage = Some((group, version));
        self
    }

    /// Shows the hash of another version than the stored one.
    const fn hashed_as(mut self, version: &'static str) -> Self {
        self.hash_version = Some(version);
        self
    }

    const fn fields(mut self, fields: &'static [Field]) -> Self {
        self.fields = fields;
        self
    }

    const fn deprecated(mut self, text: &'static str) -> Self {
        self.deprecation = Some(text);
        self
    }
}

const POD_FIELDS: &[Field] = &[
    ("spec.nodeName", "spec.nodeName", ""),
    ("spec.restartPolicy", "spec.restartPolicy", ""),
    ("spec.schedulerName", "spec.schedulerName", ""),
    ("spec.serviceAccountName", "spec.serviceAccountName", ""),
    ("spec.hostNetwork", "spec.hostNetwork", "false"),
    ("status.phase", "status.phase", ""),
    ("status.podIP", "status.podIP", ""),
    ("status.nominatedNodeName", "status.nominatedNodeName", ""),
];
const EVENT_FIELDS: &[Field] = &[
    ("involvedObject.kind", "involvedObject.kind", ""),
    ("involvedObject.namespace", "involvedObject.namespace", ""),
    ("involvedObject.name", "involvedObject.name", ""),
    ("involvedObject.uid", "involvedObject.uid", ""),
    ("involvedObject.apiVersion", "involvedObject.apiVersion", ""),
    ("involvedObject.resourceVersion", "involvedObject.resourceVersion", ""),
    ("involvedObject.fieldPath", "involvedObject.fieldPath", ""),
    ("reason", "reason", ""),
    ("reportingComponent", "reportingComponent", ""),
    ("source", "source.component.|.reportingComponent", ""),
    ("type", "type", ""),
];
const NEW_EVENT_FIELDS: &[Field] = &[
    ("regarding.kind", "involvedObject.kind", ""),
    ("regarding.namespace", "involvedObject.namespace", ""),
    ("regarding.name", "involvedObject.name", ""),
    ("regarding.uid", "involvedObject.uid", ""),
    ("regarding.apiVersion", "involvedObject.apiVersion", ""),
    ("regarding.resourceVersion", "involvedObject.resourceVersion", ""),
    ("regarding.fieldPath", "involvedObject.fieldPath", ""),
    ("reason", "reason", ""),
    ("reportingController", "reportingComponent", ""),
    ("type", "type", ""),
];
/// Of controllers of replicas in v1; ReplicaSets have lost it.
const REPLICAS: &[Field] = &[("status.replicas", "status.replicas", "0")];
const SIGNER: &[Field] = &[("spec.signerName", "spec.signerName", "")];
const POD_CERTIFICATE_FIELDS: &[Field] = &[
    ("spec.signerName", "spec.signerName", ""),
    ("spec.podName", "spec.podName", ""),
    ("spec.nodeName", "spec.nodeName", ""),
];

/// Groups by priority, versions of a group by preference, resources by name.
#[rustfmt::skip]
const TABLE: &[Version] = &[
    version("", "v1", &[
        row("bindings", "binding", "Binding", NAMESPACED).review(),
        row("componentstatuses", "componentstatus", "ComponentStatus", CLUSTER).deprecated("v1 ComponentStatus is deprecated in v1.19+").verbs(&[Verb::Get, Verb::List]).short(&["cs"]),
        row("configmaps", "configmap", "ConfigMap", NAMESPACED).short(&["cm"]),
        row("endpoints", "endpoints", "Endpoints", NAMESPACED).short(&["ep"]).deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice").prefix("services/endpoints"),
        row("events", "event", "Event", NAMESPACED).short(&["ev"]).fields(EVENT_FIELDS),
        row("limitranges", "limitrange", "LimitRange", NAMESPACED).short(&["limits"]),
        row("namespaces", "namespace", "Namespace", CLUSTER).verbs(&[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch]).short(&["ns"]).sub("finalize", &["update"]).status().fields(&[("status.phase", "status.phase", "")]),
        row("nodes", "node", "Node", CLUSTER).short(&["no"]).prefix("minions").sub_of("proxy", "", "v1", "NodeProxyOptions", PROXY).status().fields(&[("spec.unschedulable", "spec.unschedulable", "false")]),
        row("persistentvolumeclaims", "persistentvolumeclaim", "PersistentVolumeClaim", NAMESPACED).short(&["pvc"]).status(),
        row("persistentvolumes", "persistentvolume", "PersistentVolume", CLUSTER).short(&["pv"]).status(),
        row("pods", "pod", "Pod", NAMESPACED).short(&["po"]).all().generation().sub_of("attach", "", "v1", "PodAttachOptions", CONNECT).sub_of("binding", "", "v1", "Binding", CREATE).sub("ephemeralcontainers", CHANGE).sub_of("eviction", "policy", "v1", "Eviction", CREATE).sub_of("exec", "", "v1", "PodExecOptions", CONNECT).sub("log", &["get"]).sub_of("portforward", "", "v1", "PodPortForwardOptions", CONNECT).sub_of("proxy", "", "v1", "PodProxyOptions", PROXY).sub("resize", CHANGE).status().fields(POD_FIELDS),
        row("podtemplates", "podtemplate", "PodTemplate", NAMESPACED).generation(),
        row("replicationcontrollers", "replicationcontroller", "ReplicationController", NAMESPACED).short(&["rc"]).all().generation().prefix("controllers").scale().status().fields(REPLICAS),
        row("resourcequotas", "resourcequota", "ResourceQuota", NAMESPACED).short(&["quota"]).status(),
        row("secrets", "secret", "Secret", NAMESPACED).fields(&[("type", "type", "")]),
        row("serviceaccounts", "serviceaccount", "ServiceAccount", NAMESPACED).short(&["sa"]).sub_of("token", "authentication.k8s.io", "v1", "TokenRequest", CREATE),
        row("services", "service", "Service", NAMESPACED).short(&["svc"]).all().prefix("services/specs").sub_of("proxy", "", "v1", "ServiceProxyOptions", PROXY).status().fields(&[("spec.clusterIP", "spec.clusterIP", ""), ("spec.type", "spec.type", "")]),
    ]),
    version("apiregistration.k8s.io", "v1", &[
        row("apiservices", "apiservice", "APIService", CLUSTER).extension().prefix("apiregistration.k8s.io/apiservices").status(),
    ]),
    version("apps", "v1", &[
        row("controllerrevisions", "controllerrevision", "ControllerRevision", NAMESPACED),
        row("daemonsets", "daemonset", "DaemonSet", NAMESPACED).short(&["ds"]).all().generation().status(),
        row("deployments", "deployment", "Deployment", NAMESPACED).short(&["deploy"]).all().generation().scale().status(),
        row("replicasets", "replicaset", "ReplicaSet", NAMESPACED).short(&["rs"]).all().generation().scale().status(),
        row("statefulsets", "statefulset", "StatefulSet", NAMESPACED).short(&["sts"]).all().generation().scale().status(),
    ]),
    version("events.k8s.io", "v1", &[
        row("events", "event", "Event", NAMESPACED).short(&["ev"]).fields(NEW_EVENT_FIELDS).stored_in("", "v1"),
    ]),
    version("authentication.k8s.io", "v1", &[
        row("selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview", CLUSTER).review(),
        row("tokenreviews", "tokenreview", "TokenReview", CLUSTER).review(),
    ]),
    version("authorization.k8s.io", "v1", &[
        row("localsubjectaccessreviews", "localsubjectaccessreview", "LocalSubjectAccessReview", NAMESPACED).review(),
        row("selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview", CLUSTER).review(),
        row("selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview", CLUSTER).review(),
        row("subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview", CLUSTER).review(),
    ]),
    version("autoscaling", "v2", &[
        row("horizontalpodautoscalers", "horizontalpodautoscaler", "HorizontalPodAutoscaler", NAMESPACED).short(&["hpa"]).all().status(),
    ]),
    version("autoscaling", "v1", &[
        row("horizontalpodautoscalers", "horizontalpodautoscaler", "HorizontalPodAutoscaler", NAMESPACED).short(&["hpa"]).all().stored_in("autoscaling", "v2").status(),
    ]),
    version("batch", "v1", &[
        row("cronjobs", "cronjob", "CronJob", NAMESPACED).short(&["cj"]).all().generation().status(),
        row("jobs", "job", "Job", NAMESPACED).all().generation().status().fields(&[("status.successful", "status.succeeded", "0")]),
    ]),
    version("certificates.k8s.io", "v1", &[
        row("certificatesigningrequests", "certificatesigningrequest", "CertificateSigningRequest", CLUSTER).short(&["csr"]).sub("approval", CHANGE).status().fields(SIGNER),
    ]),
    version("certificates.k8s.io", "v1beta1", &[
        row("clustertrustbundles", "clustertrustbundle", "ClusterTrustBundle", CLUSTER).fields(SIGNER),
        row("podcertificaterequests", "podcertificaterequest", "PodCertificateRequest", NAMESPACED).status().fields(POD_CERTIFICATE_FIELDS),
    ]),
    version("certificates.k8s.io", "v1alpha1", &[
        row("clustertrustbundles", "clustertrustbundle", "ClusterTrustBundle", CLUSTER).stored_in("certificates.k8s.io", "v1beta1").fields(SIGNER),
    ]),
    version("networking.k8s.io", "v1", &[
        row("ingressclasses", "ingressclass", "IngressClass", CLUSTER).generation(),
        row("ingresses", "ingress", "Ingress", NAMESPACED).short(&["ing"]).generation().prefix("ingress").status(),
        row("ipaddresses", "ipaddress", "IPAddress", CLUSTER).short(&["ip"]),
        row("networkpolicies", "networkpolicy", "NetworkPolicy", NAMESPACED).short(&["netpol"]).generation(),
        row("servicecidrs", "servicecidr", "ServiceCIDR", CLUSTER).status(),
    ]),
    version("networking.k8s.io", "v1beta1", &[
        row("ipaddresses", "ipaddress", "IPAddress", CLUSTER).short(&["ip"]).stored_in("networking.k8s.io", "v1"),
        row("servicecidrs", "servicecidr", "ServiceCIDR", CLUSTER).stored_in("networking.k8s.io", "v1").status(),
    ]),
    version("policy", "v1", &[
        row("poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget", NAMESPACED).short(&["pdb"]).generation().status(),
    ]),
    version("rbac.authorization.k8s.io", "v1", &[
        row("clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding", CLUSTER),
        row("clusterroles", "clusterrole", "ClusterRole", CLUSTER),
        row("rolebindings", "rolebinding", "RoleBinding", NAMESPACED),
        row("roles", "role", "Role", NAMESPACED),
    ]),
    version("storage.k8s.io", "v1", &[
        row("csidrivers", "csidriver", "CSIDriver", CLUSTER),
        row("csinodes", "csinode", "CSINode", CLUSTER),
        row("csistoragecapacities", "csistoragecapacity", "CSIStorageCapacity", NAMESPACED),
        row("storageclasses", "storageclass", "StorageClass", CLUSTER).short(&["sc"]),
        row("volumeattachments", "volumeattachment", "VolumeAttachment", CLUSTER).status(),
        row("volumeattributesclasses", "volumeattributesclass", "VolumeAttributesClass", CLUSTER).short(&["vac"]),
    ]),
    version("storage.k8s.io", "v1beta1", &[
        row("volumeattributesclasses", "volumeattributesclass", "VolumeAttributesClass", CLUSTER).short(&["vac"]).stored_in("storage.k8s.io", "v1"),
    ]),
    version("admissionregistration.k8s.io", "v1", &[
        row("mutatingadmissionpolicies", "mutatingadmissionpolicy", "MutatingAdmissionPolicy", CLUSTER).extension().generation().hashed_as("v1beta1"),
        row("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding", "MutatingAdmissionPolicyBinding", CLUSTER).extension().generation().hashed_as("v1beta1"),
        row("mutatingwebhookconfigurations", "mutatingwebhookconfiguration", "MutatingWebhookConfiguration", CLUSTER).extension().generation(),
        row("validatingadmissionpolicies", "validatingadmissionpolicy", "ValidatingAdmissionPolicy", CLUSTER).extension().generation().status(),
        row("validatingadmissionpolicybindings", "validatingadmissionpolicybinding", "ValidatingAdmissionPolicyBinding", CLUSTER).extension().generation(),
        row("validatingwebhookconfigurations", "validatingwebhookconfiguration", "ValidatingWebhookConfiguration", CLUSTER).extension().generation(),
    ]),
    version("admissionregistration.k8s.io", "v1beta1", &[
        row("mutatingadmissionpolicies", "mutatingadmissionpolicy", "MutatingAdmissionPolicy", CLUSTER).extension().generation().stored_in("admissionregistration.k8s.io", "v1").hashed_as("v1beta1"),
        row("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding", "MutatingAdmissionPolicyBinding", CLUSTER).extension().generation().stored_in("admissionregistration.k8s.io", "v1").hashed_as("v1beta1"),
    ]),
    version("admissionregistration.k8s.io", "v1alpha1", &[
        row("mutatingadmissionpolicies", "mutatingadmissionpolicy", "MutatingAdmissionPolicy", CLUSTER).extension().generation().stored_in("admissionregistration.k8s.io", "v1").hashed_as("v1beta1"),
        row("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding", "MutatingAdmissionPolicyBinding", CLUSTER).extension().generation().stored_in("admissionregistration.k8s.io", "v1").hashed_as("v1beta1"),
    ]),
    version("apiextensions.k8s.io", "v1", &[
        row("customresourcedefinitions", "customresourcedefinition", "CustomResourceDefinition", CLUSTER).short(&["crd", "crds"]).extension().generation().prefix("apiextensions.k8s.io/customresourcedefinitions").status().hashed_as("v1beta1"),
    ]),
    version("scheduling.k8s.io", "v1", &[
        row("priorityclasses", "priorityclass", "PriorityClass", CLUSTER).short(&["pc"]).generation(),
    ]),
    version("scheduling.k8s.io", "v1alpha2", &[
        row("podgroups", "podgroup", "PodGroup", NAMESPACED).generation().status(),
        row("workloads", "workload", "Workload", NAMESPACED).generation(),
    ]),
    version("coordination.k8s.io", "v1", &[
        row("leases", "lease", "Lease", NAMESPACED),
    ]),
    version("coordination.k8s.io", "v1beta1", &[
        row("leasecandidates", "leasecandidate", "LeaseCandidate", NAMESPACED),
    ]),
    version("coordination.k8s.io", "v1alpha2", &[
        row("leasecandidates", "leasecandidate", "LeaseCandidate", NAMESPACED).stored_in("coordination.k8s.io", "v1beta1"),
    ]),
    version("node.k8s.io", "v1", &[
        row("runtimeclasses", "runtimeclass", "RuntimeClass", CLUSTER),
    ]),
    version("discovery.k8s.io", "v1", &[
        row("endpointslices", "endpointslice", "EndpointSlice", NAMESPACED).generation(),
    ]),
    version("resource.k8s.io", "v1", &[
        row("deviceclasses", "deviceclass", "DeviceClass", CLUSTER).generation(),
        row("resourceclaims", "resourceclaim", "ResourceClaim", NAMESPACED).status(),
        row("resourceclaimtemplates", "resourceclaimtemplate", "ResourceClaimTemplate", NAMESPACED),
        row("resourceslices", "resourceslice", "ResourceSlice", CLUSTER).generation().fields(&[("spec.nodeName", "spec.nodeName", ""), ("spec.driver", "spec.driver", "")]),
    ]),
    version("resource.k8s.io", "v1beta2", &[
        row("deviceclasses", "deviceclass", "DeviceClass", CLUSTER).generation().stored_in("resource.k8s.io", "v1"),
        row("devicetaintrules", "devicetaintrule", "DeviceTaintRule", CLUSTER).generation().status(),
        row("resourceclaims", "resourceclaim", "ResourceClaim", NAMESPACED).stored_in("resource.k8s.io", "v1").status(),
        row("resourceclaimtemplates", "resourceclaimtemplate", "ResourceClaimTemplate", NAMESPACED).stored_in("resource.k8s.io", "v1"),
        row("resourceslices", "resourceslice", "ResourceSlice", CLUSTER).generation().stored_in("resource.k8s.io", "v1").fields(&[("spec.nodeName", "spec.nodeName", ""), ("spec.driver", "spec.driver", "")]),
    ]),
    version("resource.k8s.io", "v1beta1", &[
        row("deviceclasses", "deviceclass", "DeviceClass", CLUSTER).generation().stored_in("resource.k8s.io", "v1"),
        row("resourceclaims", "resourceclaim", "ResourceClaim", NAMESPACED).stored_in("resource.k8s.io", "v1").status(),
        row("resourceclaimtemplates", "resourceclaimtemplate", "ResourceClaimTemplate", NAMESPACED).stored_in("resource.k8s.io", "v1"),
        row("resourceslices", "resourceslice", "ResourceSlice", CLUSTER).generation().stored_in("resource.k8s.io", "v1").fields(&[("spec.nodeName", "spec.nodeName", ""), ("spec.driver", "spec.driver", "")]),
    ]),
    version("resource.k8s.io", "v1alpha3", &[
        row("devicetaintrules", "devicetaintrule", "DeviceTaintRule", CLUSTER).generation().stored_in("resource.k8s.io", "v1beta2").status(),
        row("resourcepoolstatusrequests", "resourcepoolstatusrequest", "ResourcePoolStatusRequest", CLUSTER).status(),
    ]),
    version("flowcontrol.apiserver.k8s.io", "v1", &[
        row("flowschemas", "flowschema", "FlowSchema", CLUSTER).generation().status(),
        row("prioritylevelconfigurations", "prioritylevelconfiguration", "PriorityLevelConfiguration", CLUSTER).generation().status(),
    ]),
    version("internal.apiserver.k8s.io", "v1alpha1", &[
        row("storageversions", "storageversion", "StorageVersion", CLUSTER).status(),
    ]),
    version("storagemigration.k8s.io", "v1beta1", &[
        row("storageversionmigrations", "storageversionmigration", "StorageVersionMigration", CLUSTER).status(),
    ]),
];
