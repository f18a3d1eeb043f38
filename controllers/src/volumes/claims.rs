//! Brings one claim nearer to a volume.

use std::sync::Arc;

use api::volumes::{BIND_COMPLETED, annotation, claim_class, volume_name};
use client::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::observe::Caches;
use super::plan::{self, ClaimStep, Seen};
use super::write::{Writer, settled};
use crate::context::{Controller, Failure, Outcome};

pub(super) struct Claims {
    caches: Caches,
    writer: Writer,
}

impl Claims {
    pub(super) fn new(caches: Caches, writer: Writer) -> Self {
        Self { caches, writer }
    }

    async fn observe(&self, claim: Arc<PersistentVolumeClaim>) -> Result<Seen, Failure> {
        let named = self.named(&claim).await?;
        let is_open = volume_name(&claim).is_empty();
        Ok(Seen {
            named,
            candidates: if is_open { self.caches.candidates(&claim) } else { Vec::new() },
            class: self.caches.class(claim_class(&claim)),
            default_class: self.caches.default_class(),
            waiting_pods: if is_open { self.caches.waiting_pods(&ObjectKey::of(&*claim)) } else { Vec::new() },
            claim,
        })
    }

    /// The volume that the claim names. That one is lost cannot be taken back, so the cache alone is not believed.
    async fn named(&self, claim: &PersistentVolumeClaim) -> Result<Option<Arc<PersistentVolume>>, Failure> {
        let name = volume_name(claim);
        if name.is_empty() {
            return Ok(None);
        }
        let cached = self.caches.volumes.get(&ObjectKey::cluster(name));
        if cached.is_some() || annotation(&claim.metadata, BIND_COMPLETED).is_none() {
            return Ok(cached);
        }
        Ok(self.writer.live_volume(name).await?.map(Arc::new))
    }

    async fn execute(&self, seen: &Seen) -> Result<(), Failure> {
        let claim = &*seen.claim;
        match plan::claim(seen) {
            ClaimStep::Rest => Ok(()),
            ClaimStep::Bind(volume) => self.writer.bind(&volume, claim).await,
            ClaimStep::SetClass(class) => self.writer.set_class(claim, class).await,
            ClaimStep::Provision(by) => self.writer.ask(claim, &by).await,
            ClaimStep::Say(note) => {
                self.writer.say(claim, &note);
                Ok(())
            }
            ClaimStep::Wait(note) => {
                note.iter().for_each(|note| self.writer.say(claim, note));
                self.writer.set_claim_phase(claim, "Pending", None).await.map(drop)
            }
            ClaimStep::Lose(note) => {
                if self.writer.set_claim_phase(claim, "Lost", None).await? {
                    self.writer.say(claim, &note);
                }
                Ok(())
            }
        }
    }
}

impl Controller for Claims {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(claim) = self.caches.claims.get(&key) else { return Ok(None) };
        let seen = self.observe(claim).await?;
        settled(self.execute(&seen).await)
    }
}
