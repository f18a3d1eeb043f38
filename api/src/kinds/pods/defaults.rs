//! Defaults of pods and pod templates.

use serde_json::Value;

use super::resources;
use crate::kinds::rules::tree;
use crate::kinds::rules::tree::{
    Fields, default_pointer, default_zero, each, is_unset, is_zero, object, object_at, text,
};
use crate::kinds::volume_claims;
use crate::object::Object;

/// Mode of files made from ConfigMaps and Secrets: 0644.
const FILE_MODE: i64 = 0o644;
/// Seconds a projected ServiceAccount token is valid.
const TOKEN_SECONDS: i64 = 3600;
/// Every key that names a volume's source.
pub(crate) const VOLUME_SOURCES: [&str; 30] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];

/// Defaults of a `Pod`.
pub(crate) fn pod(object: &mut Object) {
    let spec = tree::object(object.root_mut(), "spec");
    pod_spec(spec);
    default_pointer(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        each(spec, list, requests_from_limits);
    }
    resources::default_pod_level(spec);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| each(container, "ports", host_port));
        }
    }
    tree::object(object.root_mut(), "status");
}

/// Defaults of a pod template at `key` of a workload's spec.
pub(crate) fn template(spec: &mut Fields, key: &str) {
    let template = object(spec, key);
    object(template, "metadata");
    pod_spec(object(template, "spec"));
}

/// As [`template`], where the template may be left out.
pub(crate) fn optional_template(spec: &mut Fields, key: &str) {
    if object_at(spec, key).is_some() {
        template(spec, key);
    }
}

/// Defaults shared by pods and pod templates.
pub(crate) fn pod_spec(spec: &mut Fields) {
    default_zero(spec, "dnsPolicy", "ClusterFirst");
    default_zero(spec, "restartPolicy", "Always");
    default_pointer(spec, "securityContext", Value::Object(Fields::new()));
    default_pointer(spec, "terminationGracePeriodSeconds", 30);
    default_zero(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    for list in ["containers", "initContainers"] {
        each(spec, list, container);
    }
    each(spec, "ephemeralContainers", container);
    each(spec, "volumes", volume);
}

/// `serviceAccount` is the deprecated spelling of `serviceAccountName`; both are kept equal.
fn mirror_service_account(spec: &mut Fields) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    if name.is_empty() {
        return;
    }
    let name = Value::from(name);
    spec.insert("serviceAccount".to_owned(), name.clone());
    spec.insert("serviceAccountName".to_owned(), name);
}

fn container(fields: &mut Fields) {
    object(fields, "resources");
    default_zero(fields, "terminationMessagePath", "/dev/termination-log");
    default_zero(fields, "terminationMessagePolicy", "File");
    let policy = pull_policy(text(fields, "image"));
    default_zero(fields, "imagePullPolicy", policy);
    each(fields, "ports", |port| default_zero(port, "protocol", "TCP"));
    each(fields, "env", environment);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object_at(fields, key) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = object_at(fields, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = object_at(lifecycle, key) {
                http_get(handler);
            }
        }
    }
}

fn environment(variable: &mut Fields) {
    let Some(source) = object_at(variable, "valueFrom") else { return };
    field_reference(source);
    if let Some(file) = object_at(source, "fileKeyRef") {
        default_pointer(file, "optional", false);
    }
}

/// Defaults of `fieldRef` and `resourceFieldRef`, which environment and downward API share.
fn field_reference(source: &mut Fields) {
    if let Some(field) = object_at(source, "fieldRef") {
        default_zero(field, "apiVersion", "v1");
    }
    if let Some(resource) = object_at(source, "resourceFieldRef") {
        default_pointer(resource, "divisor", "0");
    }
}

fn default_probe(probe: &mut Fields) {
    default_zero(probe, "timeoutSeconds", 1);
    default_zero(probe, "periodSeconds", 10);
    default_zero(probe, "successThreshold", 1);
    default_zero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = object_at(probe, "grpc") {
        default_pointer(grpc, "service", "");
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = object_at(handler, "httpGet") {
        default_zero(get, "path", "/");
        default_zero(get, "scheme", "HTTP");
    }
}

/// An image without a tag, or tagged `latest`, is pulled every time; one named by digest is not, nor what names none.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    /// A part of a name, but for the name of a registry.
    fn is_part(part: &str) -> bool {
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = part.bytes().next().is_some_and(sound) && part.bytes().last().is_some_and(sound);
        ends && part.bytes().all(|byte| sound(byte) || matches!(byte, b'.' | b'_' | b'-'))
    }
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, digest)| (name, digest));
    let last = name.rsplit('/').next().unwrap_or(name);
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    match (tag, digest) {
        _ if !is_part(last) => "IfNotPresent",
        (Some("latest"), _) | (None, "") => "Always",
        _ => "IfNotPresent",
    }
}

