//! Sources of PersistentVolumes, also inside VolumeAttachments (upstream: `ValidatePersistentVolumeSpec`).

use super::{paths, sources};
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};

/// Every key that names a PersistentVolume's source, in upstream's order.
pub(crate) const VOLUME_SOURCES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
];

/// Whether a path is the root by another spelling.
pub(crate) fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

/// The one source of a volume.
pub(crate) fn volume_source(spec: &Node<'_, '_>, name: &str, errors: &mut Errors) {
    let mut found = false;
    for key in VOLUME_SOURCES.into_iter().chain(["csi"]) {
        let source = spec.field(key);
        if source.is_unset() {
            continue;
        }
        // Upstream counts no other source before this one.
        if found && key != "flexVolume" {
            sources::one_more(spec, key, errors);
        } else {
            one_volume_source(spec, key, name, errors);
        }
        found = true;
    }
    if !found {
        errors.required(spec, "must specify a volume type");
    }
}

fn one_volume_source(spec: &Node<'_, '_>, key: &str, name: &str, errors: &mut Errors) {
    let source = spec.field(key);
    match key {
        "csi" => {
            naming::csi_driver_name(&source.field("driver"), errors);
            errors.require_text(&source.field("volumeHandle"));
            for secret in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                secret_reference(&source.field(secret), errors);
            }
        }
        "local" => {
            if errors.require_text(&source.field("path")) {
                paths::no_back_steps(&source.field("path"), errors);
            }
            if spec.field("nodeAffinity").is_unset() {
                errors.required(&spec.field("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        _ => {
            sources::shared(spec, key, sources::Holder::PersistentVolume, errors);
            if source.field("initiatorName").is_set() {
                let path = source.field("targetportal").path();
                let portal = Node::at(&path, source.field("targetPortal").value());
                sources::short_portal(&portal, name, &source, errors);
            }
        }
    }
}

/// A secret in any namespace.
fn secret_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.is_unset() {
        return;
    }
    let (name, namespace) = (at.field("name"), at.field("namespace"));
    if errors.require_text(&name) {
        errors.invalid_all(&name, naming::subdomain(name.text()));
    }
    if errors.require_text(&namespace) {
        errors.invalid_all(&namespace, naming::label(namespace.text()));
    }
}
