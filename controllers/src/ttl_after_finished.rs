//! Deletes finished Jobs when their `ttlSecondsAfterFinished` is over (upstream: `pkg/controller/ttlafterfinished`).

use client::{Event, Informer, ObjectKey, WorkQueue, clock, write};
use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "ttl-after-finished-controller",
    aliases: &["ttl-after-finished"],
    start: |start| {
        start.drive("ttl-after-finished", FinishedJobs::new(start.context), start.config.tuning.concurrent_syncs)
    },
};

pub(crate) struct FinishedJobs {
    client: kube::Client,
    jobs: Informer<Job>,
}

impl FinishedJobs {
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let jobs = context.informers.of::<Job>();
        let changed = queue.clone();
        jobs.on_event(move |event| {
            if let Event::Applied { new, .. } = event
                && expiry(new).is_some()
            {
                changed.add(event.key());
            }
        });
        (Self { client: context.client.clone(), jobs }, queue)
    }
}

impl Controller for FinishedJobs {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(job) = self.jobs.get(&key).filter(|job| job.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let Some(due) = expiry(&job) else { return Ok(None) };
        let left = pods::until(due, clock::now());
        if !left.is_zero() {
            return Ok(Some(left));
        }
        // Unchanged since the cache saw it, or its time to live may be another now.
        let unchanged =
            Preconditions { uid: job.metadata.uid.clone(), resource_version: job.metadata.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(unchanged), ..DeleteParams::foreground() };
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        write::ignore_not_found(api.delete(&key.name, &params).await)?;
        Ok(None)
    }
}

/// When the Job is to go: its time to live counts from the end.
fn expiry(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_end = |kind: &str| matches!(kind, "Complete" | "Failed");
    let end = conditions.iter().find(|known| is_end(&known.type_) && known.status == "True")?;
    end.last_transition_time.as_ref()?.0.checked_add(SignedDuration::from_secs(ttl.into())).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn check(spec: Value, conditions: Value, expected: Option<&str>) {
        let job: Job =
            from_value(json!({ "metadata": {}, "spec": spec, "status": { "conditions": conditions } })).unwrap();
        assert_eq!(expiry(&job), expected.map(|time| time.parse().unwrap()));
    }

    #[test]
    fn only_finished_jobs_with_a_time_to_live_expire() {
        let template = json!({});
        let ended = json!([{ "type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
        let with_ttl = json!({ "ttlSecondsAfterFinished": 60, "template": template });
        check(with_ttl.clone(), ended.clone(), Some("2026-01-01T00:01:00Z"));
        check(json!({ "template": template }), ended, None);
        check(with_ttl, json!([{ "type": "Suspended", "status": "True" }]), None);
    }
}
