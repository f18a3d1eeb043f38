//! Gangs: pods that get their places together or not at all (KEP-4671; upstream: `PodGroupManager`).
//!
//! A pod names its gang by `spec.schedulingGroup`, whose `PodGroup` says how many of its pods must start together, or by
//! the labels of the coscheduling plugin, which say both.
//!
//! ```text
//!  PreEnqueue  held back until enough pods are there
//!  the cycle   when one has its turn, all without a place are tried, with nobody between them
//!  Permit      each is held on its node; the one that makes them enough lets all go to their nodes
//!  Unreserve   were they not enough in the end, all places are given back: no gang ever waits half-placed, so no two of
//!              them can wait for each other
//! ```

mod membership;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Event, Informer, Informers, ObjectKey};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;

pub(crate) use self::membership::{LEAST, Membership};
use self::state::State;

/// What the scheduler knows of gangs. All profiles share it.
#[derive(Debug, Default)]
pub struct Gangs {
    state: Mutex<State>,
}

impl Gangs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a pod; answers the pods, by uid, whose wait for company may be over by that.
    pub(crate) fn set_pod(&self, pod: &Pod) -> Vec<String> {
        self.state().set_pod(pod)
    }

    /// Forgets a pod.
    pub(crate) fn remove_pod(&self, uid: &str) {
        self.state().remove_pod(uid);
    }

    /// Takes over a group, or its end; answers the pods whose wait may be over by that.
    pub(crate) fn set_group(&self, key: ObjectKey, group: Option<Arc<PodGroup>>) -> Vec<String> {
        self.state().set_group(key, group)
    }

    /// Why a pod is not tried yet.
    pub(crate) fn waits_for(&self, pod: &Pod) -> Option<String> {
        self.state().waits_for(pod)
    }

    /// The other pods of a pod's gang that have no place; `None` when it is tried alone.
    pub(crate) fn mates(&self, uid: &str) -> Option<Vec<String>> {
        self.state().mates(uid)
    }

    /// Keeps a place for a pod. Answers all of its gang whose places are kept, once they suffice; or why they do not.
    pub(crate) fn reserve(&self, uid: &str) -> Result<Vec<String>, String> {
        self.state().reserve(uid)
    }

    /// Gives a pod's place back, unless it is bound.
    pub(crate) fn release(&self, uid: &str) {
        self.state().release(uid);
    }

    /// Why those of a pod's gang that have places do not suffice, even if `more` of them had some.
    pub(crate) fn missing(&self, uid: &str, more: usize) -> Option<String> {
        self.state().missing(uid, more)
    }

    /// The object that a pod's gang is described by.
    pub(crate) fn group(&self, uid: &str) -> Option<Arc<PodGroup>> {
        self.state().group(uid)
    }
}

/// Whether the API server has `PodGroup`s; asks until it answers.
pub(crate) async fn are_served(client: &kube::Client) -> bool {
    client::is_served(client, "scheduling.k8s.io/v1alpha2", "podgroups").await
}

/// Follows pods, and groups where the API server has them. `told` learns which pods are to be asked about again.
pub(crate) fn listen<F>(gangs: &Arc<Gangs>, informers: &Informers, pods: &Informer<Pod>, with_groups: bool, told: F)
where
    F: Fn(Option<ObjectKey>, Vec<String>) + Clone + Send + Sync + 'static,
{
    let (seen, tell) = (Arc::clone(gangs), told.clone());
    pods.on_event(move |event| match event {
        Event::Deleted(pod) => seen.remove_pod(pod.metadata.uid.as_deref().unwrap_or_default()),
        Event::Applied { new, .. } if new.metadata.deletion_timestamp.is_some() && !has_node(new) => {
            seen.remove_pod(new.metadata.uid.as_deref().unwrap_or_default());
        }
        Event::Applied { new, .. } => tell(None, seen.set_pod(new)),
    });
    if !with_groups {
        return;
    }
    let seen = Arc::clone(gangs);
    informers.of::<PodGroup>().on_event(move |event| {
        let group = match event {
            Event::Applied { new, .. } => Some(Arc::clone(new)),
            Event::Deleted(_) => None,
        };
        told(Some(event.key()), seen.set_group(event.key(), group));
    });
}

fn has_node(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty())
}
