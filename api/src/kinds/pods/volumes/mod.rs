//! Rules for the volumes of a pod.

pub(crate) mod claim_spec;
pub(crate) mod defaults;
pub(crate) mod drivers;
pub(crate) mod mounts;
pub(crate) mod paths;
pub(crate) mod persistent;
pub(crate) mod projections;
pub(crate) mod sources;
pub(crate) mod warn;

use std::collections::{HashMap, HashSet};

use super::environment;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};
use paths::{local_path, mode};

/// Volumes of one pod, or of the pods of a template.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// The pod's name; `""` where it is not known yet.
    pub(crate) pod: &'a str,
    /// Pods themselves are held to more than pod templates.
    pub(crate) is_pod: bool,
}

/// The volumes of a pod by name, and which of them are claims.
pub(crate) struct Names<'v>(HashMap<&'v str, bool>);

impl Names<'_> {
    /// Whether there is a volume of this name, itself without fault.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether the volume of this name is a claim, which may be a block device.
    pub(crate) fn is_claim(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(false)
    }
}

/// Checks the volumes and answers their names. The claims of a StatefulSet are volumes, too, and take the place of those
/// that have their names.
pub(crate) fn all<'v>(
    at: &Node<'_, 'v>,
    owner: Owner<'_>,
    claim_templates: Option<&Node<'_, 'v>>,
    errors: &mut Errors,
) -> Names<'v> {
    const MADE: &str = "must not reference a PVC that gets created for an ephemeral volume";
    let made: HashSet<String> = at
        .items()
        .filter(|volume| !owner.pod.is_empty() && volume.field("ephemeral").is_set())
        .map(|volume| format!("{}-{}", owner.pod, volume.field("name").text()))
        .collect();
    let mut names = HashMap::new();
    let replaced = claims(at, claim_templates, &mut names, errors);
    for volume in at.items().filter(|volume| !replaced.contains(volume.field("name").text())) {
        let before = errors.0.len();
        source(&volume, owner, errors);
        let name = volume.field("name");
        if errors.require_text(&name) {
            errors.invalid_all(&name, naming::label(name.text()));
        }
        if names.contains_key(name.text()) {
            errors.duplicate(&name);
        }
        let claim = volume.field("persistentVolumeClaim");
        if errors.0.len() == before {
            names.insert(name.text(), claim.is_set() || volume.field("ephemeral").is_set());
        }
        let claim_name = claim.field("claimName");
        if made.contains(claim_name.text()) {
            errors.invalid(&claim_name, MADE);
        }
    }
    Names(names)
}

/// Adds the claims of a StatefulSet to the names, and answers those that are taken. They stand before the volumes, and two
/// of one name are one volume.
fn claims<'v>(
    at: &Node<'_, 'v>,
    templates: Option<&Node<'_, 'v>>,
    names: &mut HashMap<&'v str, bool>,
    errors: &mut Errors,
) -> HashSet<&'v str> {
    let mut taken = HashSet::new();
    for template in templates.into_iter().flat_map(Node::list) {
        let name = template.pointer("/metadata/name").filter(|name| !name.is_null());
        let path = at.index(taken.len()).field("name").path();
        let (name, before) = (Node::at(&path, name), errors.0.len());
        if !taken.insert(name.text()) {
            continue;
        }
        if errors.require_text(&name) {
            errors.invalid_all(&name, naming::label(name.text()));
        }
        if errors.0.len() == before {
            names.insert(name.text(), true);
        }
    }
    taken
}

/// In which order upstream looks for sources.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// The first source of upstream's order is the one that counts; later ones are refused.
fn source(volume: &Node<'_, '_>, owner: Owner<'_>, errors: &mut Errors) {
    let mut found = false;
    for key in SOURCES {
        let source = volume.field(key);
        if source.is_unset() {
            continue;
        }
        if found {
            sources::one_more(volume, key, errors);
        } else {
            one_source(volume, key, &source, owner, errors);
        }
        found = true;
    }
    if !found {
        errors.required(volume, "must specify a volume type");
    }
    let portal = volume.field("iscsi");
    if portal.field("initiatorName").is_set() {
        sources::short_portal(&volume.field("name"), volume.field("name").text(), &portal, errors);
    }
}

