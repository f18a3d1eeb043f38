//! How upstream shows whole structs in error texts: with the names and order of its internal Go types.
//!
//! Only the types that such texts contain are described here, as tables of (Go name, field, shape).

use std::fmt::Write as _;

use serde_json::Value;

use super::structs;
use super::tree::Node;
use crate::field;
use Shape::{Any, Embedded, Flag, Inline, List, Number, Pointer, Struct, Text};

/// How a field is shown when it is unset, and what it holds otherwise.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// `null` when unset, else as it is.
    Any,
    /// `""` when unset.
    Text,
    /// `0` when unset.
    Number,
    /// `false` when unset.
    Flag,
    /// A struct that is always there.
    Struct(Table),
    /// A struct or `null`.
    Pointer(Table),
    /// A list of structs or `null`.
    List(Table),
    /// Fields of the enclosing object, gathered in a struct.
    Inline(Table),
    /// The fields of an embedded struct, which stand among the enclosing ones.
    Embedded(Table),
}

pub(crate) type Table = &'static [(&'static str, &'static str, Shape)];

const RESOURCES: Table = &[("Limits", "limits", Any), ("Requests", "requests", Any), ("Claims", "claims", Any)];

const CLAIM_SPEC: Table = &[
    ("AccessModes", "accessModes", Any),
    ("Selector", "selector", Any),
    ("Resources", "resources", Struct(&[("Limits", "limits", Any), ("Requests", "requests", Any)])),
    ("VolumeName", "volumeName", Text),
    ("StorageClassName", "storageClassName", Any),
    ("VolumeMode", "volumeMode", Any),
    ("DataSource", "dataSource", Any),
    ("DataSourceRef", "dataSourceRef", Any),
    ("VolumeAttributesClassName", "volumeAttributesClassName", Any),
];

const VOLUME_SOURCE: Table = &[
    ("GCEPersistentDisk", "gcePersistentDisk", Any),
    ("AWSElasticBlockStore", "awsElasticBlockStore", Any),
    ("HostPath", "hostPath", Pointer(HOST_PATH)),
    ("Glusterfs", "glusterfs", Any),
    ("NFS", "nfs", Pointer(NFS_SOURCE)),
    ("RBD", "rbd", Any),
    ("Quobyte", "quobyte", Any),
    ("ISCSI", "iscsi", Any),
    ("FlexVolume", "flexVolume", Any),
    ("Cinder", "cinder", Any),
    ("CephFS", "cephfs", Any),
    ("FC", "fc", Any),
    ("Flocker", "flocker", Any),
    ("AzureFile", "azureFile", Any),
    ("VsphereVolume", "vsphereVolume", Any),
    ("AzureDisk", "azureDisk", Any),
    ("PhotonPersistentDisk", "photonPersistentDisk", Any),
    ("PortworxVolume", "portworxVolume", Any),
    ("ScaleIO", "scaleIO", Any),
    ("Local", "local", Any),
    ("StorageOS", "storageos", Any),
    ("CSI", "csi", Any),
];

const HOST_PATH: Table = &[("Path", "path", Text), ("Type", "type", Any)];

const NFS_SOURCE: Table = &[("Server", "server", Text), ("Path", "path", Text), ("ReadOnly", "readOnly", Flag)];

const KEY_TO_PATH: Table = &[("Key", "key", Text), ("Path", "path", Text), ("Mode", "mode", Any)];

const SECRET_SOURCE: Table = &[
    ("SecretName", "secretName", Text),
    ("Items", "items", List(KEY_TO_PATH)),
    ("DefaultMode", "defaultMode", Any),
    ("Optional", "optional", Any),
];

const MAP_SOURCE: Table = &[
    ("Name", "name", Text),
    ("Items", "items", List(KEY_TO_PATH)),
    ("DefaultMode", "defaultMode", Any),
    ("Optional", "optional", Any),
];

const FIELD: Table = &[("APIVersion", "apiVersion", Text), ("FieldPath", "fieldPath", Text)];

const DOWNWARD_FILE: Table = &[
    ("Path", "path", Text),
    ("FieldRef", "fieldRef", Pointer(FIELD)),
    ("ResourceFieldRef", "resourceFieldRef", Any),
    ("Mode", "mode", Any),
];

