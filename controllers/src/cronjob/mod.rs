//! Makes Jobs at the times of a schedule (upstream: `pkg/controller/cronjob`).

mod plan;

use std::sync::Arc;

use client::{Event, Expectations, Informer, ObjectKey, Recorder, WorkQueue, clock, events, write};
use facts::pods;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Resource as _};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use self::plan::News;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;
use crate::owners::{self, BY_CONTROLLER};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "cronjob-controller",
    aliases: &["cronjob"],
    start: |start| start.drive("cronjob", CronJobs::new(start.context), start.config.tuning.concurrent_syncs),
};

/// For which time a Job was made.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct CronJobs {
    client: kube::Client,
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
    recorder: Recorder,
    /// Of the status only: a time on the schedule has one Job by its name.
    expectations: Expectations,
    /// From the time on the schedule to the Job, in seconds.
    skew: Histogram,
}

impl CronJobs {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (crons, jobs) = (context.informers.of::<CronJob>(), context.informers.of::<Job>());
        owners::add_ownership(&jobs);
        let queue = WorkQueue::new();
        let changed = queue.clone();
        crons.on_event(move |event| changed.add(event.key()));
        let changed = queue.clone();
        jobs.on_event(move |event: &Event<Job>| {
            if let Some(owner) = meta::controller_key::<CronJob>(event.object().meta()) {
                changed.add(owner);
            }
        });
        let recorder = context.recorder.for_component("cronjob-controller");
        let (expectations, skew) = (Expectations::new(), Histogram::new(exponential_buckets(1.0, 2.0, 10)));
        context.metrics.register(|registry| {
            let help = "Time between when a cronjob is scheduled to be run, and when the corresponding job is created";
            registry.register("cronjob_controller_job_creation_skew_duration_seconds", help, skew.clone());
        });
        (Self { client: context.client.clone(), crons, jobs, recorder, expectations, skew }, queue)
    }

    fn api(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.client.clone(), meta::namespace(&cron.metadata))
    }

    /// Makes the Job for this time; `None` when it was made before, or cannot be made in a namespace that ends.
    async fn make(&self, cron: &CronJob, due: Timestamp) -> Result<Option<Job>, Failure> {
        let wanted = job_for(cron, due);
        match self.api(cron).create(&PostParams::default(), &wanted).await {
            Ok(job) => {
                let made = job.metadata.creation_timestamp.as_ref().map_or(due, |made| made.0);
                self.skew.observe(made.duration_since(due).as_secs_f64());
                let message = format!("Created job {}", meta::name(&job.metadata));
                self.recorder.normal(events::about(cron), "SuccessfulCreate", message);
                Ok(Some(job))
            }
            Err(err) if write::is_already_exists(&err) || write::is_namespace_terminating(&err) => Ok(None),
            Err(err) => {
                let message = format!("Error creating job: {}", write::status_message(&err));
                self.recorder.warning(events::about(cron), "FailedCreate", message);
                Err(err.into())
            }
        }
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Failure> {
        let exactly = Preconditions { uid: job.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::background() };
        let name = meta::name(&job.metadata);
        match self.api(cron).delete(name, &params).await {
            Ok(_) => self.recorder.normal(events::about(cron), "SuccessfulDelete", format!("Deleted job {name}")),
            Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => {}
            Err(err) => return Err(err.into()),
        }
        Ok(())
    }

    async fn write_status(&self, key: &ObjectKey, cron: &CronJob, status: CronJobStatus) -> Result<(), Failure> {
        if cron.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = cron.clone();
        updated.status = Some(status);
        let api: Api<CronJob> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
        let written = write::ignore_not_found(written)?;
        written.iter().for_each(|cron| self.expectations.wrote(key, &cron.metadata));
        Ok(())
    }

    /// The Jobs of a CronJob: those that the cache shows, and those that the status names and that the cache does not
    /// show yet.
    async fn children(&self, cron: &CronJob) -> Result<Vec<Arc<Job>>, Failure> {
        let mut children = self.jobs.by_index(BY_CONTROLLER, meta::uid(&cron.metadata));
        for known in cron.status.iter().flat_map(|status| status.active.iter().flatten()) {
            if children.iter().any(|job| job.metadata.uid == known.uid) {
                continue;
            }
            let live = self.api(cron).get_opt(known.name.as_deref().unwrap_or_default()).await?;
            children.extend(live.filter(|job| job.metadata.uid == known.uid).map(Arc::new));
        }
        Ok(children)
    }

    fn tell(&self, cron: &CronJob, news: Vec<News>) {
        for News { is_warning, reason, message } in news {
            match is_warning {
                true => self.recorder.warning(events::about(cron), reason, message),
                false => self.recorder.normal(events::about(cron), reason, message),
            }
        }
    }
}

impl Controller for CronJobs {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(cron) = self.crons.get(&key) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        if !self.expectations.shows(&key, &cron.metadata) {
            return Ok(None);
        }
        let children = self.children(&cron).await?;
        let now = clock::now();
        let plan = plan::plan(&cron, &children, now);
        self.tell(&cron, plan.news);
        for job in &plan.delete {
            self.delete(&cron, job).await?;
        }
        let mut status = plan.status;
        if let Some(due) = plan.due {
            if let Some(job) = self.make(&cron, due).await? {
                status.active.get_or_insert_default().push(plan::reference(&job));
            }
            status.last_schedule_time = Some(Time(due));
        }
        self.write_status(&key, &cron, status).await?;
        Ok(plan.next.map(|next| pods::until(next, now)))
    }
}

/// The Job of one time.
fn job_for(cron: &CronJob, due: Timestamp) -> Job {
    let spec = cron.spec.clone();
    let given = spec.job_template.metadata.unwrap_or_default();
    let zone = spec.time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get).unwrap_or(TimeZone::UTC);
    let mut annotations = given.annotations.unwrap_or_default();
    let shown = due.display_with_offset(zone.to_offset(due));
    let shown = if zone == TimeZone::UTC { due.to_string() } else { shown.to_string() };
    annotations.insert(SCHEDULED.to_owned(), shown);
    let metadata = ObjectMeta {
        name: Some(plan::job_name(cron, due)),
        namespace: cron.metadata.namespace.clone(),
        labels: given.labels,
        annotations: Some(annotations),
        owner_references: Some(vec![meta::controller_reference(cron)]),
        ..ObjectMeta::default()
    };
    Job { metadata, spec: spec.job_template.spec, status: None }
}
