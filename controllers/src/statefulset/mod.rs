//! Runs the pods of a StatefulSet: each with an identity that it keeps, in order (upstream:
//! `pkg/controller/statefulset`).

mod control;
mod identity;
mod plan;
mod retention;

use std::collections::BTreeSet;
use std::sync::Arc;

use client::{Expectations, Informer, ObjectKey, WorkQueue, clock, write};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::core::Selector;

use self::control::Control;
use self::plan::{Seen, Step};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::history::{self, History, Recorded};
use crate::{claim, meta, owners, selectors};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "statefulset-controller",
    aliases: &["statefulset"],
    start: |start| {
        start.drive("statefulset", StatefulSets::new(start.context), start.config.tuning.concurrent_statefulset_syncs)
    },
};

/// The label of revisions that has the hash of their template.
const HASH: &str = "controller.kubernetes.io/hash";

struct StatefulSets {
    client: kube::Client,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    history: History,
    expectations: Arc<Expectations>,
    control: Control,
}

/// The revision that pods are of, and that they shall be of.
struct Revisions {
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
}

impl StatefulSets {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (sets, pods) = (context.informers.of::<StatefulSet>(), context.informers.of::<Pod>());
        owners::add_ownership(&pods);
        let (queue, expectations) = (WorkQueue::new(), Arc::new(Expectations::new()));
        owners::watch_owners(&sets, &queue, &expectations);
        owners::watch_pods(&pods, &sets, &queue, &expectations, selector);
        let control = Control {
            client: context.client.clone(),
            claims: context.informers.of::<PersistentVolumeClaim>(),
            expectations: Arc::clone(&expectations),
            recorder: context.recorder.for_component("statefulset-controller"),
        };
        let history = History::new::<StatefulSet>(context, &queue, HASH);
        (Self { client: context.client.clone(), sets, pods, history, expectations, control }, queue)
    }

    /// `None` when the name of the update is taken: the next attempt takes another.
    async fn revisions(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        known: &[Arc<ControllerRevision>],
    ) -> Result<Option<Revisions>, Failure> {
        let status = set.status.clone().unwrap_or_default();
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        // No collision is none, whether or not the status says so yet: a revision has one name.
        let collisions = Some(status.collision_count.unwrap_or(0));
        let Recorded::As(update) = self.history.record(set, &template, collisions, known).await? else {
            let collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
            self.write_status(key, set, StatefulSetStatus { collision_count, ..status }).await?;
            return Ok(None);
        };
        let current = known.iter().find(|known| known.metadata.name == status.current_revision);
        Ok(Some(Revisions { current: Arc::clone(current.unwrap_or(&update)), update }))
    }

    async fn execute(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        of: &Revisions,
        steps: Vec<Step>,
    ) -> Result<(), Failure> {
        for step in steps {
            match step {
                Step::Create { ordinal, from_current } => {
                    let revision = if from_current { &of.current } else { &of.update };
                    let template = history::template(revision)?;
                    let pod = identity::pod(set, &template, meta::name(&revision.metadata), ordinal);
                    self.control.create(key, set, ordinal, &pod).await?;
                }
                Step::Claim { ordinal } => self.control.create_claims(key, set, ordinal).await?,
                Step::Correct(ordinal, pod) => self.control.correct(key, set, ordinal, &pod).await?,
                Step::Delete(pod) => self.control.delete(key, set, &pod).await?,
            }
        }
        Ok(())
    }

    async fn write_status(&self, key: &ObjectKey, set: &StatefulSet, status: StatefulSetStatus) -> Result<(), Failure> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let updated = StatefulSet { status: Some(status), ..set.clone() };
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = write::ignore_not_found(api.replace_status(&key.name, &PostParams::default(), &updated).await)?;
        written.iter().for_each(|set| self.expectations.wrote(key, &set.metadata));
        Ok(())
    }

    /// Deletes the oldest revisions that nobody needs.
    async fn clean_up(
        &self,
        set: &StatefulSet,
        of: &Revisions,
        known: &[Arc<ControllerRevision>],
    ) -> Result<(), Failure> {
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let owned = self.pods.by_index(owners::BY_CONTROLLER, meta::uid(&set.metadata));
        let mut live: BTreeSet<&str> = owned.iter().map(|pod| identity::revision(pod)).collect();
        live.extend([meta::name(&of.current.metadata), meta::name(&of.update.metadata)]);
        let unneeded: Vec<_> = known.iter().filter(|known| !live.contains(meta::name(&known.metadata))).collect();
        let surplus = unneeded.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        self.history.truncate(&unneeded, surplus).await
    }
}

impl Controller for StatefulSets {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        if !self.expectations.shows(&key, &set.metadata) {
            return Ok(None);
        }
        let Some(selector) = selector(&set) else { return Ok(None) };
        let pending = self.expectations.outstanding(&key);
        let is_member = |pod: &Pod| identity::ordinal(&set, pod).is_some();
        let children = claim::children(&self.client, &*set, &selector, &self.pods, is_member).await?;
        let known = self.history.of(&*set, &selector).await?;
        let Some(revisions) = self.revisions(&key, &set, &known).await? else { return Ok(None) };
        let seen = Seen {
            set: &set,
            pods: plan::by_ordinal(&set, children),
            current: meta::name(&revisions.current.metadata),
            update: meta::name(&revisions.update.metadata),
            now: clock::now(),
        };
        let done = match pending {
            None if set.metadata.deletion_timestamp.is_none() => {
                self.execute(&key, &set, &revisions, plan::plan(&seen)).await
            }
            _ => Ok(()),
        };
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        self.write_status(&key, &set, plan::status(&seen, collisions)).await?;
        done?;
        self.clean_up(&set, &revisions, &known).await?;
        Ok(pending.into_iter().chain(plan::next_available(&seen)).min())
    }
}

fn selector(set: &StatefulSet) -> Option<Selector> {
    selectors::selector(&set.spec.as_ref()?.selector)
}
