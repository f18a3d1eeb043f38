//! Claims that ask for more than their volume has: the volume and then the claim are given that size (upstream:
//! external-resizer, for volumes whose file system the node need not make larger).
//!
//! A directory grows by itself; what is written is what the volume is matched and counted by.

use api::volumes::{capacity, is_bound, requested};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use crate::Config;
use crate::plan::is_ours;

/// Conditions of a claim whose volume grows.
const OF_A_RESIZE: [&str; 4] = ["Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError"];

/// What is to be written for a claim.
#[derive(Debug, PartialEq)]
pub(crate) struct Growth {
    /// The volume with its new size, if it has another.
    pub(crate) volume: Option<Box<PersistentVolume>>,
    /// The claim's new status, to be merged into what it has.
    pub(crate) status: Value,
}

/// Whether a claim asks for more than it has.
pub(crate) fn is_wished(claim: &PersistentVolumeClaim) -> bool {
    let asked = requested(claim);
    let has = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    let has_less = has.and_then(|has| Some(asked > has.0.parse().ok()?)) == Some(true);
    is_bound(claim) && claim.metadata.deletion_timestamp.is_none() && has_less
}

/// What a claim gets that asks for more than its volume has, if that is one of this node and its class lets it.
pub(crate) fn growth(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    class: &StorageClass,
    config: &Config,
) -> Option<Growth> {
    let spec = volume.spec.as_ref().filter(|spec| is_ours(volume, spec, config))?;
    let of = spec.claim_ref.as_ref().and_then(|of| of.uid.as_ref());
    if !is_wished(claim) || class.allow_volume_expansion != Some(true) || of != claim.metadata.uid.as_ref() {
        return None;
    }
    let size = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    let larger = (capacity(volume) < requested(claim)).then(|| Box::new(with_size(volume, size)));
    Some(Growth { volume: larger, status: status(claim, size) })
}

fn with_size(volume: &PersistentVolume, size: &Quantity) -> PersistentVolume {
    let mut larger = volume.clone();
    let capacity = &mut larger.spec.get_or_insert_default().capacity;
    capacity.get_or_insert_default().insert("storage".to_owned(), size.clone());
    larger
}

fn status(claim: &PersistentVolumeClaim, size: &Quantity) -> Value {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let others: Vec<_> = conditions.filter(|one| !OF_A_RESIZE.contains(&one.type_.as_str())).collect();
    let size = json!({ "storage": size });
    json!({ "capacity": size, "allocatedResources": size, "conditions": others })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NAME;

    fn config() -> Config {
        Config { node_name: "n1".into(), hostname: "h1".into(), directory: "/data/volumes".into() }
    }

    fn class(grows: bool) -> StorageClass {
        serde_json::from_value(json!({"provisioner": NAME, "allowVolumeExpansion": grows})).unwrap()
    }

    fn claim(asks: &str) -> PersistentVolumeClaim {
        let done = json!({"pv.kubernetes.io/bind-completed": "yes"});
        let condition = |kind: &str| json!({"type": kind, "status": "True"});
        let claim = json!({
            "metadata": {"name": "c", "namespace": "d", "uid": "u", "annotations": done},
            "spec": {"volumeName": "pvc-u", "resources": {"requests": {"storage": asks}}},
            "status": {"capacity": {"storage": "1Gi"}, "conditions": [condition("Resizing"), condition("Other")]},
        });
        serde_json::from_value(claim).unwrap()
    }

    fn volume(hostname: &str, has: &str) -> PersistentVolume {
        let rule = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]});
        let volume = json!({
            "metadata": {"name": "pvc-u", "annotations": {"pv.kubernetes.io/provisioned-by": NAME}},
            "spec": {"capacity": {"storage": has}, "local": {"path": "/data/volumes/pvc-u"}, "claimRef": {"uid": "u"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}},
        });
        serde_json::from_value(volume).unwrap()
    }

    #[test]
    fn a_claim_that_asks_for_more_gets_it_on_both_sides() {
        let growth = growth(&claim("3Gi"), &volume("h1", "1Gi"), &class(true), &config()).unwrap();
        assert_eq!(growth.volume.unwrap().spec.unwrap().capacity.unwrap()["storage"].0, "3Gi");
        assert_eq!(growth.status["capacity"]["storage"], "3Gi");
        assert_eq!(growth.status["conditions"].as_array().unwrap().len(), 1, "only what is of a resize goes");
    }

    #[test]
    fn a_volume_that_has_the_size_already_is_only_told_of() {
        let growth = growth(&claim("3Gi"), &volume("h1", "3Gi"), &class(true), &config()).unwrap();
        assert_eq!((growth.volume, growth.status["capacity"]["storage"].as_str()), (None, Some("3Gi")));
    }

    #[test]
    fn claims_that_ask_for_no_more_and_volumes_of_others_stay() {
        let check = |claim: &PersistentVolumeClaim, volume: &PersistentVolume, class: &StorageClass| {
            assert_eq!(growth(claim, volume, class, &config()), None);
        };
        let (here, grows) = (volume("h1", "1Gi"), class(true));
        check(&claim("1Gi"), &here, &grows);
        check(&claim("3Gi"), &volume("h2", "1Gi"), &grows);
        check(&claim("3Gi"), &here, &class(false));
        let mut another = claim("3Gi");
        another.metadata.uid = Some("v".into());
        check(&another, &here, &grows);
    }
}
