//! What is to be done about a claim.

use std::sync::Arc;

use api::volumes::{
    BIND_COMPLETED, Candidates, SELECTED_NODE, annotation, claim_class, claim_reference, fits, is_class_open,
    is_delayed, refers_to, volume_name,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::Note;
use crate::meta;

/// A claim and what surrounds it.
#[derive(Debug)]
pub(in super::super) struct Seen {
    pub(in super::super) claim: Arc<PersistentVolumeClaim>,
    /// The volume that the claim names, if there is one of this name.
    pub(in super::super) named: Option<Arc<PersistentVolume>>,
    /// Volumes that may be right.
    pub(in super::super) candidates: Vec<Arc<PersistentVolume>>,
    /// The claim's class, if it exists.
    pub(in super::super) class: Option<Arc<StorageClass>>,
    /// The class for claims that leave it open.
    pub(in super::super) default_class: Option<String>,
    /// Pods that use the claim and have no node.
    pub(in super::super) waiting_pods: Vec<String>,
}

/// What is to be done about a claim.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum ClaimStep {
    /// Nothing.
    Rest,
    /// Both sides are written until they say that they are bound to each other.
    Bind(Arc<PersistentVolume>),
    /// The claim gets the cluster's default class.
    SetClass(String),
    /// The provisioner of this name is asked for a volume.
    Provision(String),
    /// Only said: a provisioner cannot be asked.
    Say(Note),
    /// The claim is `Pending`.
    Wait(Option<Note>),
    /// The claim is `Lost`, for good.
    Lose(Note),
}

/// Decides about a claim.
pub(in super::super) fn plan(seen: &Seen) -> ClaimStep {
    let claim = &seen.claim;
    let was_bound = annotation(&claim.metadata, BIND_COMPLETED).is_some();
    match (was_bound, volume_name(claim), &seen.named) {
        (false, "", _) => find(seen),
        (false, _, None) => ClaimStep::Wait(None),
        (false, _, Some(volume)) => take(claim, volume),
        (true, "", _) => {
            lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
        }
        (true, _, None) => lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        (true, _, Some(volume)) => keep(claim, volume),
    }
}

fn lost(reason: &'static str, message: &str) -> ClaimStep {
    ClaimStep::Lose(Note::warning(reason, message))
}

/// A claim that was bound before.
fn keep(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> ClaimStep {
    match claim_reference(volume) {
        Some(reference) if reference.uid != claim.metadata.uid => {
            lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
        _ => ClaimStep::Bind(Arc::clone(volume)),
    }
}

/// A claim for a certain volume.
fn take(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> ClaimStep {
    let name = meta::name(&volume.metadata);
    if refers_to(volume, claim) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    if claim_reference(volume).is_some() {
        let message = format!("volume {name:?} already bound to a different claim.");
        return ClaimStep::Wait(Some(Note::warning("FailedBinding", message)));
    }
    match fits(claim, volume) {
        Ok(()) => ClaimStep::Bind(Arc::clone(volume)),
        Err(no) => {
            let message = format!("Cannot bind to requested volume {name:?}: {no}");
            ClaimStep::Wait(Some(Note::warning("VolumeMismatch", message)))
        }
    }
}

/// A claim for any volume.
fn find(seen: &Seen) -> ClaimStep {
    if seen.claim.metadata.deletion_timestamp.is_some() {
        return ClaimStep::Rest;
    }
    let waits = seen.class.as_deref().is_some_and(is_delayed);
    if let Some(volume) = best(&seen.claim, &seen.candidates, waits) {
        return ClaimStep::Bind(volume);
    }
    if let Some(class) = &seen.default_class
        && is_class_open(&seen.claim)
    {
        return ClaimStep::SetClass(class.clone());
    }
    if waits && annotation(&seen.claim.metadata, SELECTED_NODE).is_none() {
        return ClaimStep::Wait(Some(first_consumer(&seen.waiting_pods)));
    }
    if claim_class(&seen.claim).is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return ClaimStep::Wait(Some(Note::normal("FailedBinding", message)));
    }
    provision(seen)
}

/// One that is kept for the claim; else, unless the scheduler chooses, that with the fewest access modes, the smallest of
/// these.
fn best(
    claim: &PersistentVolumeClaim,
    candidates: &[Arc<PersistentVolume>],
    scheduler_chooses: bool,
) -> Option<Arc<PersistentVolume>> {
    let candidates = Candidates::of(claim, candidates.iter().cloned());
    if candidates.reserved.is_some() || scheduler_chooses {
        return candidates.reserved;
    }
    let modes = |volume: &Arc<PersistentVolume>| {
        volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).map_or(0, Vec::len)
    };
    candidates.free.into_iter().min_by_key(modes)
}

fn first_consumer(pods: &[String]) -> Note {
    match pods {
        [] => Note::normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        [pod] => Note::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => Note::normal("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
    }
}

fn provision(seen: &Seen) -> ClaimStep {
    let failed = |message| ClaimStep::Say(Note::warning("ProvisioningFailed", message));
    let Some(class) = &seen.class else {
        return failed(format!("storageclass.storage.k8s.io {:?} not found", claim_class(&seen.claim)));
    };
    if class.provisioner.starts_with("kubernetes.io/") {
        return failed(format!("no volume plugin matched name: {}", class.provisioner));
    }
    ClaimStep::Provision(class.provisioner.clone())
}