const MAP_PROJECTION: Table =
    &[("Name", "name", Text), ("Items", "items", List(KEY_TO_PATH)), ("Optional", "optional", Any)];

const PROJECTION: Table = &[
    ("Secret", "secret", Pointer(MAP_PROJECTION)),
    ("DownwardAPI", "downwardAPI", Pointer(&[("Items", "items", List(DOWNWARD_FILE))])),
    ("ConfigMap", "configMap", Pointer(MAP_PROJECTION)),
    (
        "ServiceAccountToken",
        "serviceAccountToken",
        Pointer(&[
            ("Audience", "audience", Text),
            ("ExpirationSeconds", "expirationSeconds", Any),
            ("Path", "path", Text),
        ]),
    ),
    ("ClusterTrustBundle", "clusterTrustBundle", Any),
    ("PodCertificate", "podCertificate", Any),
];

const VOLUME: Table = &[
    ("Name", "name", Text),
    ("HostPath", "hostPath", Pointer(HOST_PATH)),
    ("EmptyDir", "emptyDir", Pointer(&[("Medium", "medium", Text), ("SizeLimit", "sizeLimit", Any)])),
    ("GCEPersistentDisk", "gcePersistentDisk", Any),
    ("AWSElasticBlockStore", "awsElasticBlockStore", Any),
    ("GitRepo", "gitRepo", Any),
    ("Secret", "secret", Pointer(SECRET_SOURCE)),
    ("NFS", "nfs", Pointer(NFS_SOURCE)),
    ("ISCSI", "iscsi", Any),
    ("Glusterfs", "glusterfs", Any),
    (
        "PersistentVolumeClaim",
        "persistentVolumeClaim",
        Pointer(&[("ClaimName", "claimName", Text), ("ReadOnly", "readOnly", Flag)]),
    ),
    ("RBD", "rbd", Any),
    ("Quobyte", "quobyte", Any),
    ("FlexVolume", "flexVolume", Any),
    ("Cinder", "cinder", Any),
    ("CephFS", "cephfs", Any),
    ("Flocker", "flocker", Any),
    (
        "DownwardAPI",
        "downwardAPI",
        Pointer(&[("Items", "items", List(DOWNWARD_FILE)), ("DefaultMode", "defaultMode", Any)]),
    ),
    ("FC", "fc", Any),
    ("AzureFile", "azureFile", Any),
    ("ConfigMap", "configMap", Pointer(MAP_SOURCE)),
    ("VsphereVolume", "vsphereVolume", Any),
    ("AzureDisk", "azureDisk", Any),
    ("PhotonPersistentDisk", "photonPersistentDisk", Any),
    (
        "Projected",
        "projected",
        Pointer(&[("Sources", "sources", List(PROJECTION)), ("DefaultMode", "defaultMode", Any)]),
    ),
    ("PortworxVolume", "portworxVolume", Any),
    ("ScaleIO", "scaleIO", Any),
    ("StorageOS", "storageos", Any),
    ("CSI", "csi", Any),
    ("Ephemeral", "ephemeral", Any),
    ("Image", "image", Any),
];

const KEY_REFERENCE: Table = &[("Name", "name", Text), ("Key", "key", Text), ("Optional", "optional", Any)];

const ENVIRONMENT: Table = &[
    ("Name", "name", Text),
    ("Value", "value", Text),
    (
        "ValueFrom",
        "valueFrom",
        Pointer(&[
            ("FieldRef", "fieldRef", Pointer(FIELD)),
            ("ResourceFieldRef", "resourceFieldRef", Any),
            ("ConfigMapKeyRef", "configMapKeyRef", Pointer(KEY_REFERENCE)),
            ("SecretKeyRef", "secretKeyRef", Pointer(KEY_REFERENCE)),
            ("FileKeyRef", "fileKeyRef", Any),
        ]),
    ),
];

const PORT: Table = &[
    ("Name", "name", Text),
    ("HostPort", "hostPort", Number),
    ("ContainerPort", "containerPort", Number),
    ("Protocol", "protocol", Text),
    ("HostIP", "hostIP", Text),
];

