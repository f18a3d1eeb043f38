use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::serde_json::{Value, from_value, json};

use super::*;

fn claim(uid: &str, annotations: &[&str], spec: Value) -> Arc<PersistentVolumeClaim> {
    let annotations: Value = annotations.iter().map(|key| ((*key).to_owned(), json!("yes"))).collect();
    let metadata = json!({ "name": "c", "namespace": "n", "uid": uid, "annotations": annotations });
    let mut all = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    all.as_object_mut().unwrap().append(&mut spec.as_object().unwrap().clone());
    Arc::new(from_value(json!({ "metadata": metadata, "spec": all })).unwrap())
}

fn volume(name: &str, annotations: &[&str], spec: Value) -> Arc<PersistentVolume> {
    let annotations: Value = annotations.iter().map(|key| ((*key).to_owned(), json!("yes"))).collect();
    let mut all = json!({ "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" } });
    all.as_object_mut().unwrap().append(&mut spec.as_object().unwrap().clone());
    let metadata = json!({ "name": name, "annotations": annotations });
    Arc::new(from_value(json!({ "metadata": metadata, "spec": all, "status": { "phase": "Available" } })).unwrap())
}

fn reference(uid: &str) -> Value {
    json!({ "claimRef": { "name": "c", "namespace": "n", "uid": uid } })
}

fn seen(claim: &Arc<PersistentVolumeClaim>) -> Seen {
    Seen {
        claim: Arc::clone(claim),
        named: None,
        candidates: Vec::new(),
        class: None,
        default_class: None,
        waiting_pods: Vec::new(),
    }
}

fn class(provisioner: &str, mode: &str) -> Option<Arc<k8s_openapi::api::storage::v1::StorageClass>> {
    let class = json!({ "metadata": { "name": "s" }, "provisioner": provisioner, "volumeBindingMode": mode });
    Some(Arc::new(from_value(class).unwrap()))
}

const DONE: &str = "pv.kubernetes.io/bind-completed";
const OURS: &str = "pv.kubernetes.io/bound-by-controller";
const NODE: &str = "volume.kubernetes.io/selected-node";
const MADE: &str = "pv.kubernetes.io/provisioned-by";

/// The step in short: its kind, and the reason of its event or the name in it.
fn short(step: &ClaimStep) -> String {
    match step {
        ClaimStep::Rest => "rest".to_owned(),
        ClaimStep::Bind(volume) => format!("bind {}", crate::meta::name(&volume.metadata)),
        ClaimStep::SetClass(class) => format!("class {class}"),
        ClaimStep::Provision(by) => format!("provision {by}"),
        ClaimStep::Say(note) => format!("say {}: {}", note.reason, note.message),
        ClaimStep::Wait(None) => "wait".to_owned(),
        ClaimStep::Wait(Some(note)) => format!("wait {}: {}", note.reason, note.message),
        ClaimStep::Lose(note) => format!("lose {}", note.reason),
    }
}

fn check(seen: &Seen, expected: &str) {
    assert_eq!(short(&super::claim(seen)), expected, "{seen:?}");
}

#[test]
fn a_claim_for_any_volume_is_bound_provisioned_or_waits() {
    let any = claim("u", &[], json!({}));
    let free = volume("v", &[], json!({}));
    let none = "wait FailedBinding: no persistent volumes available for this claim and no storage class is set";
    check(&seen(&any), none);
    check(&Seen { candidates: vec![Arc::clone(&free)], ..seen(&any) }, "bind v");
    check(&Seen { default_class: Some("d".to_owned()), ..seen(&any) }, "class d");
    let no_class = claim("u", &[], json!({ "storageClassName": "" }));
    check(&Seen { default_class: Some("d".to_owned()), ..seen(&no_class) }, none);
    let of_class = claim("u", &[], json!({ "storageClassName": "s" }));
    check(&seen(&of_class), "say ProvisioningFailed: storageclass.storage.k8s.io \"s\" not found");
    let by = |provisioner| Seen { class: class(provisioner, "Immediate"), ..seen(&of_class) };
    check(&by("p.example.com"), "provision p.example.com");
    let no = "say ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner";
    check(&by("kubernetes.io/no-provisioner"), no);
    let exact = volume("exact", &[], json!({ "capacity": { "storage": "9Gi" } }));
    let wide = volume("wide", &[], json!({ "accessModes": ["ReadWriteOnce", "ReadWriteMany"] }));
    check(&Seen { candidates: vec![wide, exact], ..seen(&any) }, "bind exact");
}

