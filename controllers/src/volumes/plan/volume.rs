//! What is to be done about a volume.

use api::volumes::{BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONED_BY, annotation, claim_reference, volume_name};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::Note;
use crate::meta;

/// What is to be done about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum VolumeStep {
    /// The volume gets this phase.
    Phase(&'static str),
    /// Its claim is looked at: that completes the binding.
    WakeClaim,
    /// The reference to the claim is taken back. With `true` all of it, else the uid only: a user wrote the rest.
    Unbind(bool),
    /// Its claim is gone.
    Release(Reclaim),
}

/// What becomes of a volume whose claim is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Reclaim {
    /// It stays, or somebody else deletes it.
    Leave,
    /// It is `Failed`: what its policy asks for cannot be done.
    Fail(Note),
}

/// Decides about a volume. `claim` is the one that it refers to: of the same name and, if the reference has a uid, with
/// this uid.
pub(in super::super) fn plan(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let Some(reference) = claim_reference(volume) else { return VolumeStep::Phase("Available") };
    if reference.uid.as_deref().unwrap_or_default().is_empty() {
        return VolumeStep::Phase("Available");
    }
    let Some(claim) = claim else { return VolumeStep::Release(reclaim(volume)) };
    match volume_name(claim) {
        "" => VolumeStep::WakeClaim,
        name if name == meta::name(&volume.metadata) => VolumeStep::Phase("Bound"),
        _elsewhere if is_spare(volume) => VolumeStep::Release(reclaim(volume)),
        _elsewhere => VolumeStep::Unbind(annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some()),
    }
}

/// Whether the volume was made for a claim that took another, and may go.
fn is_spare(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy(volume) == "Delete"
}

fn policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or_default()
}

fn reclaim(volume: &PersistentVolume) -> Reclaim {
    if annotation(&volume.metadata, MIGRATED_TO).is_some_and(|driver| !driver.is_empty()) {
        return Reclaim::Leave;
    }
    match policy(volume) {
        "Retain" => Reclaim::Leave,
        "Delete" if has_deleter(volume) => Reclaim::Leave,
        "Delete" => {
            let name = meta::name(&volume.metadata);
            let message =
                format!("error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched");
            Reclaim::Fail(Note::warning("VolumeFailedDelete", message))
        }
        "Recycle" => Reclaim::Fail(Note::warning("VolumeFailedRecycle", "No recycler plugin found for the volume!")),
        _ => Reclaim::Fail(Note::warning(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy",
        )),
    }
}

/// Whether a provisioner outside Kubernetes deletes the volume.
fn has_deleter(volume: &PersistentVolume) -> bool {
    match annotation(&volume.metadata, PROVISIONED_BY).filter(|by| !by.is_empty()) {
        Some(by) => !by.starts_with("kubernetes.io/"),
        None => volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some()),
    }
}
