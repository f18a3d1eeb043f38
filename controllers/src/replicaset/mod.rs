//! Keeps the number of pods that a ReplicaSet asks for, or a ReplicationController, its older form (upstream:
//! `pkg/controller/replicaset`, `pkg/controller/replication`).

mod keeper;
mod plan;
pub(crate) mod rank;

use std::collections::BTreeSet;
use std::sync::Arc;

use client::{Expectations, Informer, ObjectKey, Recorder, WorkQueue, clock, events};
use facts::owners::controller_of;
use facts::pods;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::Api;
use kube::api::PostParams;
use kube::core::Selector;

use self::keeper::Keeper;
use self::plan::{Step, Trouble};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::owners::{self, BY_CONTROLLER};
use crate::podcontrol::PodControl;
use crate::{claim, meta, selectors};

/// The controller of ReplicaSets.
pub(crate) const SETS: Descriptor = Descriptor {
    name: "replicaset-controller",
    aliases: &["replicaset"],
    start: |start| {
        start.drive(
            "replicaset",
            ReplicaSets::<ReplicaSet>::new(start.context),
            start.config.tuning.concurrent_replicaset_syncs,
        )
    },
};

/// The controller of ReplicationControllers.
pub(crate) const CONTROLLERS: Descriptor = Descriptor {
    name: "replicationcontroller-controller",
    aliases: &["replicationcontroller"],
    start: |start| {
        let controller = ReplicaSets::<ReplicationController>::new(start.context);
        start.drive("replicationcontroller", controller, start.config.tuning.concurrent_rc_syncs)
    },
};

/// The controller's caches and its memory of unfinished writes.
pub(crate) struct ReplicaSets<K> {
    client: kube::Client,
    sets: Informer<K>,
    pods: Informer<Pod>,
    expectations: Arc<Expectations>,
    control: PodControl,
    recorder: Recorder,
}

impl<K: Keeper> ReplicaSets<K> {
    /// Subscribes to what concerns these sets.
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (sets, pods) = (context.informers.of::<K>(), context.informers.of::<Pod>());
        owners::add_ownership(&sets);
        owners::add_ownership(&pods);
        let (queue, expectations) = (WorkQueue::new(), Arc::new(Expectations::new()));
        owners::watch_owners(&sets, &queue, &expectations);
        owners::watch_pods(&pods, &sets, &queue, &expectations, selector);
        let recorder = context.recorder.for_component(K::COMPONENT);
        let control = PodControl::new(context.client.clone(), recorder.clone(), Arc::clone(&expectations));
        (Self { client: context.client.clone(), sets, pods, expectations, control, recorder }, queue)
    }

    /// All active pods of the sets that share this set's owner (of this set alone, when it has none).
    fn related(&self, set: &K) -> Vec<Arc<Pod>> {
        let siblings = match controller_of(set.meta()) {
            Some(owner) => self.sets.by_index(BY_CONTROLLER, &owner.uid),
            None => Vec::new(),
        };
        let uids = siblings.iter().map(|sibling| meta::uid(sibling.meta())).chain([meta::uid(set.meta())]);
        let uids: BTreeSet<&str> = uids.collect();
        let pods = uids.into_iter().flat_map(|uid| self.pods.by_index(BY_CONTROLLER, uid));
        pods.filter(|pod| pods::is_active(pod)).collect()
    }

    async fn adjust(&self, key: &ObjectKey, set: &K, active: &[Arc<Pod>]) -> Result<(), (Trouble, Failure)> {
        let spec = set.view().spec.unwrap_or_default();
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
        key: &ObjectKey,
        set: &K,
        active: &[Arc<Pod>],
        trouble: Option<&Trouble>,
    ) -> Result<(), Failure> {
        let owned = self.pods.by_index(BY_CONTROLLER, meta::uid(set.meta()));
        let terminating = owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_terminal(pod)).count();
        let updated = set.with_status(plan::status(&set.view(), active, terminating, trouble, clock::now()));
        if updated == *set {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
        let written = client::write::ignore_not_found(written)?;
        written.iter().for_each(|set| self.expectations.wrote(key, set.meta()));
        Ok(())
    }
}

impl<K: Keeper> Controller for ReplicaSets<K> {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        if !self.expectations.shows(&key, set.meta()) {
            return Ok(None);
        }
        let pending = self.expectations.outstanding(&key);
        let spec = set.view().spec.unwrap_or_default();
        let Some(selector) = selector(&*set) else {
            self.recorder.warning(events::about(&*set), "SelectingAll", K::SELECTS_ALL);
            return Ok(None);
        };
        let children = claim::children(&self.client, &*set, &selector, &self.pods, pods::is_active).await?;
        let active: Vec<_> = children.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let adjusted = match pending {
            None if set.meta().deletion_timestamp.is_none() => self.adjust(&key, &set, &active).await,
            _ => Ok(()),
        };
        let trouble = adjusted.as_ref().err().map(|(trouble, _)| trouble);
        self.write_status(&key, &set, &active, trouble).await?;
        adjusted.map_err(|(_, err)| err)?;
        let available = plan::next_available(spec.min_ready_seconds.unwrap_or(0), &active, clock::now());
        Ok(pending.into_iter().chain(available).min())
    }
}

fn selector<K: Keeper>(set: &K) -> Option<Selector> {
    selectors::selector(&set.view().spec?.selector)
}