#[test]
fn a_claim_whose_class_waits_is_bound_by_the_scheduler_only() {
    let open = claim("u", &[], json!({ "storageClassName": "s" }));
    let waits = |claim| Seen { class: class("p.example.com", "WaitForFirstConsumer"), ..seen(claim) };
    let free = volume("v", &[], json!({ "storageClassName": "s" }));
    let first = "wait WaitForFirstConsumer: waiting for first consumer to be created before binding";
    check(&Seen { candidates: vec![free], ..waits(&open) }, first);
    let pods = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let one = "wait WaitForPodScheduled: waiting for pod a to be scheduled";
    check(&Seen { waiting_pods: pods(&["a"]), ..waits(&open) }, one);
    let two = "wait WaitForPodScheduled: waiting for pods a,b to be scheduled";
    check(&Seen { waiting_pods: pods(&["a", "b"]), ..waits(&open) }, two);
    let chosen = volume("v", &[OURS], json!({ "claimRef": reference("u")["claimRef"], "storageClassName": "s" }));
    check(&Seen { candidates: vec![chosen], ..waits(&open) }, "bind v");
    let selected = claim("u", &[NODE], json!({ "storageClassName": "s" }));
    check(&waits(&selected), "provision p.example.com");
}

#[test]
fn a_claim_for_a_certain_volume_gets_it_if_it_fits_and_is_free() {
    let certain = claim("u", &[], json!({ "volumeName": "v" }));
    let with = |volume| Seen { named: Some(volume), ..seen(&certain) };
    check(&seen(&certain), "wait");
    check(&with(volume("v", &[], json!({}))), "bind v");
    check(&with(volume("v", &[], reference(""))), "bind v");
    check(&with(volume("v", &[], reference("u"))), "bind v");
    let taken = "wait FailedBinding: volume \"v\" already bound to a different claim.";
    check(&with(volume("v", &[], reference("another"))), taken);
    let small = volume("v", &[], json!({ "capacity": { "storage": "1Mi" } }));
    check(&with(small), "wait VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small");
}

#[test]
fn a_bound_claim_keeps_its_volume_or_is_lost() {
    let bound = claim("u", &[DONE], json!({ "volumeName": "v" }));
    let with = |volume| Seen { named: Some(volume), ..seen(&bound) };
    check(&with(volume("v", &[], reference("u"))), "bind v");
    check(&with(volume("v", &[], json!({}))), "bind v");
    check(&with(volume("v", &[], reference("another"))), "lose ClaimMisbound");
    check(&seen(&bound), "lose ClaimLost");
    check(&seen(&claim("u", &[DONE], json!({}))), "lose ClaimLost");
}

#[test]
fn a_claim_that_is_being_deleted_gets_no_volume() {
    let mut going = (*claim("u", &[], json!({}))).clone();
    going.metadata.deletion_timestamp = Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    check(&Seen { candidates: vec![volume("v", &[], json!({}))], ..seen(&Arc::new(going)) }, "rest");
}

fn check_volume(annotations: &[&str], spec: Value, claim: Option<&PersistentVolumeClaim>, expected: &VolumeStep) {
    assert_eq!(&super::volume(&volume("v", annotations, spec.clone()), claim), expected, "{spec}");
}

#[test]
fn a_volume_follows_its_claim() {
    let of = |name: &str| claim("u", &[], json!({ "volumeName": name }));
    check_volume(&[], json!({}), None, &VolumeStep::Phase("Available"));
    check_volume(&[], reference(""), Some(&of("")), &VolumeStep::Phase("Available"));
    check_volume(&[OURS], reference("u"), Some(&of("")), &VolumeStep::WakeClaim);
    check_volume(&[OURS], reference("u"), Some(&of("v")), &VolumeStep::Phase("Bound"));
    check_volume(&[OURS], reference("u"), Some(&of("w")), &VolumeStep::Unbind(true));
    check_volume(&[], reference("u"), Some(&of("w")), &VolumeStep::Unbind(false));
}

#[test]
fn a_volume_without_its_claim_is_released_and_reclaimed_by_policy() {
    let check = |annotations: &[&str], policy: &str, extra: Value, failure: Option<&str>| {
        let mut spec = reference("u");
        spec["persistentVolumeReclaimPolicy"] = policy.into();
        spec.as_object_mut().unwrap().append(&mut extra.as_object().unwrap().clone());
        match super::volume(&volume("v", annotations, spec), None) {
            VolumeStep::Release(Reclaim::Leave) => assert_eq!(failure, None, "{policy}"),
            VolumeStep::Release(Reclaim::Fail(note)) => assert_eq!(failure, Some(note.reason), "{policy}"),
            other => panic!("{other:?}"),
        }
    };
    check(&[], "Retain", json!({}), None);
    check(&[MADE], "Delete", json!({}), None);
    check(&[], "Delete", json!({ "csi": { "driver": "d", "volumeHandle": "h" } }), None);
    check(&[], "Delete", json!({}), Some("VolumeFailedDelete"));
    check(&[], "Recycle", json!({}), Some("VolumeFailedRecycle"));
    check(&[], "", json!({}), Some("VolumeUnknownReclaimPolicy"));
    let mut spare = reference("u");
    spare["persistentVolumeReclaimPolicy"] = "Delete".into();
    let elsewhere = claim("u", &[], json!({ "volumeName": "w" }));
    check_volume(&[OURS, MADE], spare, Some(&elsewhere), &VolumeStep::Release(Reclaim::Leave));
}
