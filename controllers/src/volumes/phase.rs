//! Brings one volume to the phase that its claim gives it.

use std::sync::Arc;

use api::volumes::claim_reference;
use client::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::Keys;
use super::observe::{Caches, claimant};
use super::plan::{self, Reclaim, VolumeStep};
use super::write::{Writer, settled, volume_phase};
use crate::context::{Controller, Failure, Outcome};

pub(super) struct Volumes {
    caches: Caches,
    writer: Writer,
    claims: Keys,
}

impl Volumes {
    pub(super) fn new(caches: Caches, writer: Writer, claims: Keys) -> Self {
        Self { caches, writer, claims }
    }

    /// The claim that the volume refers to. Before a volume is released the API server is asked: who bound it may have
    /// known a claim that is not in the cache yet.
    async fn claim(&self, volume: &PersistentVolume) -> Result<Option<Arc<PersistentVolumeClaim>>, Failure> {
        let (Some(key), Some(reference)) = (claimant(volume), claim_reference(volume)) else { return Ok(None) };
        let wanted = reference.uid.as_deref().unwrap_or_default();
        let is_it = |claim: &PersistentVolumeClaim| wanted.is_empty() || claim.metadata.uid.as_deref() == Some(wanted);
        let cached = self.caches.claims.get(&key).filter(|claim| is_it(claim));
        let is_decided = wanted.is_empty() || matches!(volume_phase(volume), "Released" | "Failed");
        if cached.is_some() || is_decided {
            return Ok(cached);
        }
        Ok(self.writer.live_claim(&key).await?.filter(is_it).map(Arc::new))
    }

    async fn execute(&self, volume: &PersistentVolume, step: VolumeStep) -> Result<(), Failure> {
        match step {
            VolumeStep::Phase(phase) => self.writer.set_volume_phase(volume, phase, None).await.map(drop),
            VolumeStep::WakeClaim => {
                claimant(volume).into_iter().for_each(|claim| self.claims.add(claim));
                Ok(())
            }
            VolumeStep::Unbind(all) => self.writer.unbind(volume, all).await,
            VolumeStep::Release(reclaim) => self.release(volume, &reclaim).await,
        }
    }

    /// A failure stays to be seen.
    async fn release(&self, volume: &PersistentVolume, reclaim: &Reclaim) -> Result<(), Failure> {
        let is_decided = matches!(volume_phase(volume), "Released" | "Failed");
        let released =
            if is_decided { volume.clone() } else { self.writer.set_volume_phase(volume, "Released", None).await? };
        let Reclaim::Fail(note) = reclaim else { return Ok(()) };
        if volume_phase(&released) != "Failed" {
            let failed = self.writer.set_volume_phase(&released, "Failed", Some(&note.message)).await?;
            self.writer.say(&failed, note);
        }
        Ok(())
    }
}

impl Controller for Volumes {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(volume) = self.caches.volumes.get(&key) else { return Ok(None) };
        let claim = self.claim(&volume).await?;
        let step = plan::volume(&volume, claim.as_deref());
        settled(self.execute(&volume, step).await)
    }
}