const MOUNT: Table = &[
    ("Name", "name", Text),
    ("ReadOnly", "readOnly", Flag),
    ("RecursiveReadOnly", "recursiveReadOnly", Any),
    ("MountPath", "mountPath", Text),
    ("SubPath", "subPath", Text),
    ("MountPropagation", "mountPropagation", Any),
    ("SubPathExpr", "subPathExpr", Text),
];

const CONTAINER: Table = &[
    ("Name", "name", Text),
    ("Image", "image", Text),
    ("Command", "command", Any),
    ("Args", "args", Any),
    ("WorkingDir", "workingDir", Text),
    ("Ports", "ports", List(PORT)),
    ("EnvFrom", "envFrom", Any),
    ("Env", "env", List(ENVIRONMENT)),
    ("Resources", "resources", Struct(RESOURCES)),
    ("ResizePolicy", "resizePolicy", Any),
    ("RestartPolicy", "restartPolicy", Any),
    ("RestartPolicyRules", "restartPolicyRules", Any),
    ("VolumeMounts", "volumeMounts", List(MOUNT)),
    ("VolumeDevices", "volumeDevices", Any),
    ("LivenessProbe", "livenessProbe", Any),
    ("ReadinessProbe", "readinessProbe", Any),
    ("StartupProbe", "startupProbe", Any),
    ("Lifecycle", "lifecycle", Any),
    ("TerminationMessagePath", "terminationMessagePath", Text),
    ("TerminationMessagePolicy", "terminationMessagePolicy", Text),
    ("ImagePullPolicy", "imagePullPolicy", Text),
    ("SecurityContext", "securityContext", Any),
    ("Stdin", "stdin", Flag),
    ("StdinOnce", "stdinOnce", Flag),
    ("TTY", "tty", Flag),
];

const EPHEMERAL_CONTAINER: Table =
    &[("", "", Embedded(CONTAINER)), ("TargetContainerName", "targetContainerName", Text)];

const TOLERATION: Table = &[
    ("Key", "key", Text),
    ("Operator", "operator", Text),
    ("Value", "value", Text),
    ("Effect", "effect", Text),
    ("TolerationSeconds", "tolerationSeconds", Any),
];

/// Internally, the namespaces shared with the node belong to the security context.
const SECURITY_CONTEXT: Table = &[
    ("HostNetwork", "hostNetwork", Flag),
    ("HostPID", "hostPID", Flag),
    ("HostIPC", "hostIPC", Flag),
    ("ShareProcessNamespace", "shareProcessNamespace", Any),
    ("HostUsers", "hostUsers", Any),
    ("SELinuxOptions", "securityContext/seLinuxOptions", Any),
    ("WindowsOptions", "securityContext/windowsOptions", Any),
    ("RunAsUser", "securityContext/runAsUser", Any),
    ("RunAsGroup", "securityContext/runAsGroup", Any),
    ("RunAsNonRoot", "securityContext/runAsNonRoot", Any),
    ("SupplementalGroups", "securityContext/supplementalGroups", Any),
    ("SupplementalGroupsPolicy", "securityContext/supplementalGroupsPolicy", Any),
    ("FSGroup", "securityContext/fsGroup", Any),
    ("FSGroupChangePolicy", "securityContext/fsGroupChangePolicy", Any),
    ("Sysctls", "securityContext/sysctls", Any),
    ("SeccompProfile", "securityContext/seccompProfile", Any),
    ("AppArmorProfile", "securityContext/appArmorProfile", Any),
    ("SELinuxChangePolicy", "securityContext/seLinuxChangePolicy", Any),
];

