//! Persistent volumes: binds claims to volumes, asks provisioners for volumes that are missing, and releases those whose
//! claim is gone (upstream's `pkg/controller/volume/persistentvolume` and `.../ephemeral`).
//!
//! ```text
//!             fits, or the scheduler chose it           claim deleted
//!  Available ---------------------------------> Bound -----------------> Released --- Retain: stays
//!                                                                                \--- Delete: its provisioner deletes it
//!  Pending ---- no volume: provisioner asked -> Bound -- volume deleted --> Lost
//! ```
//!
//! The volume is written first and with the version that the decision saw, so that no two claims get one volume. References
//! are by uid: an object that was made again under the same name is another one. Making and deleting what a volume stands
//! for is left to provisioners; volumes are never recycled.

mod claims;
pub(crate) mod ephemeral;
pub(crate) mod expander;
mod observe;
mod phase;
mod plan;
mod write;

use client::{Informer, ObjectKey, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use self::claims::Claims;
use self::observe::Caches;
use self::phase::Volumes;
use self::write::Writer;
use crate::descriptor::Descriptor;

/// The controller of claims and volumes.
pub(crate) const BINDER: Descriptor = Descriptor {
    name: "persistentvolume-binder-controller",
    aliases: &["persistentvolume-binder"],
    start: |start| {
        let (claim_queue, volume_queue) = (WorkQueue::new(), WorkQueue::new());
        let caches = Caches::new(start.context);
        caches.wake(&claim_queue, &volume_queue);
        let recorder = start.context.recorder.for_component("persistentvolume-controller");
        let writer = Writer::new(start.context.client.clone(), recorder);
        let claims = Claims::new(caches.clone(), writer.clone());
        let volumes = Volumes::new(caches, writer, claim_queue.clone());
        start.drive("persistentvolumeclaim-binder", (claims, claim_queue), CLAIM_WORKERS)?;
        start.drive("persistentvolume-binder", (volumes, volume_queue), start.config.tuning.concurrent_syncs)
    },
};

/// One claim at a time: two that look for a volume at once would choose the same one, and one of them in vain.
const CLAIM_WORKERS: usize = 1;

/// The queue of claims or volumes to look at.
type Keys = WorkQueue<ObjectKey>;
type ClaimCache = Informer<PersistentVolumeClaim>;
type VolumeCache = Informer<PersistentVolume>;
type ClassCache = Informer<StorageClass>;
type PodCache = Informer<Pod>;
