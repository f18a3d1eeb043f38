#!/usr/bin/env python3
"""Writes schemas.txt, descriptions.txt.gz and parameters.txt from the OpenAPI v3 documents of a Kubernetes API server.

    generate.py REFERENCE_DIRECTORY      (holds openapi-v3/*.json)

See README.md for the format. Facts that OpenAPI does not hold (which optional scalars are pointers in the Go types,
which absent fields print as null) are the tables below.
"""
import glob
import gzip
import json
import pathlib
import sys

# Optional integers that are plain values: zero means absent and is not printed. `Definition.field` or `field`.
VALUE_INTEGERS = """
    JobStatus.active JobStatus.failed JobStatus.succeeded DeploymentStatus.availableReplicas
    ReplicaSetStatus.availableReplicas ReplicationControllerStatus.availableReplicas Status.code Event.count
    EventSeries.count DeviceSubRequest.count ExactDeviceRequest.count DeviceRequest.count
    StatefulSetStatus.currentReplicas HorizontalPodAutoscalerStatus.currentReplicas deprecatedCount
    failureThreshold fullyLabeledReplicas generation healthCheckNodePort hostPort initialDelaySeconds minReadySeconds
    nodePort number numberAvailable numberUnavailable observedGeneration AWSElasticBlockStoreVolumeSource.partition
    GCEPersistentDiskVolumeSource.partition periodSeconds CustomResourceColumnDefinition.priority readyReplicas
    DeploymentStatus.replicas retryAfterSeconds signal sizeBytes successThreshold Probe.timeoutSeconds
    unavailableReplicas updatedNumberScheduled updatedReplicas ScaleSpec.replicas
""".split()
POINTER_INTEGERS = ["HorizontalPodAutoscalerStatus.observedGeneration"]

# Optional lists of which an empty one is told from an absent one, since only the latter has a default.
KEPT_LISTS = ["HPAScalingRules.policies"]

# Optional booleans that are plain values.
VALUE_BOOLEANS = """
    authenticated chapAuthDiscovery chapAuthSession clusterScope denied deprecated exclusiveMaximum exclusiveMinimum
    globalDefault hostIPC hostNetwork hostPID insecureSkipTLSVerify nullable paused preserveUnknownFields
    publishNotReadyAddresses readOnly sslEnabled stdin stdinOnce tty uniqueItems unschedulable
    x-kubernetes-embedded-resource x-kubernetes-int-or-string io.k8s.api.resource.v1beta1.ResourceSliceSpec.allNodes
""".split()

# Optional strings that are pointers: an empty one is printed.
POINTER_STRINGS = """
    TypedObjectReference.apiGroup io.k8s.api.core.v1.TypedLocalObjectReference.apiGroup
    IngressClassParametersReference.apiGroup appProtocol capacityKey completionMode
    PodFailurePolicyOnExitCodesRequirement.containerName currentVolumeAttributesClassName deprecationWarning
    DeviceTaintSelector.device DeviceTaintSelector.driver DeviceTaintSelector.pool distinctAttribute
    extendedResourceName failedIndexes failurePolicy fsGroupChangePolicy fsGroupPolicy CSIVolumeSource.fsType
    LocalVolumeSource.fsType gmsaCredentialSpec gmsaCredentialSpecName runAsUserName holderIdentity
    io.k8s.api.discovery.v1.Endpoint.hostname EndpointAddress.nodeName io.k8s.api.discovery.v1.Endpoint.nodeName
    Device.nodeName BasicDevice.nodeName io.k8s.api.resource.v1.ResourceSliceSpec.nodeName
    io.k8s.api.resource.v1beta2.ResourceSliceSpec.nodeName PoolStatus.nodeName hostnameOverride ingressClassName
    internalTrafficPolicy ipFamilyPolicy ipMode labelSelectorPath loadBalancerClass localhostProfile managedBy
    matchAttribute matchPolicy mountPropagation io.k8s.api.discovery.v1.EndpointPort.name
    ClusterTrustBundleProjection.name TypedObjectReference.namespace IngressClassParametersReference.namespace
    nodeAffinityPolicy nodeTaintsPolicy parameterNotFoundAction ServiceReference.path persistentVolumeName podGroupName
    poolName preemptionPolicy preferredHolder procMount io.k8s.api.discovery.v1.EndpointPort.protocol
    NetworkPolicyPort.protocol Validation.reason ValidationRule.reason StorageClass.reclaimPolicy recursiveReadOnly
    MutatingWebhook.reinvocationPolicy resourceClaimName resourceClaimTemplateName Preconditions.resourceVersion
    Preconditions.uid Container.restartPolicy EphemeralContainer.restartPolicy runtimeClassName
    NamedRuleWithOperations.scope RuleWithOperations.scope IngressClassParametersReference.scope seLinuxChangePolicy
    secretNamespace selectPolicy shareID ClusterTrustBundleProjection.signerName stopSignal
    PersistentVolumeClaimSpec.storageClassName LeaseSpec.strategy string DeviceAttribute.version
    succeededIndexes PodSecurityContext.supplementalGroupsPolicy timeZone trafficDistribution
    HostPathVolumeSource.type unhealthyPodEvictionPolicy WebhookClientConfig.url validationError
    volumeAttributesClassName volumeBindingMode volumeMode io.k8s.api.discovery.v1.Endpoint.zone propagationPolicy $ref
    PortStatus.error IngressPortStatus.error disruptionMode commonEncodingVersion podReplacementPolicy
    x-kubernetes-list-type x-kubernetes-map-type
""".split()