const POD_SPEC: Table = &[
    ("Volumes", "volumes", List(VOLUME)),
    ("InitContainers", "initContainers", List(CONTAINER)),
    ("Containers", "containers", List(CONTAINER)),
    ("EphemeralContainers", "ephemeralContainers", List(EPHEMERAL_CONTAINER)),
    ("RestartPolicy", "restartPolicy", Text),
    ("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", Any),
    ("ActiveDeadlineSeconds", "activeDeadlineSeconds", Any),
    ("DNSPolicy", "dnsPolicy", Text),
    ("NodeSelector", "nodeSelector", Any),
    ("ServiceAccountName", "serviceAccountName", Text),
    ("AutomountServiceAccountToken", "automountServiceAccountToken", Any),
    ("NodeName", "nodeName", Text),
    ("SecurityContext", "", Inline(SECURITY_CONTEXT)),
    ("ImagePullSecrets", "imagePullSecrets", List(&[("Name", "name", Text)])),
    ("Hostname", "hostname", Text),
    ("Subdomain", "subdomain", Text),
    ("SetHostnameAsFQDN", "setHostnameAsFQDN", Any),
    ("Affinity", "affinity", Any),
    ("SchedulerName", "schedulerName", Text),
    ("Tolerations", "tolerations", List(TOLERATION)),
    ("HostAliases", "hostAliases", Any),
    ("PriorityClassName", "priorityClassName", Text),
    ("Priority", "priority", Any),
    ("PreemptionPolicy", "preemptionPolicy", Any),
    ("DNSConfig", "dnsConfig", Any),
    ("ReadinessGates", "readinessGates", Any),
    ("RuntimeClassName", "runtimeClassName", Any),
    ("Overhead", "overhead", Any),
    ("EnableServiceLinks", "enableServiceLinks", Any),
    ("TopologySpreadConstraints", "topologySpreadConstraints", Any),
    ("OS", "os", Any),
    ("SchedulingGates", "schedulingGates", Any),
    ("ResourceClaims", "resourceClaims", Any),
    ("Resources", "resources", Any),
    ("HostnameOverride", "hostnameOverride", Any),
    ("SchedulingGroup", "schedulingGroup", Any),
];

const DEVICE_REQUEST: Table = &[
    ("DeviceClassName", "deviceClassName", Text),
    ("Selectors", "selectors", Any),
    ("AllocationMode", "allocationMode", Text),
    ("Count", "count", Number),
    ("AdminAccess", "adminAccess", Any),
    ("Tolerations", "tolerations", Any),
    ("Capacity", "capacity", Any),
];

const RESOURCE_CLAIM_SPEC: Table = &[(
    "Devices",
    "devices",
    Struct(&[
        (
            "Requests",
            "requests",
            List(&[
                ("Name", "name", Text),
                ("Exactly", "exactly", Pointer(DEVICE_REQUEST)),
                ("FirstAvailable", "firstAvailable", Any),
            ]),
        ),
        ("Constraints", "constraints", Any),
        ("Config", "config", Any),
    ]),
)];

const NAMED: Table = &[("Name", "name", Text)];

const FLOW_SPEC: Table = &[
    ("PriorityLevelConfiguration", "priorityLevelConfiguration", Struct(NAMED)),
    ("MatchingPrecedence", "matchingPrecedence", Number),
    ("DistinguisherMethod", "distinguisherMethod", Pointer(DISTINGUISHER)),
    (
        "Rules",
        "rules",
        List(&[
            (
                "Subjects",
                "subjects",
                List(&[
                    ("Kind", "kind", Text),
                    ("User", "user", Pointer(NAMED)),
                    ("Group", "group", Pointer(NAMED)),
                    (
                        "ServiceAccount",
                        "serviceAccount",
                        Pointer(&[("Namespace", "namespace", Text), ("Name", "name", Text)]),
                    ),
                ]),
            ),
            (
                "ResourceRules",
                "resourceRules",
                List(&[
                    ("Verbs", "verbs", Any),
                    ("APIGroups", "apiGroups", Any),
                    ("Resources", "resources", Any),
                    ("ClusterScope", "clusterScope", Flag),
                    ("Namespaces", "namespaces", Any),
                ]),
            ),
            (
                "NonResourceRules",
                "nonResourceRules",
                List(&[("Verbs", "verbs", Any), ("NonResourceURLs", "nonResourceURLs", Any)]),
            ),
        ]),
    ),
];

const DISTINGUISHER: Table = &[("Type", "type", Text)];

