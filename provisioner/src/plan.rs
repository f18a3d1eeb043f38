//! Which claims get a volume here and what it looks like, and which volumes are to be removed. Pure.

use std::collections::BTreeMap;

use api::volumes::{PROVISIONED_BY, SELECTED_NODE, annotation, is_delayed, requested, volume_name};
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{Config, NAME};

/// What every volume's name begins with; the uid of its claim follows.
pub(crate) const PREFIX: &str = "pvc-";
/// Keeps a volume's object until its directory is removed.
pub(crate) const FINALIZER: &str = "coracle.dev/local-volume";
/// Keeps a volume while it is in use.
const PROTECTION: &str = "kubernetes.io/pv-protection";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What a claim asks of this provisioner.
#[derive(Debug, PartialEq)]
pub(crate) enum Wish {
    /// Nothing: another's class, another's node, or no node yet.
    NotOurs,
    /// What a directory cannot be; the claim is told.
    Impossible(String),
    /// This volume.
    Volume(Box<PersistentVolume>),
}

/// Whether a claim has no volume yet and is not on its way out.
pub(crate) fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    volume_name(claim).is_empty() && claim.metadata.deletion_timestamp.is_none()
}

/// What the claim asks for here, where the disk has so many bytes in all.
pub(crate) fn wish(claim: &PersistentVolumeClaim, class: &StorageClass, config: &Config, disk: u64) -> Wish {
    let Some(spec) = claim.spec.as_ref().filter(|_| class.provisioner == NAME && is_unbound(claim)) else {
        return Wish::NotOurs;
    };
    if !is_delayed(class) {
        return Wish::Impossible("volumes on a node's disk need volumeBindingMode WaitForFirstConsumer".to_owned());
    }
    if annotation(&claim.metadata, SELECTED_NODE) != Some(&config.node_name) {
        return Wish::NotOurs;
    }
    match refusal(spec, class).or_else(|| too_large(claim, disk)) {
        Some(why) => Wish::Impossible(why),
        None => Wish::Volume(Box::new(volume(claim, spec, class, config))),
    }
}

/// What of a claim or its class a directory on one node's disk cannot give.
fn refusal(spec: &PersistentVolumeClaimSpec, class: &StorageClass) -> Option<String> {
    let modes = spec.access_modes.iter().flatten();
    let shared = modes.into_iter().find(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"));
    if let Some(mode) = shared {
        return Some(format!("access mode {mode} is not supported: the volume is on the disk of one node"));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("volumeMode Block is not supported".to_owned());
    }
    if spec.selector.is_some() {
        return Some("claim.spec.selector is not supported for dynamic provisioning".to_owned());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("dataSource is not supported".to_owned());
    }
    if spec.volume_attributes_class_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some("volumeAttributesClassName is not supported".to_owned());
    }
    if let Some(name) = class.parameters.iter().flatten().map(|(name, _)| name).next() {
        return Some(format!("parameter {name:?} of the class is not known"));
    }
    class.mount_options.as_ref().filter(|options| !options.is_empty()).map(|_| "mountOptions are not supported".into())
}

/// More than the whole disk can never be had, whatever is removed from it.
pub(crate) fn too_large(claim: &PersistentVolumeClaim, disk: u64) -> Option<String> {
    let asked = u64::try_from(requested(claim).value()).unwrap_or(0);
    (asked > disk).then(|| format!("{asked} bytes are asked for, and the disk of the node has {disk} in all"))
}

fn volume(
    claim: &PersistentVolumeClaim,
    spec: &PersistentVolumeClaimSpec,
    class: &StorageClass,
    config: &Config,
) -> PersistentVolume {
    let name = format!("{PREFIX}{}", claim.metadata.uid.as_deref().unwrap_or_default());
    let requested = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage").cloned());
    let on_this_node = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![config.hostname.clone()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![on_this_node]), match_fields: None };
    PersistentVolume {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), NAME.to_owned())])),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: requested.map(|size| BTreeMap::from([("storage".to_owned(), size)])),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: claim.metadata.namespace.clone(),
                name: claim.metadata.name.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                ..ObjectReference::default()
            }),
            local: Some(LocalVolumeSource {
                fs_type: None,
                path: config.directory.join(name).to_string_lossy().into_owned(),
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone().or(Some("Delete".to_owned())),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// What is to be done about a volume.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    None,
    /// Its object goes and its files stay.
    LetGo,
    /// Its files go, and then its object.
    Remove,
}

/// What is to be done about a volume, if this provisioner made it on this node.
pub(crate) fn duty(volume: &PersistentVolume, config: &Config) -> Duty {
    let Some(spec) = volume.spec.as_ref().filter(|spec| is_ours(volume, spec, config)) else { return Duty::None };
    let deletes = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let has = |finalizer: &str| volume.metadata.finalizers.iter().flatten().any(|one| one == finalizer);
    let is_going = volume.metadata.deletion_timestamp.is_some() && !has(PROTECTION);
    match (is_going, phase) {
        (true, _) if deletes && has(FINALIZER) => Duty::Remove,
        (true, _) if has(FINALIZER) => Duty::LetGo,
        (false, "Released" | "Failed") if deletes => Duty::Remove,
        _ => Duty::None,
    }
}

/// Whether the volume is the one that this provisioner would have made here: its annotations alone say nothing, since
/// whoever may write volumes can write them.
pub(crate) fn is_ours(volume: &PersistentVolume, spec: &PersistentVolumeSpec, config: &Config) -> bool {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let path = spec.local.as_ref().map(|local| local.path.as_str());
    let claim = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_deref()).unwrap_or_default();
    annotation(&volume.metadata, PROVISIONED_BY) == Some(NAME)
        && name == format!("{PREFIX}{claim}")
        && path == config.directory.join(name).to_str()
        && spec.node_affinity.as_ref().is_some_and(|affinity| names_host(affinity, &config.hostname))
}