fn one_source(volume: &Node<'_, '_>, key: &str, source: &Node<'_, '_>, owner: Owner<'_>, errors: &mut Errors) {
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
            for file in source.field("items").items() {
                downward_file(&file, source, errors);
            }
        }
        "projected" => projections::projected(source, errors),
        "persistentVolumeClaim" => {
            errors.require_text(&source.field("claimName"));
        }
        "ephemeral" => ephemeral(volume, source, owner, errors),
        "image" => {
            if owner.is_pod {
                errors.require_text(&source.field("reference"));
            }
            let pull = source.field("pullPolicy");
            if errors.require_text(&pull) {
                errors.one_of(&pull, &["Always", "IfNotPresent", "Never"]);
            }
        }
        "csi" => inline_csi(source, errors),
        key => sources::shared(volume, key, sources::Holder::Pod, errors),
    }
}

fn inline_csi(source: &Node<'_, '_>, errors: &mut Errors) {
    naming::csi_driver_name(&source.field("driver"), errors);
    let secret = source.field("nodePublishSecretRef");
    let name = secret.field("name");
    if secret.is_set() && errors.require_text(&name) {
        // Upstream's path lacks the reference.
        for why in naming::subdomain(name.text()) {
            errors.invalid_value(&source.field("name"), name.text(), &why);
        }
    }
}

/// A claim made for the pod is named by pod and volume.
fn ephemeral(volume: &Node<'_, '_>, source: &Node<'_, '_>, owner: Owner<'_>, errors: &mut Errors) {
    let template = source.field("volumeClaimTemplate");
    if template.is_unset() {
        errors.required(&template, "");
    } else {
        claim_metadata(&template.field("metadata"), errors);
        claim_spec::validate(&template.field("spec"), errors);
    }
    let name = volume.field("name");
    if !owner.pod.is_empty() && !name.text().is_empty() {
        let claim = format!("{}-{}", owner.pod, name.text());
        for why in naming::subdomain(&claim) {
            errors.invalid(&name, &format!("PVC name {claim:?}: {why}"));
        }
    }
}

/// Only labels and annotations of a claim's template are used, so nothing else may be given.
fn claim_metadata(metadata: &Node<'_, '_>, errors: &mut Errors) {
    labels::annotations(&metadata.field("annotations"), errors);
    labels::labels(&metadata.field("labels"), errors);
    for (key, value) in metadata.map().into_iter().flatten() {
        if !matches!(key.as_str(), "annotations" | "labels") && !value.is_null() {
            errors.forbidden(&metadata.field(key), "cannot be set");
        }
    }
}

fn files(source: &Node<'_, '_>, errors: &mut Errors) {
    mode(&source.field("defaultMode"), errors);
    for item in source.field("items").items() {
        key_to_path(&item, errors);
    }
}

/// A key of a ConfigMap or Secret, and the file that shows it.
pub(crate) fn key_to_path(item: &Node<'_, '_>, errors: &mut Errors) {
    errors.require_text(&item.field("key"));
    local_path(&item.field("path"), errors);
    mode(&item.field("mode"), errors);
}

/// A file of the downward API. Upstream's paths name the volume's source, not the file: `at`.
pub(crate) fn downward_file(file: &Node<'_, '_>, at: &Node<'_, '_>, errors: &mut Errors) {
    let shown = at.path();
    let file = &Node::at(&shown, file.value());
    local_path(&file.field("path"), errors);
    let (field, resource) = (file.field("fieldRef"), file.field("resourceFieldRef"));
    match (field.is_set(), resource.is_set()) {
        (true, both) => {
            environment::file_field_reference(&field, errors);
            if both {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid_value(file, "resource", why);
            }
        }
        (false, true) => environment::file_resource_reference(&resource, errors),
        (false, false) => errors.required(file, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(&file.field("mode"), errors);
}
