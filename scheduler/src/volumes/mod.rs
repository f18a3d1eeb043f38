//! Claims, volumes and classes as the scheduler sees them: as they are, and as its own decisions will make them (upstream's
//! assume caches and `SchedulerVolumeBinder`).
//!
//! ```text
//!  PreFilter  needs      what the pod's claims ask of a node
//!  Reserve    reserve    a node's volumes are taken in memory: the next decision sees it
//!  PreBind    plan       what is to be written; `progress` says when the binding is complete
//!  Unreserve  forget     what was not written is free again
//! ```

mod drivers;
mod needs;
mod plan;
mod progress;
mod state;
#[cfg(test)]
mod tests;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Event, Informer, Informers, ObjectKey};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use tokio::sync::watch;

use self::state::State;
use crate::framework::{ClusterEvent, StorageEvent};

pub(crate) use drivers::DriverVolume;
pub(crate) use needs::Needs;
pub(crate) use plan::{Binding, Plan, Provision};
pub(crate) use topology::Topology;

/// Pods whose volumes may be waited for at once. Those beyond it wait in the queue, until a claim or volume changes.
pub(crate) const MAX_WAITING: usize = 768;

/// What the scheduler knows of volumes. All profiles share it.
#[derive(Debug, Default)]
pub struct Volumes {
    state: Mutex<State>,
    /// Tells bindings under way to look again.
    changed: watch::Sender<()>,
}

impl Volumes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    /// What the claims of a pod ask of a node; `None` when it has none. The error says why no node will do.
    pub(crate) fn needs(&self, pod: &Pod) -> Result<Option<Needs>, String> {
        self.state().needs(pod)
    }

    /// The zones that the volumes of a pod are in. The error says why that is not known.
    pub(crate) fn topologies(&self, pod: &Pod) -> Result<Vec<Topology>, String> {
        self.state().topologies(pod)
    }

    /// Those of a pod's claims that no other pod may use.
    pub(crate) fn exclusive_claims(&self, pod: &Pod) -> Result<Vec<ObjectKey>, String> {
        self.state().exclusive_claims(pod)
    }

    /// The volumes of drivers that pods use, those that are still to be made among them.
    pub(crate) fn of_drivers<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> BTreeSet<DriverVolume> {
        let state = self.state();
        pods.into_iter().flat_map(|pod| state.of_drivers(pod)).collect()
    }

    /// A driver of these volumes that pods cannot do without, and that is not on the node.
    pub(crate) fn missing_driver<'a>(&self, node: &str, needed: &'a BTreeSet<DriverVolume>) -> Option<&'a str> {
        self.state().missing_driver(node, needed)
    }

    /// How many volumes the drivers of these have room for on a node, of those that say so.
    pub(crate) fn limits(&self, node: &str, needed: &BTreeSet<DriverVolume>) -> BTreeMap<String, usize> {
        let state = self.state();
        let names = needed.iter().map(|volume| volume.driver.clone());
        names.filter_map(|driver| Some((driver.clone(), state.drivers.room(node, &driver)?))).collect()
    }

    /// The volumes of drivers that are attached to a node.
    pub(crate) fn attached(&self, node: &str) -> Vec<DriverVolume> {
        let state = self.state();
        state.drivers.attached(node, &state.volumes).collect()
    }

    /// Takes the volumes that a pod needs on a node.
    pub(crate) fn reserve(&self, pod: &Pod, node: &str) -> Result<(), Vec<String>> {
        let mut state = self.state();
        if state.plans() >= MAX_WAITING {
            return Err(vec![format!("{MAX_WAITING} pods wait for their volumes already")]);
        }
        state.reserve(pod, node)
    }

    /// Forgets what was taken for a pod. What was written by then is what the API says.
    pub(crate) fn forget(&self, uid: &str) {
        self.change(|state| state.forget(uid));
    }

    /// What is to be written for a pod; `None` when its volumes are bound.
    pub(crate) fn plan(&self, uid: &str) -> Option<Plan> {
        self.state().plan(uid)
    }

    /// Waits until everything that `plan` wrote is bound.
    pub(crate) async fn bound(&self, plan: &Plan) -> Result<(), String> {
        let mut changes = self.changed.subscribe();
        while !self.state().progress(plan)? {
            if changes.changed().await.is_err() {
                return Err("the volumes are not followed any more".to_owned());
            }
        }
        Ok(())
    }
}

/// Follows everything about volumes. `happened` learns what may help pods that wait.
pub(crate) fn listen<F>(volumes: Arc<Volumes>, informers: &Informers, pods: &Informer<Pod>, happened: F)
where
    F: Fn(&ClusterEvent) + Clone + Send + Sync + 'static,
{
    let (seen, tell) = (Arc::clone(&volumes), happened.clone());
    informers.of::<PersistentVolumeClaim>().on_event(move |event| {
        seen.change(|state| state.set_claim(event));
        if let Event::Applied { old, new } = event
            && old.as_ref().is_none_or(|old| is_other_claim(old, new))
        {
            tell(&ClusterEvent::Storage(StorageEvent::Claim(Arc::clone(new))));
        }
    });
    let (seen, tell) = (Arc::clone(&volumes), happened.clone());
    informers.of::<PersistentVolume>().on_event(move |event| {
        seen.change(|state| state.set_volume(event));
        if let Event::Applied { old, new } = event {
            tell(&ClusterEvent::Storage(StorageEvent::Volume { old: old.clone(), new: Arc::clone(new) }));
        }
    });
    let (seen, tell) = (Arc::clone(&volumes), happened.clone());
    informers.of::<StorageClass>().on_event(move |event| {
        seen.change(|state| state.set_class(event));
        if let Event::Applied { old, new } = event {
            tell(&ClusterEvent::Storage(StorageEvent::Class { old: old.clone(), new: Arc::clone(new) }));
        }
    });
    let (seen, tell) = (Arc::clone(&volumes), happened.clone());
    informers.of::<CSIDriver>().on_event(move |event| {
        seen.change(|state| state.set_driver(event));
        tell(&ClusterEvent::Storage(StorageEvent::Capacity));
    });
    let (seen, tell) = (Arc::clone(&volumes), happened.clone());
    informers.of::<CSINode>().on_event(move |event| {
        seen.change(|state| state.drivers.set_node(event));
        tell(&ClusterEvent::Storage(StorageEvent::Drivers));
    });
    let (seen, tell) = (Arc::clone(&volumes), happened.clone());
    informers.of::<VolumeAttachment>().on_event(move |event| {
        seen.change(|state| state.drivers.set_attachment(event));
        if matches!(event, Event::Deleted(_)) {
            tell(&ClusterEvent::Storage(StorageEvent::Drivers));
        }
    });
    let seen = Arc::clone(&volumes);
    informers.of::<CSIStorageCapacity>().on_event(move |event| {
        seen.change(|state| state.set_capacity(event));
        happened(&ClusterEvent::Storage(StorageEvent::Capacity));
    });
    let seen = Arc::clone(&volumes);
    informers.of::<Node>().on_event(move |event| seen.change(|state| state.set_node(event)));
    pods.on_event(move |event| {
        let is_over = matches!(event, Event::Deleted(_)) || event.object().metadata.deletion_timestamp.is_some();
        if is_over && let Some(uid) = &event.object().metadata.uid {
            volumes.change(|state| state.give_up(uid));
        }
    });
}

/// Whether a change of a claim matters to pods that use it; how much it holds does not.
fn is_other_claim(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let phase = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|status| status.phase.clone());
    old.spec != new.spec || old.metadata.annotations != new.metadata.annotations || phase(old) != phase(new)
}