fn names_host(affinity: &VolumeNodeAffinity, hostname: &str) -> bool {
    let terms = affinity.required.iter().flat_map(|required| &required.node_selector_terms);
    let mut requirements = terms.flat_map(|term| term.match_expressions.iter().flatten());
    requirements.any(|one| one.key == HOSTNAME && one.values.as_deref() == Some(&[hostname.to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Bytes of the disk.
    const DISK: u64 = 2 << 30;

    fn config() -> Config {
        Config { node_name: "n1".into(), hostname: "h1".into(), directory: "/data/volumes".into() }
    }

    fn claim(change: impl FnOnce(&mut Value)) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "c", "namespace": "d", "uid": "u", "annotations": {SELECTED_NODE: "n1"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        change(&mut claim);
        serde_json::from_value(claim).unwrap()
    }

    fn class(change: impl FnOnce(&mut Value)) -> StorageClass {
        let mut class = json!({"metadata": {"name": "local"}, "provisioner": NAME, "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer"});
        change(&mut class);
        serde_json::from_value(class).unwrap()
    }

    fn made() -> PersistentVolume {
        match wish(&claim(|_| {}), &class(|_| {}), &config(), DISK) {
            Wish::Volume(volume) => *volume,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_claim_for_this_node_gets_a_volume_that_is_its_own() {
        let volume = made();
        assert_eq!(volume.metadata.name.as_deref(), Some("pvc-u"));
        let spec = volume.spec.unwrap();
        assert_eq!(spec.local.unwrap().path, "/data/volumes/pvc-u");
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("u"));
        assert_eq!(spec.capacity.unwrap()["storage"].0, "1Gi");
    }

    #[test]
    fn claims_of_others_are_left_to_them() {
        let check = |claim: PersistentVolumeClaim, class: StorageClass| {
            assert_eq!(wish(&claim, &class, &config(), DISK), Wish::NotOurs);
        };
        check(claim(|_| {}), class(|class| class["provisioner"] = json!("other")));
        check(claim(|claim| claim["metadata"]["annotations"] = json!({})), class(|_| {}));
        check(claim(|claim| claim["metadata"]["annotations"][SELECTED_NODE] = json!("n2")), class(|_| {}));
        check(claim(|claim| claim["spec"]["volumeName"] = json!("v")), class(|_| {}));
        check(claim(|claim| claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")), class(|_| {}));
    }

    #[test]
    fn what_a_directory_cannot_be_is_refused_in_words() {
        let check = |claim: PersistentVolumeClaim, class: StorageClass, words: &str| match wish(
            &claim,
            &class,
            &config(),
            DISK,
        ) {
            Wish::Impossible(why) => assert!(why.contains(words), "{why}"),
            other => panic!("{words}: {other:?}"),
        };
        check(claim(|claim| claim["spec"]["accessModes"] = json!(["ReadWriteMany"])), class(|_| {}), "ReadWriteMany");
        check(claim(|claim| claim["spec"]["volumeMode"] = json!("Block")), class(|_| {}), "Block");
        check(claim(|claim| claim["spec"]["selector"] = json!({})), class(|_| {}), "selector");
        check(
            claim(|claim| claim["spec"]["dataSource"] = json!({"kind": "A", "name": "b"})),
            class(|_| {}),
            "dataSource",
        );
        check(
            claim(|claim| claim["spec"]["volumeAttributesClassName"] = json!("fast")),
            class(|_| {}),
            "volumeAttributes",
        );
        let large = json!({"requests": {"storage": "100Pi"}});
        check(claim(|claim| claim["spec"]["resources"] = large.clone()), class(|_| {}), "has 2147483648 in all");
        check(claim(|_| {}), class(|class| class["parameters"] = json!({"size": "1"})), "size");
        check(claim(|_| {}), class(|class| class["mountOptions"] = json!(["ro"])), "mountOptions");
        check(claim(|_| {}), class(|class| class["volumeBindingMode"] = json!("Immediate")), "WaitForFirstConsumer");
    }

    #[test]
    fn a_volume_goes_when_it_is_released_or_deleted_and_no_longer_protected() {
        let check = |change: &dyn Fn(&mut Value), expected: Duty| {
            let mut volume = serde_json::to_value(made()).unwrap();
            volume["status"] = json!({"phase": "Released"});
            change(&mut volume);
            let shown = volume.to_string();
            assert_eq!(duty(&serde_json::from_value(volume).unwrap(), &config()), expected, "{shown}");
        };
        let deleted = |volume: &mut Value| volume["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let retain = |volume: &mut Value| volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
        let bound = |volume: &mut Value| volume["status"]["phase"] = json!("Bound");
        check(&|_| {}, Duty::Remove);
        check(&bound, Duty::None);
        check(&retain, Duty::None);
        let both = |volume: &mut Value| {
            retain(volume);
            deleted(volume);
        };
        check(&both, Duty::LetGo);
        check(&deleted, Duty::Remove);
        let protected = |volume: &mut Value| {
            bound(volume);
            deleted(volume);
            volume["metadata"]["finalizers"] = json!([FINALIZER, PROTECTION]);
        };
        check(&protected, Duty::None);
        check(&|volume| volume["metadata"]["annotations"] = json!({}), Duty::None);
        check(&|volume| volume["spec"]["local"]["path"] = json!("/etc"), Duty::None);
        check(&|volume| volume["metadata"]["name"] = json!("pvc-x"), Duty::None);
        let elsewhere = |volume: &mut Value| {
            let term = &mut volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0];
            term["matchExpressions"][0]["values"] = json!(["h2"]);
        };
        check(&elsewhere, Duty::None);
    }
}