# Optional fields that print as null when absent. Required lists and required times are found by themselves.
NULLS = """
    TokenRequestSpec.boundObjectRef io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus.currentMetrics
    io.k8s.api.core.v1.TypedLocalObjectReference.apiGroup TypedObjectReference.apiGroup CSINodeDriver.topologyKeys
    CustomResourceDefinitionStatus.conditions CustomResourceDefinitionStatus.storedVersions Role.rules
    ClusterRole.rules io.k8s.api.discovery.v1.EndpointSlice.endpoints io.k8s.api.discovery.v1.EndpointSlice.ports
    io.k8s.api.core.v1.Event.eventTime io.k8s.api.core.v1.Event.firstTimestamp io.k8s.api.core.v1.Event.lastTimestamp
    io.k8s.api.events.v1.Event.eventTime deprecatedFirstTimestamp deprecatedLastTimestamp EventSeries.lastObservedTime
    NodeCondition.lastHeartbeatTime PodCondition.lastProbeTime PersistentVolumeClaimCondition.lastProbeTime
    JobCondition.lastProbeTime DeploymentCondition.lastUpdateTime CertificateSigningRequestCondition.lastUpdateTime
    ContainerStateRunning.startedAt ContainerStateTerminated.startedAt ContainerStateTerminated.finishedAt
    VolumeError.time lastTransitionTime
""".split()

# Required lists that are left out when empty all the same.
OMITTED_LISTS = ["ValidatingAdmissionPolicyBindingSpec.validationActions"]

# Fields whose zero is a default to fill in, but not one to print.
SILENT_DEFAULTS = ["ReplicationControllerSpec.minReadySeconds", "ScaleSpec.replicas"]

# Quantities and int-or-strings that are plain values: printed as this when absent.
ZERO_VALUES = {"ResourceFieldSelector.divisor": '"0"', "ServicePort.targetPort": "0"}


def load(reference):
    """All definitions of all documents."""
    definitions = {}
    for file in sorted(glob.glob(f"{reference}/openapi-v3/*.json")):
        schemas = json.loads(pathlib.Path(file).read_text()).get("components", {}).get("schemas", {})
        for name, schema in schemas.items():
            definitions.setdefault(name, schema)
    return definitions


def listed(table, definition, field):
    short = definition.rsplit(".", 1)[1]
    return any(key in table for key in (field, f"{short}.{field}", f"{definition}.{field}"))


def reference_of(schema):
    where = schema.get("$ref") or next((part["$ref"] for part in schema.get("allOf", [])), None)
    return where.rsplit("/", 1)[1] if where else None


KNOWN = {
    "description", "type", "format", "properties", "required", "default", "items", "additionalProperties", "allOf",
    "$ref", "oneOf", "enum", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-patch-strategy", "x-kubernetes-patch-merge-key", "x-kubernetes-group-version-kind",
    "x-kubernetes-unions",
}


def type_of(schema):
    """`string`, `integer:int32`, `[]T`, `{}T`, `#definition`, `any`."""
    unknown = set(schema) - KNOWN
    assert not unknown, unknown
    if reference := reference_of(schema):
        return f"#{reference}"
    kind = schema.get("type")
    if kind == "array":
        assert not set(schema["items"]) - {"type", "format", "$ref", "items", "additionalProperties"}, schema["items"]
        return f"[]{type_of(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        values = schema["additionalProperties"]
        assert not set(values) - {"type", "format", "$ref", "items"}, values
        return f"{{}}{type_of(values)}"
    if "oneOf" in schema:
        return "oneof:" + ",".join(part["type"] for part in schema["oneOf"]) + ":" + schema.get("format", "")
    if kind is None:
        return "any"
    return f"{kind}:{schema['format']}" if "format" in schema else kind


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


ZEROES = ["", 0, False, {}]


def attributes(schema):
    """What field and definition lines share."""
    out = []
    if list_type := schema.get("x-kubernetes-list-type"):
        keys = schema.get("x-kubernetes-list-map-keys")
        out.append(f"list={list_type}" + (":" + ",".join(keys) if keys else ""))
    if "x-kubernetes-map-type" in schema:
        out.append(f"map={schema['x-kubernetes-map-type']}")
    if "x-kubernetes-patch-strategy" in schema:
        out.append(f"patch={schema['x-kubernetes-patch-strategy']}")
    if "x-kubernetes-patch-merge-key" in schema:
        out.append(f"key={schema['x-kubernetes-patch-merge-key']}")
    return out


