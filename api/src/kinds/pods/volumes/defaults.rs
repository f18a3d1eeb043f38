//! Defaults of volumes (upstream: `pkg/apis/core/v1/defaults.go`).

use serde_json::Value;

use super::{claim_spec, drivers};
use crate::kinds::pods::fields;
use crate::kinds::rules::fill::{default_pointer, default_zero, each, is_unset, object, object_at, text};
use crate::kinds::rules::tree::Fields;

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

pub(crate) fn volume(volume: &mut Fields) {
    if VOLUME_SOURCES.iter().all(|source| is_unset(volume, source)) {
        volume.insert("emptyDir".to_owned(), Value::Object(Fields::new()));
        return;
    }
    for source in ["configMap", "downwardAPI", "projected", "secret"] {
        if let Some(source) = object_at(volume, source) {
            default_pointer(source, "defaultMode", FILE_MODE);
            each(source, "items", fields::field_reference);
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
        claim_spec::default(object(ephemeral, "spec"));
    }
    if let Some(image) = object_at(volume, "image") {
        let policy = fields::pull_policy(text(image, "reference"));
        default_zero(image, "pullPolicy", policy);
    }
    drivers::volume_drivers(volume);
}

fn projection(source: &mut Fields) {
    if let Some(token) = object_at(source, "serviceAccountToken") {
        default_pointer(token, "expirationSeconds", TOKEN_SECONDS);
    }
    if let Some(downward) = object_at(source, "downwardAPI") {
        each(downward, "items", fields::field_reference);
    }
}
