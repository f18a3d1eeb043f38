//! Rolls out a Deployment through its ReplicaSets (upstream: `pkg/controller/deployment`).

mod plan;
mod sets;
mod status;

use std::collections::HashSet;
use std::sync::Arc;

use client::{Event, Expectations, Informer, ObjectKey, Recorder, WorkQueue, clock, events, write};
use facts::owners::controller_of;
use facts::pods;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Resource};

use self::plan::{Observed, Plan, Write};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::owners::{self, BY_CONTROLLER};
use crate::{claim, meta, selectors};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "deployment-controller",
    aliases: &["deployment"],
    start: |start| {
        start.drive("deployment", Deployments::new(start.context), start.config.tuning.concurrent_deployment_syncs)
    },
};

/// The controller's caches.
pub(crate) struct Deployments {
    client: kube::Client,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    recorder: Recorder,
    mine: Arc<Mine>,
}

/// What this controller wrote, and its caches may not show yet. Upstream's does without, and lets a rollout leave its bounds
/// when it hears late of its own ReplicaSets.
#[derive(Default)]
struct Mine {
    /// By Deployment: its status, and sets that were made.
    deployments: Expectations,
    /// By ReplicaSet: its size.
    sets: Expectations,
}

impl Mine {
    /// Whether all of it is seen by now; what is not will be told of.
    fn is_seen(&self, key: &ObjectKey, deployment: &Deployment, owned: &[Arc<ReplicaSet>]) -> bool {
        self.deployments.shows(key, &deployment.metadata)
            && owned.iter().all(|set| self.sets.shows(&ObjectKey::of(&**set), &set.metadata))
    }

    fn see_set(&self, event: &Event<ReplicaSet>) {
        let made_for = meta::controller_key::<Deployment>(event.object().meta());
        match event {
            Event::Applied { old: None, .. } => made_for.iter().for_each(|key| self.deployments.creation_observed(key)),
            Event::Applied { .. } => {}
            Event::Deleted(_) => self.sets.forget(&event.key()),
        }
    }
}

