//! Rules for the volumes of a pod.

use std::collections::{HashMap, HashSet};

use super::pod_defaults::VOLUME_SOURCES;
use super::rules;
use super::tree::{Errors, Node};
use super::{containers, storage};

/// The volumes of a pod by name.
pub(crate) struct Names<'v>(HashMap<&'v str, bool>);

impl Names<'_> {
    /// Whether there is a volume of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether the volume of this name is a claim, which may be a block device.
    pub(crate) fn is_claim(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(false)
    }
}

/// Checks the volumes and answers the names of those that nothing is wrong with.
pub(crate) fn all<'v>(at: &Node<'_, 'v>, errors: &mut Errors) -> Names<'v> {
    let mut names = HashMap::new();
    for volume in at.items() {
        let before = errors.0.len();
        source(&volume, errors);
        let usable = errors.0.len() == before;
        let name = volume.field("name");
        if !errors.require_text(&name) {
            continue;
        }
        let wrong = rules::label(name.text());
        if names.contains_key(name.text()) {
            errors.duplicate(&name);
        } else if wrong.is_empty() && usable {
            let claim = volume.field("persistentVolumeClaim").is_set() || volume.field("ephemeral").is_set();
            names.insert(name.text(), claim);
        }
        errors.invalid_all(&name, wrong);
    }
    Names(names)
}

fn source(volume: &Node<'_, '_>, errors: &mut Errors) {
    let mut found = false;
    // The first of upstream's order is the one that counts; later ones are refused.
    for key in SOURCE_ORDER {
        let source = volume.field(key);
        if source.is_unset() {
            continue;
        }
        if found {
            errors.forbidden(&source, "may not specify more than 1 volume type");
        } else {
            one_source(key, &source, errors);
        }
        found = true;
    }
    if !found && VOLUME_SOURCES.iter().all(|key| volume.field(key).is_unset()) {
        errors.required(volume, "must specify a volume type");
    }
}

/// In which order upstream looks for sources.
const SOURCE_ORDER: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "flexVolume",
    "azureFile",
    "configMap",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
    "projected",
    "csi",
    "ephemeral",
    "image",
];

