//! What the types of definitions do not say of Go's: which fields come from an embedded struct, whose name stands in the
//! paths of errors, and which texts have a type of their own.

/// The structs that a field of a struct is embedded by, from the outside in: `VolumeSource` for `emptyDir` of `Volume`.
pub(super) fn embedded_by(owner: &str, field: &str) -> &'static [&'static str] {
    match (owner, field) {
        ("IngressRule", "http") => &["IngressRuleValue"],
        ("EphemeralContainer", "targetContainerName") | ("Volume", "name") => &[],
        ("EphemeralContainer", _) => &["EphemeralContainerCommon"],
        ("Volume", _) => &["VolumeSource"],
        ("PersistentVolumeSpec", field) if !OF_PERSISTENT_VOLUMES.contains(&field) => &["PersistentVolumeSource"],
        ("Probe", "exec" | "httpGet" | "tcpSocket" | "grpc") => &["ProbeHandler"],
        ("RuleWithOperations", "operations") | ("NamedRuleWithOperations", "resourceNames") => &[],
        ("RuleWithOperations", _) => &["Rule"],
        ("NamedRuleWithOperations", "operations") => &["RuleWithOperations"],
        ("NamedRuleWithOperations", _) => &["RuleWithOperations", "Rule"],
        (
            "ConfigMapEnvSource"
            | "SecretEnvSource"
            | "ConfigMapKeySelector"
            | "SecretKeySelector"
            | "ConfigMapVolumeSource"
            | "ConfigMapProjection"
            | "SecretProjection",
            "name",
        ) => &["LocalObjectReference"],
        _ => &[],
    }
}

/// The fields of a `PersistentVolumeSpec` that are its own.
const OF_PERSISTENT_VOLUMES: [&str; 9] = [
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
];

/// The type of a text, or of the texts in a list, where it is not `string`.
pub(super) fn text_type(owner: &str, field: &str) -> Option<&'static str> {
    let types = TYPES.lines().filter_map(|line| line.split_once(": "));
    let mut found = types.filter(|(fields, _)| {
        fields
            .split(' ')
            .filter_map(|one| one.split_once('.'))
            .any(|(struct_, name)| name == field && (struct_ == owner || struct_ == "*"))
    });
    found.next().map(|(_, type_)| type_)
}