const LEVEL_SPEC: Table = &[
    ("Type", "type", Text),
    (
        "Limited",
        "limited",
        Pointer(&[
            ("NominalConcurrencyShares", "nominalConcurrencyShares", Number),
            (
                "LimitResponse",
                "limitResponse",
                Struct(&[
                    ("Type", "type", Text),
                    (
                        "Queuing",
                        "queuing",
                        Pointer(&[
                            ("Queues", "queues", Number),
                            ("HandSize", "handSize", Number),
                            ("QueueLengthLimit", "queueLengthLimit", Number),
                        ]),
                    ),
                ]),
            ),
            ("LendablePercent", "lendablePercent", Any),
            ("BorrowingLimitPercent", "borrowingLimitPercent", Any),
        ]),
    ),
    (
        "Exempt",
        "exempt",
        Pointer(&[
            ("NominalConcurrencyShares", "nominalConcurrencyShares", Any),
            ("LendablePercent", "lendablePercent", Any),
        ]),
    ),
];

/// The spec of a `FlowSchema`.
pub(crate) fn flow_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), FLOW_SPEC)
}

/// How a `FlowSchema` tells its flows apart.
pub(crate) fn distinguisher(method: &Node<'_, '_>) -> Shown {
    Shown::of(method.value(), DISTINGUISHER)
}

/// The spec of a `PriorityLevelConfiguration`.
pub(crate) fn level_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), LEVEL_SPEC)
}

/// The spec of a `StorageVersionMigration`.
pub(crate) fn migration_spec(spec: &Node<'_, '_>) -> Shown {
    const RESOURCE: Table = &[("Group", "group", Text), ("Resource", "resource", Text)];
    Shown::of(spec.value(), &[("Resource", "resource", Struct(RESOURCE))])
}

/// A toleration.
pub(crate) fn toleration(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), TOLERATION)
}

/// A claim template's spec, whose metadata Go shows inline.
pub(crate) fn resource_claim_template_spec(spec: &Node<'_, '_>) -> Shown {
    with_metadata(spec, Shown::of(spec.field("spec").value(), RESOURCE_CLAIM_SPEC))
}

/// A claim's spec.
pub(crate) fn claim_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), CLAIM_SPEC)
}

/// The source of a PersistentVolume.
pub(crate) fn volume_source(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), VOLUME_SOURCE)
}

/// A resource claim's spec.
pub(crate) fn resource_claim_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), RESOURCE_CLAIM_SPEC)
}

/// A pod's spec.
pub(crate) fn pod_spec(spec: &Value) -> Shown {
    Shown::of(Some(spec), POD_SPEC)
}

const CONTAINER_CONTEXT: Table = &[
    ("Capabilities", "capabilities", Pointer(&[("Add", "add", Any), ("Drop", "drop", Any)])),
    ("Privileged", "privileged", Any),
    ("SELinuxOptions", "seLinuxOptions", Any),
    ("WindowsOptions", "windowsOptions", Any),
    ("RunAsUser", "runAsUser", Any),
    ("RunAsGroup", "runAsGroup", Any),
    ("RunAsNonRoot", "runAsNonRoot", Any),
    ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem", Any),
    ("AllowPrivilegeEscalation", "allowPrivilegeEscalation", Any),
    ("ProcMount", "procMount", Any),
    ("SeccompProfile", "seccompProfile", Any),
    ("AppArmorProfile", "appArmorProfile", Any),
];

/// The security context of a container.
pub(crate) fn security_context(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), CONTAINER_CONTEXT)
}

/// An ephemeral container.
pub(crate) fn ephemeral_container(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), EPHEMERAL_CONTAINER)
}

/// A claim that a pod names.
pub(crate) fn pod_resource_claim(at: &Node<'_, '_>) -> Shown {
    const CLAIM: Table = &[
        ("Name", "name", Text),
        ("ResourceClaimName", "resourceClaimName", Any),
        ("ResourceClaimTemplateName", "resourceClaimTemplateName", Any),
    ];
    Shown::of(at.value(), CLAIM)
}

/// Where a PersistentVolume can be used; `null` for anywhere.
pub(crate) fn volume_affinity(at: &Node<'_, '_>) -> Shown {
    const AFFINITY: Table = &[(
        "Required",
        "required",
        Pointer(&[("NodeSelectorTerms", "nodeSelectorTerms", List(structs::NODE_SELECTOR_TERM))]),
    )];
    if at.is_unset() { Shown::Leaf(Value::Null) } else { Shown::of(at.value(), AFFINITY) }
}

