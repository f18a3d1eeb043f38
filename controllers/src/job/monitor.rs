//! What is counted of Jobs, under upstream's names (upstream: `pkg/controller/job/metrics`).

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{conditions, is_indexed};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sync {
    completion_mode: &'static str,
    result: &'static str,
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finished {
    completion_mode: &'static str,
    result: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    completion_mode: &'static str,
    result: &'static str,
}

/// What a reconcile did about pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It waits to see what it wrote before.
    Reconciling,
    Tracking,
    Created,
    Deleted,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Reconciling => "reconciling",
            Self::Tracking => "tracking",
            Self::Created => "pods_created",
            Self::Deleted => "pods_deleted",
        }
    }
}

#[derive(Clone)]
pub(super) struct Monitor {
    syncs: Family<Sync, Counter>,
    time: Family<Sync, Histogram>,
    finished: Family<Finished, Counter>,
    pods: Family<Ended, Counter>,
}

impl Monitor {
    pub(super) fn new(metrics: &daemon::Metrics) -> Self {
        let new = Self {
            syncs: Family::default(),
            time: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.004, 2.0, 15))),
            finished: Family::default(),
            pods: Family::default(),
        };
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("job_controller");
            registry.register("job_syncs", "The number of job syncs", new.syncs.clone());
            registry.register("job_sync_duration_seconds", "The time it took to sync a job", new.time.clone());
            registry.register("jobs_finished", "The number of finished jobs", new.finished.clone());
            let help = "The number of finished Pods that are fully tracked";
            registry.register("job_pods_finished", help, new.pods.clone());
        });
        new
    }

    /// A reconcile has ended.
    pub(super) fn synced(&self, job: &Job, action: Action, is_fine: bool, took: Duration) {
        let result = if is_fine { "success" } else { "error" };
        let sync = Sync { completion_mode: mode(job), result, action: action.name() };
        self.syncs.get_or_create(&sync).inc();
        self.time.get_or_create(&sync).observe(took.as_secs_f64());
    }

    /// The status of `job` was replaced by this one.
    pub(super) fn wrote(&self, job: &Job, status: &JobStatus) {
        let (mode, before) = (mode(job), job.status.clone().unwrap_or_default());
        for (result, now, then) in
            [("succeeded", status.succeeded, before.succeeded), ("failed", status.failed, before.failed)]
        {
            let more = now.unwrap_or(0).saturating_sub(then.unwrap_or(0));
            let pods = Ended { completion_mode: mode, result };
            self.pods.get_or_create(&pods).inc_by(u64::try_from(more).unwrap_or(0));
        }
        let Some(end) = conditions::finished(status).filter(|_| conditions::finished(&before).is_none()) else {
            return;
        };
        let result = if end.type_ == "Complete" { "succeeded" } else { "failed" };
        let reason = end.reason.clone().unwrap_or_default();
        self.finished.get_or_create(&Finished { completion_mode: mode, result, reason }).inc();
    }
}

fn mode(job: &Job) -> &'static str {
    if is_indexed(job) { "Indexed" } else { "NonIndexed" }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn what_ends_is_counted_once() {
        let metrics = daemon::Metrics::default();
        let monitor = Monitor::new(&metrics);
        let job = |status| from_value::<Job>(json!({"spec": {"template": {}}, "status": status})).unwrap();
        let running = job(json!({"succeeded": 1}));
        let failed = json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]);
        let ended = job(json!({"succeeded": 1, "failed": 3, "conditions": failed}));
        let status = ended.status.clone().unwrap();
        monitor.wrote(&running, &status);
        monitor.wrote(&ended, &status);
        monitor.synced(&ended, Action::Tracking, true, Duration::from_millis(5));
        let text = metrics.encode();
        for line in [
            r#"job_pods_finished_total{completion_mode="NonIndexed",result="failed"} 3"#,
            r#"job_pods_finished_total{completion_mode="NonIndexed",result="succeeded"} 0"#,
            r#"jobs_finished_total{completion_mode="NonIndexed",result="failed",reason="BackoffLimitExceeded"} 1"#,
            r#"job_syncs_total{completion_mode="NonIndexed",result="success",action="tracking"} 1"#,
        ] {
            assert!(text.contains(&format!("job_controller_{line}\n")), "{line}: {text}");
        }
    }
}
