//! Runs pods until enough of them have succeeded (upstream: `pkg/controller/job`).
//!
//! Follows KEP-2307: a pod carries a finalizer until the Job's status has counted it, first by uid (`uncounted`), then, when
//! the finalizer is gone, as a number. So each pod is counted once, whatever crashes in between.

mod conditions;
mod indexes;
mod monitor;
mod orphans;
mod plan;
mod pod;
mod policy;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Expectations, Informer, ObjectKey, Recorder, WorkQueue, clock, events, write};
use futures::future::try_join_all;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Selector;
use serde_json::json;
use tokio::time::Instant;

use self::monitor::{Action, Monitor};
use self::orphans::Orphans;
use self::plan::Plan;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::podcontrol::{Created, PodControl};
use crate::{claim, meta, owners, selectors};
use facts::pods;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "job-controller",
    aliases: &["job"],
    start: |start| {
        start.drive("job", Jobs::new(start.context), start.config.tuning.concurrent_job_syncs)?;
        start.drive("job-orphans", Orphans::new(start.context), 1)
    },
};

/// Who manages a Job that names nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

/// The controller's caches and its memory of unfinished writes.
struct Jobs {
    client: kube::Client,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    expectations: Arc<Expectations>,
    control: PodControl,
    recorder: Recorder,
    monitor: Monitor,
}

impl Jobs {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (jobs, pods) = (context.informers.of::<Job>(), context.informers.of::<Pod>());
        owners::add_ownership(&pods);
        let (queue, expectations) = (WorkQueue::new(), Arc::new(Expectations::new()));
        owners::watch_owners(&jobs, &queue, &expectations);
        owners::watch_pods(&pods, &jobs, &queue, &expectations, selector);
        let recorder = context.recorder.for_component("job-controller");
        let control = PodControl::new(context.client.clone(), recorder.clone(), Arc::clone(&expectations));
        let monitor = Monitor::new(&context.metrics);
        let (of_jobs, of_pods) = (monitor.clone(), monitor.clone());
        jobs.on_event(move |event| of_jobs.saw_job(event));
        pods.on_event(move |event| of_pods.saw_pod(event));
        (Self { client: context.client.clone(), jobs, pods, expectations, control, recorder, monitor }, queue)
    }

    async fn write_status(&self, key: &ObjectKey, job: &Job, status: JobStatus) -> Result<bool, Failure> {
        if job.status.as_ref() == Some(&status) {
            return Ok(true);
        }
        self.tell(job, &status);
        let mut updated = job.clone();
        updated.status = Some(status);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
        let written = write::ignore_not_found(written)?;
        if let Some(now) = &written {
            self.expectations.wrote(key, &now.metadata);
            self.monitor.wrote(job, &now.status.clone().unwrap_or_default());
        }
        Ok(written.is_some())
    }

    /// Events about conditions that are new.
    fn tell(&self, job: &Job, status: &JobStatus) {
        let before = job.status.clone().unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            let is_known = before
                .conditions
                .iter()
                .flatten()
                .any(|known| known.type_ == condition.type_ && known.status == condition.status);
            let message = condition.message.clone().unwrap_or_default();
            let about = || events::about(job);
            match (condition.type_.as_str(), condition.status.as_str()) {
                _ if is_known => {}
                ("Complete", "True") => self.recorder.normal(about(), "Completed", "Job completed"),
                ("Failed", "True") => {
                    self.recorder.warning(about(), condition.reason.as_deref().unwrap_or("Failed"), message);
                }
                ("Suspended", "True") => self.recorder.normal(about(), "Suspended", message),
                ("Suspended", "False") => self.recorder.normal(about(), "Resumed", message),
                _ => {}
            }
        }
    }

    /// Deletes pods that shall not count: their finalizer goes first.
    async fn delete(&self, key: &ObjectKey, job: &Job, doomed: &[Arc<Pod>]) -> Result<(), Failure> {
        self.release(doomed).await?;
        self.control.delete_many(key, job, doomed).await
    }

    /// Brings a Job with these pods nearer to its end.
    async fn advance(
        &self,
        key: &ObjectKey,
        job: &Job,
        children: &[Arc<Pod>],
        pending: Option<Duration>,
    ) -> (Action, Outcome) {
        let plan = plan::plan(job, children, pending.is_none(), clock::now());
        let action = match (pending, plan.create.is_empty(), plan.delete.is_empty()) {
            (Some(_), ..) => Action::Reconciling,
            (None, _, false) => Action::Deleted,
            (None, false, true) => Action::Created,
            (None, true, true) => Action::Tracking,
        };
        (action, self.execute(key, job, plan, pending).await)
    }

    async fn execute(&self, key: &ObjectKey, job: &Job, plan: Plan, pending: Option<Duration>) -> Outcome {
        let deleted = self.delete(key, job, &plan.delete).await;
        let mut count = Created::default();
        let created = self.control.create_counted(key, job, &plan.create, &mut count).await;
        self.monitor.created(job, &plan.status, count);
        if self.write_status(key, job, plan.status).await? {
            self.monitor.judged(job, &plan.release);
            self.release(&plan.release).await?;
        }
        deleted?;
        created?;
        Ok(pending.into_iter().chain(plan.again).min())
    }

    async fn release(&self, done: &[Arc<Pod>]) -> Result<(), Failure> {
        try_join_all(done.iter().filter(|pod| pod::is_tracked(pod)).map(|pod| untrack(&self.client, pod))).await?;
        Ok(())
    }
}

impl Controller for Jobs {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(job) = self.jobs.get(&key) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        if !self.expectations.shows(&key, &job.metadata) {
            return Ok(None);
        }
        let spec = job.spec.clone().unwrap_or_default();
        let Some(selector) = selector(&job) else { return Ok(None) };
        if spec.managed_by.is_some_and(|manager| manager != MANAGER) {
            return Ok(None);
        }
        let began = Instant::now();
        let pending = self.expectations.outstanding(&key);
        let children = claim::children(&self.client, &*job, &selector, &self.pods, pods::is_active).await?;
        let (action, outcome) = self.advance(&key, &job, &children, pending).await;
        self.monitor.synced(&job, action, outcome.is_ok(), began.elapsed());
        outcome
    }
}

/// Takes the finalizer from a pod that has been counted, or that nobody will count.
async fn untrack(client: &kube::Client, pod: &Pod) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), meta::namespace(&pod.metadata));
    let change = json!({
        "metadata": { "uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [pod::TRACKING] }
    });
    match api.patch(meta::name(&pod.metadata), &PatchParams::default(), &Patch::Strategic(change)).await {
        // Gone, or another pod has its name.
        Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// The Job has ended, well or not.
pub(crate) fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| conditions::finished(status).is_some())
}

/// The Job has ended well.
pub(crate) fn has_succeeded(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| conditions::is_true(status, "Complete"))
}

fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

fn completions(job: &Job) -> Option<i32> {
    job.spec.as_ref()?.completions
}

/// A pod is replaced when it has ended, not when its deletion begins.
fn replaces_only_failed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
    })
}

/// Which pods are a Job's, if they have no other controller.
fn selector(job: &Job) -> Option<Selector> {
    job.spec.as_ref()?.selector.as_ref().and_then(selectors::selector)
}
