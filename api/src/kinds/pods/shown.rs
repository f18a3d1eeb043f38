//! Pod specs as error texts show them: the internal types of Go as tables (upstream: `core.PodSpec`).

use serde_json::Value;

use crate::kinds::rules::shown::Shape::{Any, Embedded, Flag, Inline, List, Number, Pointer, Struct, Text};
use crate::kinds::rules::shown::{self, Shown, Table};
use crate::kinds::rules::tree::Node;

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

/// A toleration.
pub(crate) fn toleration(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), TOLERATION)
}

/// A claim's spec.
pub(crate) fn claim_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), CLAIM_SPEC)
}

/// The source of a PersistentVolume.
pub(crate) fn volume_source(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), VOLUME_SOURCE)
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

/// A pod template, whose metadata Go shows inline.
pub(crate) fn pod_template(template: &Node<'_, '_>) -> Shown {
    shown::with_metadata(template.field("metadata").map(), Shown::of(template.field("spec").value(), POD_SPEC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_shows_three_lines_around_a_change() {
        let show = |class: &str| shown::Shown::of(Some(&json!({"storageClassName": class})), CLAIM_SPEC);
        let want = "@@ -6,7 +6,7 @@\n   \"Requests\": null\n  },\n  \"VolumeName\": \"\",\n- \"StorageClassName\": \"s\",\n\
                    + \"StorageClassName\": \"t\",\n  \"VolumeMode\": null,\n  \"DataSource\": null,\n  \"DataSourceRef\": null,\n";
        assert_eq!(shown::difference(&show("s"), &show("t")), want);
    }
}