def presence(definition, field, schema, required):
    """How an absent or empty value prints: `always`, `null`, `keep`, or nothing for omitted."""
    kind, target = schema.get("type"), reference_of(schema) or ""
    if listed(SILENT_DEFAULTS, definition, field):
        return None
    if listed(ZERO_VALUES, definition, field):
        short = definition.rsplit(".", 1)[1]
        return f"always={ZERO_VALUES[f'{short}.{field}']}"
    if "default" in schema and schema["default"] in ZEROES:
        return "always"
    is_time = target.endswith(".Time") or target.endswith(".MicroTime")
    if listed(NULLS, definition, field) and (is_time or field != "lastTransitionTime"):
        return "null"
    if required and (kind == "array" or is_time):
        return None if listed(OMITTED_LISTS, definition, field) else "null"
    pointer = {
        "integer": lambda: not listed(VALUE_INTEGERS, definition, field) or listed(POINTER_INTEGERS, definition, field),
        "boolean": lambda: not listed(VALUE_BOOLEANS, definition, field),
        "string": lambda: listed(POINTER_STRINGS, definition, field),
        "number": lambda: True,
        "array": lambda: listed(KEPT_LISTS, definition, field),
    }.get(kind, lambda: bool(target))()
    return "keep" if pointer else None


def field_line(definition, field, schema, required):
    parts = [f" {field}", type_of(schema)]
    if required:
        parts.append("required")
    if shown := presence(definition, field, schema, required):
        parts.append(shown)
    parts += attributes(schema)
    default = schema.get("default")
    if "default" in schema and (default not in ZEROES or listed(SILENT_DEFAULTS, definition, field)):
        parts.append(f"default={compact(default)}")
    if "enum" in schema:
        parts.append(f"enum={compact(schema['enum'])}")
    return " ".join(parts)


def definition_lines(name, schema):
    parts = [name, type_of(schema)] + attributes(schema)
    for gvk in schema.get("x-kubernetes-group-version-kind", []):
        if name.rsplit(".", 1)[1] not in ("DeleteOptions", "WatchEvent"):
            parts.append(f"gvk={gvk['group']}/{gvk['version']}/{gvk['kind']}")
    if unions := schema.get("x-kubernetes-unions"):
        parts.append(f"unions={compact(unions)}")
    required = schema.get("required", [])
    fields = schema.get("properties") or {}
    if required != sorted(required):
        parts.append(f"order={','.join(required)}")
    yield " ".join(parts)
    assert not set(required) - set(fields), name
    for field in sorted(fields):
        yield field_line(name, field, fields[field], field in required)


def description_lines(name, schema):
    yield name + " " + compact(schema.get("description", ""))
    for field, inner in sorted((schema.get("properties") or {}).items()):
        if inner.get("description"):
            yield f" {field} {compact(inner['description'])}"


def parameter_lines(reference):
    """`name JSON` for parameters that mean the same everywhere, `pods/exec.name JSON` and `patch.name JSON` for others."""
    found = {}
    for file in sorted(glob.glob(f"{reference}/openapi-v3/*.json")):
        for path, item in json.loads(pathlib.Path(file).read_text()).get("paths", {}).items():
            parts = [part for part in path.split("/") if not part.startswith("{")]
            of_sub = f"{parts[-2]}/{parts[-1]}." if path.count("{") > 1 and "/{name}/" in path else ""
            if "/watch/" in path:
                continue
            for verb, operation in item.items():
                if verb == "parameters":
                    for parameter in operation:
                        shared = parameter["name"] in ("name", "namespace", "pretty") or parameter["in"] == "path"
                        connects = not shared and of_sub and "get" not in of_sub
                        key = (of_sub if connects else "") + parameter["name"]
                        if parameter["name"] != "name" and not (parameter["name"] == "path" and parameter["in"] == "query" and not of_sub):
                            found.setdefault(key, parameter)
                    continue
                for parameter in operation.get("parameters", []):
                    prefix = "patch." if verb == "patch" and parameter["name"] == "fieldManager" else ""
                    found.setdefault(prefix + parameter["name"], parameter)
    for key in sorted(found):
        if "." in key and found[key] == found.get(key.split(".", 1)[1]):
            continue
        yield f"{key} {compact(found[key])}"


def main():
    definitions = load(sys.argv[1])
    here = pathlib.Path(__file__).parent
    for file, lines in (("schemas.txt", definition_lines), ("descriptions.txt.gz", description_lines)):
        text = "".join(line + "\n" for name in sorted(definitions) for line in lines(name, definitions[name]))
        data = text.encode()
        (here / file).write_bytes(gzip.compress(data, 9, mtime=0) if file.endswith(".gz") else data)
    (here / "parameters.txt").write_text("".join(line + "\n" for line in parameter_lines(sys.argv[1])))


if __name__ == "__main__":
    main()