/// A taint of a node.
pub(crate) fn taint(at: &Node<'_, '_>) -> Shown {
    const TAINT: Table =
        &[("Key", "key", Text), ("Value", "value", Text), ("Effect", "effect", Text), ("TimeAdded", "timeAdded", Any)];
    Shown::of(at.value(), TAINT)
}

/// A pod template, whose metadata Go shows inline.
pub(crate) fn pod_template(template: &Node<'_, '_>) -> Shown {
    with_metadata(template, Shown::of(template.field("spec").value(), POD_SPEC))
}

fn with_metadata(template: &Node<'_, '_>, spec: Shown) -> Shown {
    let metadata = template.field("metadata");
    let known = metadata.map().map(field::metadata_in_go_order).unwrap_or_default().into_iter();
    let mut fields: Vec<_> = known.map(|(key, value)| (key.clone(), Shown::Leaf(value.clone()))).collect();
    fields.push(("Spec".to_owned(), spec));
    Shown::Struct(fields)
}

/// A struct as Go shows it, in the order of the Go type.
pub(crate) enum Shown {
    Leaf(Value),
    List(Vec<Shown>),
    Struct(Vec<(String, Shown)>),
}

impl Shown {
    /// A struct of these fields, for types that are shown whole in one place only.
    pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Self::Struct(fields.into_iter().map(|(name, value)| (name.to_owned(), Self::Leaf(value))).collect())
    }

    /// A struct of these fields, some of them structs themselves.
    pub(crate) fn nested(fields: Vec<(&str, Shown)>) -> Self {
        Self::Struct(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub(crate) fn of(value: Option<&Value>, table: Table) -> Self {
        let mut fields = Vec::with_capacity(table.len());
        for (name, key, shape) in table {
            match (shape, Self::field(value, key, *shape)) {
                (Embedded(_), Self::Struct(embedded)) => fields.extend(embedded),
                (_, shown) => fields.push(((*name).to_owned(), shown)),
            }
        }
        Self::Struct(fields)
    }

    fn field(parent: Option<&Value>, key: &str, shape: Shape) -> Self {
        if let Inline(table) | Embedded(table) = shape {
            return Self::of(parent, table);
        }
        let value = key.split('/').try_fold(parent.unwrap_or(&Value::Null), |at, step| at.get(step));
        let value = value.filter(|value| !value.is_null());
        match (shape, value) {
            (Struct(table), value) => Self::of(value, table),
            (Pointer(table), Some(value)) => Self::of(Some(value), table),
            (List(table), Some(Value::Array(list))) => {
                Self::List(list.iter().map(|one| Self::of(Some(one), table)).collect())
            }
            (Any | Text | Number | Flag, Some(value)) => Self::Leaf(value.clone()),
            (Text, None) => Self::Leaf("".into()),
            (Number, None) => Self::Leaf(0.into()),
            (Flag, None) => Self::Leaf(false.into()),
            _ => Self::Leaf(Value::Null),
        }
    }

    /// On one line, as error texts show values.
    pub(crate) fn compact(&self) -> String {
        match self {
            Self::Leaf(value) => field::show(value),
            Self::List(list) => format!("[{}]", list.iter().map(Self::compact).collect::<Vec<_>>().join(",")),
            Self::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), value.compact()))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }

    /// On many lines, indented by one blank a level.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.write(0, String::new(), "", &mut lines);
        lines
    }

    fn write(&self, depth: usize, name: String, end: &str, lines: &mut Vec<String>) {
        let indent = " ".repeat(depth);
        match self {
            Self::Leaf(Value::Object(map)) if !map.is_empty() => {
                let fields = field::in_go_order(map).into_iter();
                let fields = fields.map(|(key, value)| (key.clone(), Self::Leaf(value.clone()))).collect();
                Self::Struct(fields).write(depth, name, end, lines);
            }
            Self::Leaf(Value::Array(list)) if !list.is_empty() => {
                Self::List(list.iter().cloned().map(Self::Leaf).collect()).write(depth, name, end, lines);
            }
            Self::Leaf(value) => lines.push(format!("{indent}{name}{value}{end}")),
            Self::List(list) => {
                lines.push(format!("{indent}{name}["));
                for (at, one) in list.iter().enumerate() {
                    one.write(depth + 1, String::new(), if at + 1 < list.len() { "," } else { "" }, lines);
                }
                lines.push(format!("{indent}]{end}"));
            }
            Self::Struct(fields) => {
                lines.push(format!("{indent}{name}{{"));
                for (at, (key, value)) in fields.iter().enumerate() {
                    let name = format!("{}: ", Value::from(key.as_str()));
                    value.write(depth + 1, name, if at + 1 < fields.len() { "," } else { "" }, lines);
                }
                lines.push(format!("{indent}}}{end}"));
            }
        }
    }
}