fn host_port(port: &mut Fields) {
    if is_zero(port, "hostPort")
        && let Some(number) = port.get("containerPort").cloned()
    {
        port.insert("hostPort".to_owned(), number);
    }
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = object_at(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if limits.is_empty() {
        return;
    }
    let requests = object(resources, "requests");
    for (name, quantity) in limits {
        requests.entry(name).or_insert(quantity);
    }
}

fn volume(volume: &mut Fields) {
    if VOLUME_SOURCES.iter().all(|source| is_unset(volume, source)) {
        volume.insert("emptyDir".to_owned(), Value::Object(Fields::new()));
        return;
    }
    for source in ["configMap", "downwardAPI", "projected", "secret"] {
        if let Some(source) = object_at(volume, source) {
            default_pointer(source, "defaultMode", FILE_MODE);
            each(source, "items", field_reference);
        }
    }
    if let Some(projected) = object_at(volume, "projected") {
        default_pointer(projected, "sources", Value::Null);
        each(projected, "sources", projection);
    }
    if let Some(path) = object_at(volume, "hostPath") {
        default_pointer(path, "type", "");
    }
    if let Some(ephemeral) = object_at(volume, "ephemeral").and_then(|e| object_at(e, "volumeClaimTemplate")) {
        object(ephemeral, "metadata");
        volume_claims::default_spec(object(ephemeral, "spec"));
    }
    if let Some(image) = object_at(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        default_zero(image, "pullPolicy", policy);
    }
    volume_drivers(volume);
}

fn projection(source: &mut Fields) {
    if let Some(token) = object_at(source, "serviceAccountToken") {
        default_pointer(token, "expirationSeconds", TOKEN_SECONDS);
    }
    if let Some(downward) = object_at(source, "downwardAPI") {
        each(downward, "items", field_reference);
    }
}

/// Defaults of network volume drivers, shared by pods and PersistentVolumes.
pub(crate) fn volume_drivers(volume: &mut Fields) {
    if let Some(iscsi) = object_at(volume, "iscsi") {
        default_zero(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = object_at(volume, "rbd") {
        default_zero(rbd, "pool", "rbd");
        default_zero(rbd, "user", "admin");
        default_zero(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = object_at(volume, "azureDisk") {
        default_pointer(disk, "cachingMode", "ReadWrite");
        default_pointer(disk, "kind", "Shared");
        default_pointer(disk, "fsType", "ext4");
        default_pointer(disk, "readOnly", false);
    }
    if let Some(scale) = object_at(volume, "scaleIO") {
        default_zero(scale, "storageMode", "ThinProvisioned");
        default_zero(scale, "fsType", "xfs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_tag_decides_the_pull_policy() {
        let cases = [
            ("img", "Always"),
            ("img:latest", "Always"),
            ("img:1", "IfNotPresent"),
            ("host:5000/img", "Always"),
            ("host:5000/img:1", "IfNotPresent"),
            ("img@sha256:00", "IfNotPresent"),
            ("", "IfNotPresent"),
            ("IMG", "IfNotPresent"),
            ("host:5000/", "IfNotPresent"),
        ];
        for (image, want) in cases {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }

    #[test]
    fn defaulting_a_pod_twice_changes_nothing() {
        let pod_json = json!({"spec": {"hostNetwork": true, "serviceAccount": "a", "containers": [{"name": "c",
            "ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}}}], "volumes": [{"name": "v"}]}});
        let mut once = Object::from_value(pod_json).expect("an object");
        pod(&mut once);
        let mut twice = once.clone();
        pod(&mut twice);
        assert_eq!(once, twice);
        assert_eq!(once.text(&["spec", "serviceAccountName"]), "a");
        let first = &once.root()["spec"]["containers"][0];
        assert_eq!(first["ports"][0]["hostPort"], 1);
        assert_eq!(first["resources"]["requests"]["cpu"], "1");
    }
}
