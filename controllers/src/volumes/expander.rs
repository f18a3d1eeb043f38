//! Tells claims that ask for more that somebody else has to make their volumes larger (upstream:
//! pkg/controller/volume/expand, which has done no more than that since volumes of all kinds are those of drivers).

use std::sync::Arc;

use api::volumes::{is_bound, requested};
use client::{Event, ObjectKey, Recorder, WorkQueue, events};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::ClaimCache;
use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "persistentvolume-expander-controller",
    aliases: &["persistentvolume-expander"],
    start: |start| start.drive("persistentvolume-expander", Expander::new(start.context), 1),
};

struct Expander {
    claims: ClaimCache,
    recorder: Recorder,
}

impl Expander {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let claims: ClaimCache = context.informers.of();
        let changed = queue.clone();
        claims.on_event(move |event| {
            if let Event::Applied { old: Some(old), new } = event
                && requested(old) < requested(new)
            {
                changed.add(event.key());
            }
        });
        (Self { claims, recorder: context.recorder.for_component("volume_expand") }, queue)
    }
}

impl Controller for Expander {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let asks = |claim: &Arc<PersistentVolumeClaim>| is_bound(claim) && has_less(claim);
        if let Some(claim) = self.claims.get(&key).filter(asks) {
            let message = "waiting for an external controller to expand this PVC";
            self.recorder.normal(events::about(&*claim), "ExternalExpanding", message);
        }
        Ok(None)
    }
}

/// Whether the claim has less than it asks for.
fn has_less(claim: &PersistentVolumeClaim) -> bool {
    let asked = requested(claim);
    let has = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    has.and_then(|has| Some(asked > has.0.parse().ok()?)) == Some(true)
}