/// How many unchanged lines stand around a change.
const CONTEXT: usize = 3;

/// What differs between two structs, as a unified diff of their lines.
pub(crate) fn difference(old: &Shown, new: &Shown) -> String {
    let (old, new) = (old.lines(), new.lines());
    let edits = edits(&old, &new);
    let mut text = String::new();
    let mut at = 0;
    while let Some(first) = (at..edits.len()).find(|index| edits[*index].0 != ' ') {
        let start = first.saturating_sub(CONTEXT).max(at);
        let mut last = first;
        let mut end = first + 1;
        while end < edits.len() && end <= last + 2 * CONTEXT {
            if edits[end].0 != ' ' {
                last = end;
            }
            end += 1;
        }
        let end = (last + CONTEXT + 1).min(edits.len());
        write_hunk(&edits, start, end, &mut text);
        at = end;
    }
    text
}

fn write_hunk(edits: &[(char, &str)], start: usize, end: usize, text: &mut String) {
    let count = |range: &[(char, &str)], skip: char| range.iter().filter(|(kind, _)| *kind != skip).count();
    let (before, hunk) = (&edits[..start], &edits[start..end]);
    let _ = writeln!(
        text,
        "@@ -{},{} +{},{} @@",
        count(before, '+') + 1,
        count(hunk, '+'),
        count(before, '-') + 1,
        count(hunk, '-'),
    );
    for (kind, line) in hunk {
        let _ = writeln!(text, "{kind}{line}");
    }
}

/// The shortest way from one list of lines to the other: `' '` keeps, `'-'` removes, `'+'` adds.
fn edits<'a>(old: &'a [String], new: &'a [String]) -> Vec<(char, &'a str)> {
    let same_start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let same_end =
        old[same_start..].iter().rev().zip(new[same_start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[same_start..old.len() - same_end], &new[same_start..new.len() - same_end]);
    let mut edits: Vec<_> = old[..same_start].iter().map(|line| (' ', line.as_str())).collect();
    // Beyond this size a table of all pairs costs too much: everything is shown as replaced.
    if a.len().saturating_mul(b.len()) > 4_000_000 {
        edits.extend(a.iter().map(|line| ('-', line.as_str())));
        edits.extend(b.iter().map(|line| ('+', line.as_str())));
    } else {
        align(a, b, &mut edits);
    }
    edits.extend(old[old.len() - same_end..].iter().map(|line| (' ', line.as_str())));
    edits
}

fn align<'a>(a: &'a [String], b: &'a [String], edits: &mut Vec<(char, &'a str)>) {
    let width = b.len() + 1;
    let mut common = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            edits.push((' ', &a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            edits.push(('-', &a[i]));
            i += 1;
        } else {
            edits.push(('+', &b[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_shows_three_lines_around_a_change() {
        let show = |class: &str| Shown::of(Some(&json!({"storageClassName": class})), CLAIM_SPEC);
        let want = "@@ -6,7 +6,7 @@\n   \"Requests\": null\n  },\n  \"VolumeName\": \"\",\n- \"StorageClassName\": \"s\",\n\
                    + \"StorageClassName\": \"t\",\n  \"VolumeMode\": null,\n  \"DataSource\": null,\n  \"DataSourceRef\": null,\n";
        assert_eq!(difference(&show("s"), &show("t")), want);
    }
}
