//! Keeps the number of pods that a ReplicaSet asks for.

mod plan;
pub(crate) mod rank;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use client::{Event, Expectations, Informer, ObjectKey, Recorder, WorkQueue, clock, events};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{Api, Resource, ResourceExt, api::PostParams};

use self::plan::{Step, Trouble};
use crate::{
    claim,
    context::{Context, Controller, Failure, Outcome},
    index::{self, BY_CONTROLLER},
    podcontrol::PodControl,
    pods,
};

/// The controller's caches and its memory of unfinished writes.
pub(crate) struct ReplicaSets {
    client: kube::Client,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    expectations: Arc<Expectations>,
    control: PodControl,
    recorder: Recorder,
}

impl ReplicaSets {
    /// Subscribes to what concerns ReplicaSets.
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (sets, pods) = (context.informers.of::<ReplicaSet>(), context.informers.of::<Pod>());
        index::add_ownership(&sets);
        index::add_ownership(&pods);
        let (queue, expectations) = (WorkQueue::new(), Arc::new(Expectations::new()));
        watch_sets(&sets, &queue, &expectations);
        watch_pods(&pods, &sets, &queue, &expectations);
        let recorder = context.recorder.for_component("replicaset-controller");
        let control = PodControl::new(context.client.clone(), recorder.clone(), Arc::clone(&expectations));
        (Self { client: context.client.clone(), sets, pods, expectations, control, recorder }, queue)
    }

    /// All active pods of the sets that share this set's owner (of this set alone, when it has none).
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let siblings = match index::controller_of(&set.metadata) {
            Some(owner) => self.sets.by_index(BY_CONTROLLER, &owner.uid),
            None => Vec::new(),
        };
        let uids = siblings.iter().map(|sibling| index::uid(&sibling.metadata)).chain([index::uid(&set.metadata)]);
        let uids: BTreeSet<&str> = uids.collect();
        let pods = uids.into_iter().flat_map(|uid| self.pods.by_index(BY_CONTROLLER, uid));
        pods.filter(|pod| pods::is_active(pod)).collect()
    }

    async fn adjust(&self, key: &ObjectKey, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), (Trouble, Failure)> {
        let spec = set.spec.clone().unwrap_or_default();
        let step = plan::plan(spec.replicas.unwrap_or(1), active, &self.related(set), clock::now());
        let trouble = |reason| move |err: Failure| (Trouble { reason, message: err.words() }, err);
        match step {
            Step::Nothing => Ok(()),
            Step::Create(count) => {
                let template = spec.template.unwrap_or_default();
                self.control.create_many(key, set, &template, count).await.map_err(trouble("FailedCreate"))
            }
            Step::Delete(surplus) => {
                self.control.delete_many(key, set, &surplus).await.map_err(trouble("FailedDelete"))
            }
        }
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        active: &[Arc<Pod>],
        trouble: Option<&Trouble>,
    ) -> Result<(), Failure> {
        let owned = self.pods.by_index(BY_CONTROLLER, index::uid(&set.metadata));
        let terminating = owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_terminal(pod)).count();
        let status = plan::status(set, active, terminating, trouble, clock::now());
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), index::namespace(&set.metadata));
        client::write::ignore_not_found(api.replace_status(&set.name_any(), &PostParams::default(), &updated).await)?;
        Ok(())
    }
}

impl Controller for ReplicaSets {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        let pending = self.expectations.outstanding(&key);
        let spec = set.spec.clone().unwrap_or_default();
        let Some(selector) = index::selector(&spec.selector) else {
            self.recorder.warning(events::about(&*set), "SelectingAll", "this replica set selects all pods");
            return Ok(None);
        };
        let children = claim::children(&self.client, &*set, &selector, &self.pods, pods::is_active).await?;
        let active: Vec<_> = children.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let adjusted = match pending {
            None if set.metadata.deletion_timestamp.is_none() => self.adjust(&key, &set, &active).await,
            _ => Ok(()),
        };
        let trouble = adjusted.as_ref().err().map(|(trouble, _)| trouble);
        self.write_status(&set, &active, trouble).await?;
        adjusted.map_err(|(_, err)| err)?;
        let available = plan::next_available(spec.min_ready_seconds.unwrap_or(0), &active, clock::now());
        Ok(pending.into_iter().chain(available).min())
    }
}

fn watch_sets(sets: &Informer<ReplicaSet>, queue: &WorkQueue<ObjectKey>, expectations: &Arc<Expectations>) {
    let (queue, expectations) = (queue.clone(), Arc::clone(expectations));
    sets.on_event(move |event| {
        // A set of the same name that comes later must not wait for the pods of this one.
        if matches!(event, Event::Deleted(_)) {
            expectations.forget(&event.key());
        }
        queue.add(event.key());
    });
}

fn watch_pods(
    pods: &Informer<Pod>,
    sets: &Informer<ReplicaSet>,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Arc<Expectations>,
) {
    let (queue, sets, expectations) = (queue.clone(), sets.clone(), Arc::clone(expectations));
    pods.on_event(move |event| {
        let meta = event.object().meta();
        let owner = index::controller_key::<ReplicaSet>(meta);
        if let Some(owner) = &owner {
            match event {
                Event::Applied { old: None, .. } => expectations.creation_observed(owner),
                Event::Deleted(_) => expectations.deletion_observed(owner, index::uid(meta)),
                Event::Applied { .. } => {}
            }
            if meta.deletion_timestamp.is_some() {
                expectations.deletion_observed(owner, index::uid(meta));
            }
        }
        match (owner, event) {
            (Some(owner), _) => queue.add(owner),
            (None, Event::Applied { new, .. }) if index::controller_of(meta).is_none() => {
                add_matching(&sets, new, &queue);
            }
            (None, _) => {}
        }
        if let Event::Applied { old: Some(old), .. } = event
            && let Some(former) = index::controller_key::<ReplicaSet>(&old.metadata)
        {
            queue.add(former);
        }
    });
}

/// An orphan may be adopted by any set of its namespace that selects it.
fn add_matching(sets: &Informer<ReplicaSet>, orphan: &Pod, queue: &WorkQueue<ObjectKey>) {
    if orphan.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
        return;
    }
    for set in sets.list_in(index::namespace(&orphan.metadata)) {
        let selector = set.spec.as_ref().and_then(|spec| index::selector(&spec.selector));
        if selector.is_some_and(|selector| index::matches(&selector, &orphan.metadata)) {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

/// Starts the controller.
pub(crate) fn start(context: &Context, workers: usize, tasks: &mut daemon::Supervisor) {
    let (controller, queue) = ReplicaSets::new(context);
    let context = context.clone();
    tasks.add("replicaset", move |shutdown| context.drive("replicaset", controller, queue, workers, shutdown));
}
