//! What the binding of volumes looks at, and what wakes it.

use std::sync::Arc;

use api::volumes;
use client::{Event, ObjectKey};
use facts::pods;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{ClaimCache, ClassCache, Keys, PodCache, VolumeCache};
use crate::context::Context;
use crate::meta;

/// Volumes that no claim has, by class.
const FREE_BY_CLASS: &str = "free by class";
/// Volumes by `namespace/name` of the claim that they refer to.
const BY_CLAIM: &str = "claim";
/// Claims that have no volume yet, by class.
const OPEN_BY_CLASS: &str = "open by class";
/// Claims by the volume that they name.
const BY_VOLUME: &str = "volume";
/// Pods without a node, by `namespace/name` of the claims that they use.
const WAITING_BY_CLAIM: &str = "waiting by claim";

/// The caches of everything that takes part in a binding.
#[derive(Clone)]
pub(super) struct Caches {
    pub(super) claims: ClaimCache,
    pub(super) volumes: VolumeCache,
    classes: ClassCache,
    pods: PodCache,
}

impl Caches {
    pub(super) fn new(context: &Context) -> Self {
        let informers = &context.informers;
        let caches =
            Self { claims: informers.of(), volumes: informers.of(), classes: informers.of(), pods: informers.of() };
        caches.volumes.add_index(FREE_BY_CLASS, |volume| free_class(volume).into_iter().collect());
        caches.volumes.add_index(BY_CLAIM, |volume| claimant(volume).iter().map(ToString::to_string).collect());
        caches.claims.add_index(OPEN_BY_CLASS, |claim| open_class(claim).into_iter().collect());
        caches.claims.add_index(BY_VOLUME, |claim| wanted(claim).into_iter().collect());
        caches.pods.add_index(WAITING_BY_CLAIM, |pod| waits_for(pod).iter().map(ToString::to_string).collect());
        caches
    }

    /// The volumes that refer to a claim of this name, and those that are free in its class.
    pub(super) fn candidates(&self, claim: &PersistentVolumeClaim) -> Vec<Arc<PersistentVolume>> {
        let mut found = self.referring(&ObjectKey::of(claim));
        found.extend(self.volumes.by_index(FREE_BY_CLASS, volumes::claim_class(claim)));
        found
    }

    fn referring(&self, claim: &ObjectKey) -> Vec<Arc<PersistentVolume>> {
        self.volumes.by_index(BY_CLAIM, &claim.to_string())
    }

    pub(super) fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.get(&ObjectKey::cluster(name)).filter(|_| !name.is_empty())
    }

    /// The name of the class for claims that leave it open.
    pub(super) fn default_class(&self) -> Option<String> {
        volumes::default_class(&self.classes.list()).and_then(|class| class.metadata.name.clone())
    }

    /// The names of the pods that use the claim and have no node yet.
    pub(super) fn waiting_pods(&self, claim: &ObjectKey) -> Vec<String> {
        let pods = self.pods.by_index(WAITING_BY_CLAIM, &claim.to_string());
        pods.iter().map(|pod| meta::name(&pod.metadata).to_owned()).collect()
    }

    /// Queues claims and volumes when something changes that concerns them.
    pub(super) fn wake(&self, claims: &Keys, volumes: &Keys) {
        let (caches, own, others) = (self.clone(), claims.clone(), volumes.clone());
        self.claims.on_event(move |event| caches.claim_changed(event, &own, &others));
        let (caches, own, others) = (self.clone(), volumes.clone(), claims.clone());
        self.volumes.on_event(move |event| caches.volume_changed(event, &own, &others));
        let (caches, queue) = (self.clone(), claims.clone());
        self.classes.on_event(move |event| caches.class_changed(event, &queue));
        let queue = claims.clone();
        self.pods.on_event(move |event| {
            if let Event::Applied { old: None, new } = event {
                waits_for(new).into_iter().for_each(|claim| queue.add(claim));
            }
        });
    }

    fn claim_changed(&self, event: &Event<PersistentVolumeClaim>, claims: &Keys, volumes: &Keys) {
        let key = event.key();
        for volume in self.referring(&key) {
            volumes.add(ObjectKey::of(&*volume));
        }
        if let Event::Applied { new, .. } = event {
            wanted(new).into_iter().for_each(|name| volumes.add(ObjectKey::cluster(name)));
            claims.add(key);
        }
    }

    fn volume_changed(&self, event: &Event<PersistentVolume>, volumes: &Keys, claims: &Keys) {
        let key = event.key();
        for claim in self.claims.by_index(BY_VOLUME, &key.name) {
            claims.add(ObjectKey::of(&*claim));
        }
        let Event::Applied { old, new } = event else { return };
        if let Some(claim) = claimant(new) {
            claims.add(claim);
        }
        if let Some(class) = free_class(new)
            && old.as_ref().is_none_or(|old| is_other(old, new))
        {
            self.wake_class(&class, claims);
        }
        volumes.add(key);
    }

    fn class_changed(&self, event: &Event<StorageClass>, claims: &Keys) {
        let Event::Applied { new, .. } = event else { return };
        self.wake_class(meta::name(&new.metadata), claims);
        if volumes::is_default(new) {
            self.wake_class("", claims);
        }
    }

    fn wake_class(&self, class: &str, claims: &Keys) {
        for claim in self.claims.by_index(OPEN_BY_CLASS, class) {
            claims.add(ObjectKey::of(&*claim));
        }
    }
}

/// Whether a change of a free volume may make it right for another claim.
fn is_other(old: &PersistentVolume, new: &PersistentVolume) -> bool {
    let phase = |volume: &PersistentVolume| volume.status.as_ref().and_then(|status| status.phase.clone());
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || phase(old) != phase(new)
}

/// The claim that a volume refers to.
pub(super) fn claimant(volume: &PersistentVolume) -> Option<ObjectKey> {
    let reference = volumes::claim_reference(volume)?;
    Some(ObjectKey::new(reference.namespace.clone()?, reference.name.clone()?))
}

fn free_class(volume: &PersistentVolume) -> Option<String> {
    volumes::claim_reference(volume).is_none().then(|| volumes::volume_class(volume).to_owned())
}

fn open_class(claim: &PersistentVolumeClaim) -> Option<String> {
    volumes::volume_name(claim).is_empty().then(|| volumes::claim_class(claim).to_owned())
}

fn wanted(claim: &PersistentVolumeClaim) -> Option<String> {
    Some(volumes::volume_name(claim).to_owned()).filter(|name| !name.is_empty())
}

/// The claims that a pod waits for: it has no node and has not ended.
fn waits_for(pod: &Pod) -> Vec<ObjectKey> {
    if !pods::node(pod).is_empty() || pods::is_terminal(pod) {
        return Vec::new();
    }
    let namespace = meta::namespace(&pod.metadata);
    volumes::claims_of(pod).into_iter().map(|used| ObjectKey::new(namespace, used.name)).collect()
}