impl Deployments {
    /// Subscribes to what concerns Deployments.
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let deployments = context.informers.of::<Deployment>();
        let (sets, pods) = (context.informers.of::<ReplicaSet>(), context.informers.of::<Pod>());
        owners::add_ownership(&sets);
        owners::add_ownership(&pods);
        let (queue, mine) = (WorkQueue::new(), Arc::<Mine>::default());
        deployments.on_event({
            let (queue, mine) = (queue.clone(), Arc::clone(&mine));
            move |event| {
                if matches!(event, Event::Deleted(_)) {
                    mine.deployments.forget(&event.key());
                }
                queue.add(event.key());
            }
        });
        let seeing = Arc::clone(&mine);
        sets.on_event(move |event| seeing.see_set(event));
        watch_sets(&sets, &deployments, &queue);
        watch_pods(&pods, &sets, &queue);
        let recorder = context.recorder.for_component("deployment-controller");
        (Self { client: context.client.clone(), deployments, sets, pods, recorder, mine }, queue)
    }

    /// The uids of the sets that have pods which have not ended.
    fn with_pods(&self, owned: &[Arc<ReplicaSet>]) -> HashSet<String> {
        let uids = owned.iter().map(|set| meta::uid(&set.metadata));
        let has_pods = |uid: &&str| self.pods.by_index(BY_CONTROLLER, uid).iter().any(|pod| !pods::is_terminal(pod));
        uids.filter(has_pods).map(str::to_owned).collect()
    }

    async fn execute(&self, deployment: &Deployment, plan: &Plan) -> Result<(), Failure> {
        for write in &plan.writes {
            match write {
                Write::Create(set) => self.create(deployment, set, &plan.status).await?,
                Write::Update { set, scaled_from } => {
                    let name = meta::name(&set.metadata);
                    let written = self.set_api(deployment).replace(name, &PostParams::default(), set).await?;
                    self.mine.sets.wrote(&ObjectKey::of(&written), &written.metadata);
                    if let Some(from) = scaled_from {
                        self.report_scaling(deployment, set, *from);
                    }
                }
                Write::Delete(set) => {
                    let exactly = Preconditions {
                        uid: set.metadata.uid.clone(),
                        resource_version: set.metadata.resource_version.clone(),
                    };
                    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::background() };
                    let deleted = self.set_api(deployment).delete(meta::name(&set.metadata), &params).await;
                    write::ignore_not_found(deleted)?;
                }
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        status: &DeploymentStatus,
    ) -> Result<(), Failure> {
        let api = self.set_api(deployment);
        let (name, key) = (meta::name(&set.metadata), ObjectKey::of(deployment));
        self.mine.deployments.expect_creations(&key, 1);
        let created = api.create(&PostParams::default(), set).await;
        if created.is_err() {
            self.mine.deployments.creation_observed(&key);
        }
        let err = match created {
            Ok(_) => {
                self.report_scaling(deployment, set, 0);
                return Ok(());
            }
            Err(err) => err,
        };
        if write::is_namespace_terminating(&err) {
            return Ok(());
        }
        if write::is_already_exists(&err) {
            return self.resolve_collision(deployment, set, status).await;
        }
        let message = format!("Failed to create new replica set \"{name}\": {}", write::status_message(&err));
        self.recorder.warning(events::about(deployment), "ReplicaSetCreateError", message.clone());
        let mut stuck = status.clone();
        status::set_condition(&mut stuck, status::PROGRESSING, "False", "ReplicaSetCreateError", message, clock::now());
        self.write_status(deployment, &stuck, None).await?;
        Err(err.into())
    }

    /// The name is taken: by our own set that the cache does not show yet, or by a stranger; then the next attempt uses
    /// another name.
    async fn resolve_collision(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        status: &DeploymentStatus,
    ) -> Result<(), Failure> {
        let name = meta::name(&set.metadata);
        let live = self.set_api(deployment).get(name).await?;
        let is_ours = controller_of(&live.metadata).is_some_and(|owner| owner.uid == meta::uid(&deployment.metadata));
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        if is_ours && sets::is_same_template(&live, &template) {
            return Ok(());
        }
        let count = status.collision_count.unwrap_or(0);
        let mut known = deployment.status.clone().unwrap_or_default();
        known.collision_count = Some(count.saturating_add(1));
        self.write_status(deployment, &known, None).await?;
        Err(Failure::NameTaken(name.to_owned()))
    }

    fn report_scaling(&self, deployment: &Deployment, set: &ReplicaSet, from: i32) {
        let to = sets::replicas(set);
        let direction = if to > from { "up" } else { "down" };
        if to != from {
            let message = format!("Scaled {direction} replica set {} from {from} to {to}", meta::name(&set.metadata));
            self.recorder.normal(events::about(deployment), "ScalingReplicaSet", message);
        }
    }

    /// Writes the status, and with it the revision that the Deployment does not yet show: through the status, because
    /// changes of annotations through the object itself are a new generation.
    async fn write_status(
        &self,
        deployment: &Deployment,
        status: &DeploymentStatus,
        revision: Option<i64>,
    ) -> Result<(), Failure> {
        let Some(updated) = with_status(deployment, status, revision) else { return Ok(()) };
        let name = meta::name(&deployment.metadata);
        let written = self.api(deployment).replace_status(name, &PostParams::default(), &updated).await?;
        self.mine.deployments.wrote(&ObjectKey::of(&written), &written.metadata);
        Ok(())
    }

    fn api(&self, deployment: &Deployment) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), meta::namespace(&deployment.metadata))
    }

    fn set_api(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), meta::namespace(&deployment.metadata))
    }
}

