//! Writes claims and volumes. Every write names the version that the decision saw, so that it fails when somebody else was
//! faster; the next attempt sees what they did.

use api::volumes::{
    BETA_STORAGE_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, STORAGE_PROVISIONER, annotate, bound_to, volume_name,
};
use client::{ObjectKey, Recorder, Watchable, events, write};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use kube::Api;
use kube::api::PostParams;

use super::plan::Note;
use crate::context::{Failure, Outcome};
use crate::meta;

#[derive(Clone)]
pub(super) struct Writer {
    client: kube::Client,
    recorder: Recorder,
}

impl Writer {
    pub(super) fn new(client: kube::Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    fn claims(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The volume as it is now, whatever the cache says.
    pub(super) async fn live_volume(&self, name: &str) -> Result<Option<PersistentVolume>, Failure> {
        Ok(self.volumes().get_opt(name).await?)
    }

    /// The claim as it is now, whatever the cache says.
    pub(super) async fn live_claim(&self, key: &ObjectKey) -> Result<Option<PersistentVolumeClaim>, Failure> {
        Ok(self.claims(&key.namespace).get_opt(&key.name).await?)
    }

    pub(super) fn say<K: Watchable>(&self, object: &K, note: &Note) {
        let about = events::about(object);
        if note.is_warning {
            self.recorder.warning(about, note.reason, note.message.as_str());
        } else {
            self.recorder.normal(about, note.reason, note.message.as_str());
        }
    }

    /// Completes a binding: the volume's reference first, which decides, then what follows from it.
    pub(super) async fn bind(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let volume = match bound_to(volume, claim) {
            Some(bound) => self.replace_volume(&bound).await?,
            None => volume.clone(),
        };
        let volume = self.set_volume_phase(&volume, "Bound", None).await?;
        let claim = match with_volume(claim, meta::name(&volume.metadata)) {
            Some(bound) => self.replace_claim(&bound).await?,
            None => claim.clone(),
        };
        self.set_claim_phase(&claim, "Bound", Some(&volume)).await.map(drop)
    }

    /// Takes a binding back, all of it or the uid only.
    pub(super) async fn unbind(&self, volume: &PersistentVolume, all: bool) -> Result<(), Failure> {
        let free = self.replace_volume(&without_claim(volume, all)).await?;
        self.set_volume_phase(&free, "Available", None).await.map(drop)
    }

    /// Asks a provisioner for a volume.
    pub(super) async fn ask(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), Failure> {
        let mut asking = claim.clone();
        let beta = annotate(&mut asking.metadata, BETA_STORAGE_PROVISIONER, provisioner);
        if annotate(&mut asking.metadata, STORAGE_PROVISIONER, provisioner) || beta {
            asking = self.replace_claim(&asking).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.recorder.normal(events::about(&asking), "ExternalProvisioning", message);
        Ok(())
    }

    pub(super) async fn set_class(&self, claim: &PersistentVolumeClaim, class: String) -> Result<(), Failure> {
        let mut changed = claim.clone();
        changed.spec.get_or_insert_default().storage_class_name = Some(class);
        self.replace_claim(&changed).await.map(drop)
    }

    /// Writes a phase unless the volume has it; returns the volume as it is then.
    pub(super) async fn set_volume_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: Option<&str>,
    ) -> Result<PersistentVolume, Failure> {
        if volume_phase(volume) == phase {
            return Ok(volume.clone());
        }
        let mut changed = volume.clone();
        let status = changed.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.message = message.map(str::to_owned);
        let name = meta::name(&volume.metadata);
        Ok(self.volumes().replace_status(name, &PostParams::default(), &changed).await?)
    }

    /// Writes a phase and what comes with it; false when the claim has it already.
    pub(super) async fn set_claim_phase(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<bool, Failure> {
        let Some(status) = status(claim, phase, volume) else { return Ok(false) };
        let changed = PersistentVolumeClaim { status: Some(status), ..claim.clone() };
        let (namespace, name) = (meta::namespace(&claim.metadata), meta::name(&claim.metadata));
        self.claims(namespace).replace_status(name, &PostParams::default(), &changed).await?;
        Ok(true)
    }

    async fn replace_volume(&self, volume: &PersistentVolume) -> Result<PersistentVolume, Failure> {
        Ok(self.volumes().replace(meta::name(&volume.metadata), &PostParams::default(), volume).await?)
    }

    async fn replace_claim(&self, claim: &PersistentVolumeClaim) -> Result<PersistentVolumeClaim, Failure> {
        let api = self.claims(meta::namespace(&claim.metadata));
        Ok(api.replace(meta::name(&claim.metadata), &PostParams::default(), claim).await?)
    }
}

/// What is gone needs no more work.
pub(super) fn settled(outcome: Result<(), Failure>) -> Outcome {
    match outcome {
        Err(Failure::Request(err)) if write::is_not_found(&err) => Ok(None),
        Err(failure) => Err(failure),
        Ok(()) => Ok(None),
    }
}

/// The phase of a volume, empty for none.
pub(super) fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The claim as it is when it is bound to the volume; `None` when it is so already.
fn with_volume(claim: &PersistentVolumeClaim, volume: &str) -> Option<PersistentVolumeClaim> {
    let mut bound = claim.clone();
    if volume_name(claim) != volume {
        bound.spec.get_or_insert_default().volume_name = Some(volume.to_owned());
        annotate(&mut bound.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    if api::volumes::annotation(&claim.metadata, BIND_COMPLETED).is_none() {
        annotate(&mut bound.metadata, BIND_COMPLETED, "yes");
    }
    (bound != *claim).then_some(bound)
}

/// The volume without its claim; or, when a user wrote the reference, without the uid in it.
fn without_claim(volume: &PersistentVolume, all: bool) -> PersistentVolume {
    let mut free = volume.clone();
    let Some(spec) = &mut free.spec else { return free };
    if all {
        spec.claim_ref = None;
        free.metadata.annotations.iter_mut().for_each(|known| drop(known.remove(BOUND_BY_CONTROLLER)));
    } else if let Some(reference) = &mut spec.claim_ref {
        reference.uid = None;
    }
    free
}

/// The status of a claim in this phase, with this volume; `None` when it has it. What the volume holds is copied once: later
/// the file system may have another size than the volume.
fn status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<PersistentVolumeClaimStatus> {
    let known = claim.status.clone().unwrap_or_default();
    let mut status = PersistentVolumeClaimStatus { phase: Some(phase.to_owned()), ..known.clone() };
    let spec = volume.and_then(|volume| volume.spec.as_ref());
    status.access_modes = spec.and_then(|spec| spec.access_modes.clone());
    if spec.is_none() || known.phase.as_deref() != Some(phase) {
        status.capacity = spec.and_then(|spec| spec.capacity.clone());
        status.current_volume_attributes_class_name = spec.and_then(|spec| spec.volume_attributes_class_name.clone());
    }
    (status != known).then_some(status)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn volume(spec: Value) -> PersistentVolume {
        let annotations = json!({ BOUND_BY_CONTROLLER: "yes", "x": "y" });
        from_value(json!({ "metadata": { "name": "v", "annotations": annotations }, "spec": spec })).unwrap()
    }

    #[test]
    fn a_claim_says_once_how_large_its_volume_is() {
        let claim = |status: Value| -> PersistentVolumeClaim {
            from_value(json!({ "metadata": { "name": "c" }, "status": status })).unwrap()
        };
        let large = volume(json!({ "capacity": { "storage": "2Gi" }, "accessModes": ["ReadWriteOnce"] }));
        let bound = status(&claim(json!({ "phase": "Pending" })), "Bound", Some(&large)).unwrap();
        assert_eq!(bound.capacity.as_ref().unwrap()["storage"].0, "2Gi");
        assert_eq!(bound.access_modes.as_deref().unwrap(), ["ReadWriteOnce"]);
        let grown = json!({ "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" } });
        assert_eq!(status(&claim(grown.clone()), "Bound", Some(&large)), None);
        let lost = status(&claim(grown), "Lost", None).unwrap();
        assert_eq!((lost.capacity, lost.access_modes), (None, None));
        assert_eq!(status(&claim(json!({ "phase": "Pending" })), "Pending", None), None);
    }

    #[test]
    fn only_a_reference_of_ours_is_taken_back_whole() {
        let taken = volume(json!({ "claimRef": { "name": "c", "namespace": "n", "uid": "u" } }));
        let free = without_claim(&taken, true);
        assert!(free.spec.unwrap().claim_ref.is_none());
        assert_eq!(free.metadata.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["x"]);
        let kept = without_claim(&taken, false).spec.unwrap().claim_ref.unwrap();
        assert_eq!((kept.name.as_deref(), kept.uid), (Some("c"), None));
    }

    #[test]
    fn a_claim_that_named_its_volume_is_not_marked_as_bound_by_us() {
        let claim = |spec: Value| from_value(json!({ "metadata": { "name": "c" }, "spec": spec })).unwrap();
        let keys = |claim: &PersistentVolumeClaim| -> Vec<String> {
            let bound = with_volume(claim, "v").unwrap();
            assert!(with_volume(&bound, "v").is_none());
            bound.metadata.annotations.unwrap().into_keys().collect()
        };
        assert_eq!(keys(&claim(json!({ "volumeName": "v" }))), [BIND_COMPLETED]);
        assert_eq!(keys(&claim(json!({}))), [BIND_COMPLETED, BOUND_BY_CONTROLLER]);
    }
}