fn one_source(key: &str, source: &Node<'_, '_>, errors: &mut Errors) {
    match key {
        "emptyDir" => {
            if source.field("sizeLimit").text().starts_with('-') {
                errors.forbidden(&source.field("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "secret" => {
            errors.require_text(&source.field("secretName"));
            files(source, errors);
        }
        "configMap" => {
            errors.require_text(&source.field("name"));
            files(source, errors);
        }
        "downwardAPI" => {
            mode(&source.field("defaultMode"), errors);
            downward_files(source, &mut HashSet::new(), errors);
        }
        "projected" => projected(source, errors),
        "persistentVolumeClaim" => {
            errors.require_text(&source.field("claimName"));
        }
        "ephemeral" => {
            let template = source.field("volumeClaimTemplate");
            if template.is_unset() {
                errors.required(&template, "");
            } else {
                storage::claim_spec(&template.field("spec"), errors);
            }
        }
        "image" => {
            errors.require_text(&source.field("reference"));
            errors.none_or_one_of(&source.field("pullPolicy"), &["Always", "IfNotPresent", "Never"]);
        }
        "csi" => storage::csi_driver_name(&source.field("driver"), errors),
        key => shared_source(key, source, errors),
    }
}

/// Sources that PersistentVolumes have as well.
pub(crate) fn shared_source(key: &str, source: &Node<'_, '_>, errors: &mut Errors) {
    let required: &[&str] = match key {
        "hostPath" => return host_path(source, errors),
        "nfs" => &["server", "path"],
        "iscsi" => &["targetPortal", "iqn"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["image"],
        "cinder" | "awsElasticBlockStore" | "portworxVolume" => &["volumeID"],
        "gcePersistentDisk" => &["pdName"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "quobyte" => &["registry", "volume"],
        "azureDisk" => &["diskName", "diskURI"],
        "photonPersistentDisk" => &["pdID"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "gitRepo" => &["repository"],
        _ => &[],
    };
    for field in required {
        errors.require_text(&source.field(field));
    }
    match key {
        "nfs" if !source.field("path").text().starts_with('/') => {
            errors.invalid_value(&source.field("path"), source.field("path").text(), "must be an absolute path");
        }
        "cephfs" if source.field("monitors").is_empty() => errors.required(&source.field("monitors"), ""),
        "rbd" if source.field("monitors").is_empty() => errors.required(&source.field("monitors"), ""),
        "fc" if source.field("targetWWNs").is_empty() && source.field("wwids").is_empty() => {
            errors.required(&source.field("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
        }
        _ => {}
    }
}

fn host_path(source: &Node<'_, '_>, errors: &mut Errors) {
    let path = source.field("path");
    if errors.require_text(&path) {
        no_back_steps(&path, errors);
    }
    errors.none_or_one_of(
        &source.field("type"),
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"],
    );
}

fn mode(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.integer().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(at, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn files(source: &Node<'_, '_>, errors: &mut Errors) {
    mode(&source.field("defaultMode"), errors);
    for item in source.field("items").items() {
        key_to_path(&item, errors);
    }
}

fn key_to_path(item: &Node<'_, '_>, errors: &mut Errors) {
    errors.require_text(&item.field("key"));
    local_path(&item.field("path"), errors);
    mode(&item.field("mode"), errors);
}

fn local_path(path: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(path) {
        descending_path(path, errors);
        if path.text().starts_with("..") && path.text() != ".." && !path.text().starts_with("../") {
            errors.invalid(path, "must not start with '..'");
        }
    }
}

/// A relative path that never goes up.
pub(crate) fn descending_path(path: &Node<'_, '_>, errors: &mut Errors) {
    if path.text().starts_with('/') {
        errors.invalid(path, "must be a relative path");
    }
    no_back_steps(path, errors);
}

/// A path without `..`.
pub(crate) fn no_back_steps(path: &Node<'_, '_>, errors: &mut Errors) {
    if path.text().split('/').any(|part| part == "..") {
        errors.invalid(path, "must not contain '..'");
    }
}

fn downward_files<'v>(source: &Node<'_, 'v>, paths: &mut HashSet<&'v str>, errors: &mut Errors) {
    for file in source.field("items").items() {
        let path = file.field("path");
        local_path(&path, errors);
        if !path.text().is_empty() && !paths.insert(path.text()) {
            errors.invalid(&path, "conflicting duplicate paths");
        }
        let (field, resource) = (file.field("fieldRef"), file.field("resourceFieldRef"));
        match (field.is_set(), resource.is_set()) {
            (true, true) => errors.invalid_value(
                &file,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (true, false) => containers::file_field_reference(&field, errors),
            (false, true) => containers::file_resource_reference(&resource, errors),
            (false, false) => errors.required(&file, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(&file.field("mode"), errors);
    }
}

fn projected(source: &Node<'_, '_>, errors: &mut Errors) {
    mode(&source.field("defaultMode"), errors);
    let mut paths = HashSet::new();
    let sources = source.field("sources");
    for projection in sources.items() {
        let mut count = 0;
        for key in ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"]
        {
            let part = projection.field(key);
            if part.is_unset() {
                continue;
            }
            count += 1;
            if count > 1 {
                errors.forbidden(&part, "may not specify more than 1 volume type per source");
                continue;
            }
            projection_part(key, &part, &mut paths, errors);
        }
        if count == 0 {
            errors.required(&projection, "must specify a volume source");
        }
    }
}

fn projection_part<'v>(key: &str, part: &Node<'_, 'v>, paths: &mut HashSet<&'v str>, errors: &mut Errors) {
    match key {
        "downwardAPI" => downward_files(part, paths, errors),
        "serviceAccountToken" => {
            let seconds = part.field("expirationSeconds");
            if seconds.number() < 600 {
                errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
            } else if seconds.number() > 1 << 32 {
                errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
            }
            local_path(&part.field("path"), errors);
        }
        "secret" | "configMap" => {
            errors.require_text(&part.field("name"));
            for item in part.field("items").items() {
                key_to_path(&item, errors);
                let path = item.field("path");
                if !path.text().is_empty() && !paths.insert(path.text()) {
                    errors.invalid_value(&path, path.text(), "conflicting duplicate paths");
                }
            }
        }
        _ => local_path_if_set(part, errors),
    }
}

fn local_path_if_set(part: &Node<'_, '_>, errors: &mut Errors) {
    let path = part.field("path");
    if path.is_set() {
        local_path(&path, errors);
    }
}
