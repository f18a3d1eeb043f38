//! Watching the owners of pods, and the pods for them (upstream: `resolveControllerRef`).

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Event, Expectations, Informer, ObjectKey, Watchable, WorkQueue};
use facts::owners::controller_of;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::Selector;

use crate::{meta, selectors};

/// Objects by the uid of their controller.
pub(crate) const BY_CONTROLLER: &str = "controller uid";
/// Objects without a controller, by namespace.
pub(crate) const ORPHANS: &str = "orphans of namespace";

/// Adds the indexes by controller and of orphans.
pub(crate) fn add_ownership<K: Watchable>(informer: &Informer<K>) {
    informer.add_index(BY_CONTROLLER, |object| {
        controller_of(object.meta()).map(|owner| owner.uid.clone()).into_iter().collect()
    });
    informer.add_index(ORPHANS, |object| match controller_of(object.meta()) {
        Some(_) => Vec::new(),
        None => vec![object.meta().namespace.clone().unwrap_or_default()],
    });
}

/// Queues owners that change. One of the same name that comes later must not wait for the pods of one that is gone.
pub(crate) fn watch_owners<K: Watchable>(
    owners: &Informer<K>,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Arc<Expectations>,
) {
    let (queue, expectations) = (queue.clone(), Arc::clone(expectations));
    owners.on_event(move |event| {
        if matches!(event, Event::Deleted(_)) {
            expectations.forget(&event.key());
        }
        queue.add(event.key());
    });
}

/// Queues the owners of pods that change: the one that controls it, the one that did before, and for an orphan all of its
/// namespace that select it. What was expected of the pod is seen.
pub(crate) fn watch_pods<K: Watchable>(
    pods: &Informer<Pod>,
    owners: &Informer<K>,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Arc<Expectations>,
    selector: fn(&K) -> Option<Selector>,
) {
    let (queue, owners, expectations) = (queue.clone(), owners.clone(), Arc::clone(expectations));
    pods.on_event(move |event| {
        let meta = event.object().meta();
        let owner = meta::controller_key::<K>(meta);
        if let Some(owner) = &owner {
            observe(event, owner, &expectations);
        }
        match (owner, event) {
            (Some(owner), _) => queue.add(owner),
            (None, Event::Applied { new, .. }) if controller_of(meta).is_none() => {
                add_matching(&owners, new, &queue, selector);
            }
            (None, _) => {}
        }
        if let Event::Applied { old: Some(old), .. } = event
            && let Some(former) = meta::controller_key::<K>(&old.metadata)
        {
            queue.add(former);
        }
    });
}

/// Notes that a pod of `owner` has come, goes or is gone.
pub(crate) fn observe(event: &Event<Pod>, owner: &ObjectKey, expectations: &Expectations) {
    let meta = event.object().meta();
    match event {
        Event::Applied { old: None, .. } => expectations.creation_observed(owner),
        Event::Deleted(_) => expectations.deletion_observed(owner, meta::uid(meta)),
        Event::Applied { .. } => {}
    }
    if meta.deletion_timestamp.is_some() {
        expectations.deletion_observed(owner, meta::uid(meta));
    }
}

/// An orphan may be adopted by any owner of its namespace that selects it.
fn add_matching<K: Watchable>(
    owners: &Informer<K>,
    orphan: &Pod,
    queue: &WorkQueue<ObjectKey>,
    selector: fn(&K) -> Option<Selector>,
) {
    if orphan.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
        return;
    }
    for owner in owners.list_in(meta::namespace(&orphan.metadata)) {
        if selector(&owner).is_some_and(|selector| selectors::matches(&selector, &orphan.metadata)) {
            queue.add(ObjectKey::of(&*owner));
        }
    }
}