/// Fields with their struct (`*` for any), and their type.
const TYPES: &str = "\
*.imagePullPolicy: v1.PullPolicy
*.terminationMessagePolicy: v1.TerminationMessagePolicy
*.accessModes: v1.PersistentVolumeAccessMode
*.protocol: v1.Protocol
*.volumeMode: v1.PersistentVolumeMode
ObjectMeta.uid OwnerReference.uid ObjectReference.uid Preconditions.uid: types.UID
*.preemptionPolicy: v1.PreemptionPolicy
Capabilities.add Capabilities.drop: v1.Capability
Container.restartPolicy EphemeralContainer.restartPolicy: v1.ContainerRestartPolicy
PodSpec.restartPolicy: v1.RestartPolicy
PodSpec.dnsPolicy: v1.DNSPolicy
PodStatus.phase: v1.PodPhase
PodStatus.qosClass: v1.PodQOSClass
PodOS.name: v1.OSName
PodCondition.type: v1.PodConditionType
NodeCondition.type: v1.NodeConditionType
NamespaceCondition.type: v1.NamespaceConditionType
DeploymentCondition.type: v1.DeploymentConditionType
ReplicaSetCondition.type: v1.ReplicaSetConditionType
StatefulSetCondition.type: v1.StatefulSetConditionType
DaemonSetCondition.type: v1.DaemonSetConditionType
JobCondition.type: v1.JobConditionType
CertificateSigningRequestCondition.type: v1.RequestConditionType
CustomResourceDefinitionCondition.type: v1.CustomResourceDefinitionConditionType
PodCondition.status NodeCondition.status NamespaceCondition.status DeploymentCondition.status JobCondition.status \
ReplicaSetCondition.status StatefulSetCondition.status DaemonSetCondition.status Condition.status \
CertificateSigningRequestCondition.status: v1.ConditionStatus
CustomResourceDefinitionCondition.status: v1.ConditionStatus
NamespaceSpec.finalizers: v1.FinalizerName
NamespaceStatus.phase: v1.NamespacePhase
PersistentVolumeSpec.persistentVolumeReclaimPolicy StorageClass.reclaimPolicy: v1.PersistentVolumeReclaimPolicy
PersistentVolumeStatus.phase: v1.PersistentVolumePhase
PersistentVolumeClaimStatus.phase: v1.PersistentVolumeClaimPhase
ServiceSpec.type: v1.ServiceType
ServiceSpec.sessionAffinity: v1.ServiceAffinity
ServiceSpec.externalTrafficPolicy: v1.ServiceExternalTrafficPolicy
ServiceSpec.internalTrafficPolicy: v1.ServiceInternalTrafficPolicy
ServiceSpec.ipFamilies: v1.IPFamily
ServiceSpec.ipFamilyPolicy: v1.IPFamilyPolicy
ResourceQuotaSpec.scopes ScopedResourceSelectorRequirement.scopeName: v1.ResourceQuotaScope
ScopedResourceSelectorRequirement.operator: v1.ScopeSelectorOperator
LimitRangeItem.type: v1.LimitType
NodeSelectorRequirement.operator: v1.NodeSelectorOperator
NodeAddress.type: v1.NodeAddressType
LabelSelectorRequirement.operator: v1.LabelSelectorOperator
Taint.effect Toleration.effect: v1.TaintEffect
Toleration.operator: v1.TolerationOperator
HTTPGetAction.scheme: v1.URIScheme
EmptyDirVolumeSource.medium: v1.StorageMedium
HostPathVolumeSource.type: v1.HostPathType
Secret.type: v1.SecretType
SeccompProfile.type: v1.SeccompProfileType
AppArmorProfile.type: v1.AppArmorProfileType
PodSecurityContext.fsGroupChangePolicy: v1.PodFSGroupChangePolicy
PodSecurityContext.supplementalGroupsPolicy: v1.SupplementalGroupsPolicy
PodSecurityContext.seLinuxChangePolicy: v1.PodSELinuxChangePolicy
SecurityContext.procMount: v1.ProcMountType
TopologySpreadConstraint.whenUnsatisfiable: v1.UnsatisfiableConstraintAction
TopologySpreadConstraint.nodeAffinityPolicy TopologySpreadConstraint.nodeTaintsPolicy: v1.NodeInclusionPolicy
VolumeMount.mountPropagation: v1.MountPropagationMode
VolumeMount.recursiveReadOnly: v1.RecursiveReadOnlyMode
ContainerResizePolicy.resourceName: v1.ResourceName
ContainerResizePolicy.restartPolicy: v1.ResourceResizeRestartPolicy
DeploymentStrategy.type: v1.DeploymentStrategyType
DaemonSetUpdateStrategy.type: v1.DaemonSetUpdateStrategyType
StatefulSetUpdateStrategy.type: v1.StatefulSetUpdateStrategyType
StatefulSetSpec.podManagementPolicy: v1.PodManagementPolicyType
StatefulSetPersistentVolumeClaimRetentionPolicy.whenDeleted StatefulSetPersistentVolumeClaimRetentionPolicy.whenScaled: \
v1.PersistentVolumeClaimRetentionPolicyType
JobSpec.completionMode: v1.CompletionMode
JobSpec.podReplacementPolicy: v1.PodReplacementPolicy
CronJobSpec.concurrencyPolicy: v1.ConcurrencyPolicy
PodFailurePolicyRule.action: v1.PodFailurePolicyAction
PodFailurePolicyOnExitCodesRequirement.operator: v1.PodFailurePolicyOnExitCodesOperator
HTTPIngressPath.pathType: v1.PathType
NetworkPolicySpec.policyTypes: v1.PolicyType
PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy: v1.UnhealthyPodEvictionPolicyType
RuleWithOperations.operations NamedRuleWithOperations.operations: v1.OperationType
RuleWithOperations.scope NamedRuleWithOperations.scope: v1.ScopeType
*.failurePolicy: v1.FailurePolicyType
*.matchPolicy: v1.MatchPolicyType
*.sideEffects: v1.SideEffectClass
*.reinvocationPolicy: v1.ReinvocationPolicyType
ValidatingAdmissionPolicyBindingSpec.validationActions: v1.ValidationAction
ParamRef.parameterNotFoundAction: v1.ParameterNotFoundActionType
Validation.reason: v1.StatusReason
CertificateSigningRequestSpec.usages: v1.KeyUsage
StorageClass.volumeBindingMode: v1.VolumeBindingMode
CSIDriverSpec.fsGroupPolicy: v1.FSGroupPolicy
CSIDriverSpec.volumeLifecycleModes: v1.VolumeLifecycleMode
MetricSpec.type: v2.MetricSourceType
MetricTarget.type: v2.MetricTargetType
HPAScalingPolicy.type: v2.HPAScalingPolicyType
HPAScalingRules.selectPolicy: v2.ScalingPolicySelect
EndpointSlice.addressType: v1.AddressType
PriorityLevelConfigurationSpec.type: v1.PriorityLevelEnablement
LimitResponse.type: v1.LimitResponseType
FlowDistinguisherMethod.type: v1.FlowDistinguisherMethodType
LeaseSpec.strategy: v1.CoordinatedLeaseStrategy
ManagedFieldsEntry.operation: v1.ManagedFieldsOperationType
DeleteOptions.propagationPolicy: v1.DeletionPropagation
CustomResourceDefinitionSpec.scope: v1.ResourceScope
CustomResourceConversion.strategy: v1.ConversionStrategyType
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_can_be_found() {
        for (fields, type_) in TYPES.lines().map(|line| line.split_once(": ").expect("fields and a type")) {
            for (owner, field) in fields.split(' ').map(|field| field.split_once('.').expect("a struct and a field")) {
                assert_eq!(text_type(owner, field), Some(type_), "{owner}.{field}");
            }
        }
        assert_eq!(text_type("ObjectMeta", "name"), None);
    }
}