impl Controller for Deployments {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(deployment) = self.deployments.get(&key) else { return Ok(None) };
        if let Some(wait) = self.mine.deployments.outstanding(&key) {
            return Ok(Some(wait));
        }
        let Some(selector) = deployment.spec.as_ref().and_then(|spec| selectors::selector(&spec.selector)) else {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.warning(events::about(&*deployment), "SelectingAll", message);
            return Ok(None);
        };
        let owned = claim::children(&self.client, &*deployment, &selector, &self.sets, |_| true).await?;
        if !self.mine.is_seen(&key, &deployment, &owned) {
            return Ok(None);
        }
        let with_pods = self.with_pods(&owned);
        let seen = Observed { deployment: &deployment, sets: owned, with_pods, now: clock::now() };
        let plan = plan::plan(&seen)?;
        self.execute(&deployment, &plan).await?;
        self.write_status(&deployment, &plan.status, plan.revision).await?;
        Ok(plan.again)
    }
}

/// The Deployment with another status and revision; `None` if it has them.
fn with_status(deployment: &Deployment, status: &DeploymentStatus, revision: Option<i64>) -> Option<Deployment> {
    let is_known = |revision| sets::revision(&deployment.metadata) == revision;
    if deployment.status.as_ref() == Some(status) && revision.is_none_or(is_known) {
        return None;
    }
    let mut updated = deployment.clone();
    updated.status = Some(status.clone());
    if let Some(revision) = revision {
        let annotations = updated.metadata.annotations.get_or_insert_default();
        annotations.insert(sets::REVISION.to_owned(), revision.to_string());
    }
    Some(updated)
}

fn watch_sets(sets: &Informer<ReplicaSet>, deployments: &Informer<Deployment>, queue: &WorkQueue<ObjectKey>) {
    let (queue, deployments) = (queue.clone(), deployments.clone());
    sets.on_event(move |event| {
        let meta = event.object().meta();
        if let Event::Applied { old: Some(old), .. } = event
            && let Some(former) = meta::controller_key::<Deployment>(&old.metadata)
        {
            queue.add(former);
        }
        match meta::controller_key::<Deployment>(meta) {
            Some(owner) => queue.add(owner),
            None if controller_of(meta).is_none() => {
                for deployment in deployments.list_in(meta::namespace(meta)) {
                    let selector = deployment.spec.as_ref().and_then(|spec| selectors::selector(&spec.selector));
                    if selector.is_some_and(|selector| selectors::matches(&selector, meta)) {
                        queue.add(ObjectKey::of(&*deployment));
                    }
                }
            }
            None => {}
        }
    });
}

/// A `Recreate` goes on when the last old pod is gone.
fn watch_pods(pods: &Informer<Pod>, sets: &Informer<ReplicaSet>, queue: &WorkQueue<ObjectKey>) {
    let (queue, sets) = (queue.clone(), sets.clone());
    pods.on_event(move |event| {
        let is_end = match event {
            Event::Deleted(_) => true,
            Event::Applied { new, .. } => pods::is_terminal(new),
        };
        let set = meta::controller_key::<ReplicaSet>(event.object().meta()).filter(|_| is_end);
        let owner =
            set.and_then(|set| sets.get(&set)).and_then(|set| meta::controller_key::<Deployment>(&set.metadata));
        if let Some(owner) = owner {
            queue.add(owner);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_and_status_are_one_write_and_none_if_they_are_there() {
        let status = DeploymentStatus { replicas: Some(1), ..DeploymentStatus::default() };
        let bare = Deployment::default();
        let written = with_status(&bare, &status, Some(3)).unwrap();
        assert_eq!(sets::revision(&written.metadata), 3);
        assert_eq!(written.status.as_ref(), Some(&status));
        assert_eq!(with_status(&written, &status, Some(3)), None);
        assert_eq!(with_status(&written, &status, None), None);
        assert!(with_status(&written, &status, Some(4)).is_some());
        assert!(with_status(&written, &DeploymentStatus::default(), None).is_some());
    }
}
