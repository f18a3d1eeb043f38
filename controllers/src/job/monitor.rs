//! What is counted of Jobs, under upstream's names (upstream: `pkg/controller/job/metrics`).

use std::sync::Arc;
use std::time::Duration;

use client::Event;
use facts::pods;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::indexes::Indexes;
use super::{MANAGER, completions, conditions, is_indexed, pod, policy, replaces_only_failed};
use crate::podcontrol::Created;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(non_snake_case, reason = "a label is called as its field")]
struct Index {
    status: &'static str,
    backoffLimit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Creation {
    reason: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rule {
    action: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finalizer {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Manager {
    controller_name: String,
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
    indexes: Family<Index, Counter>,
    creations: Family<Creation, Counter>,
    judged: Family<Rule, Counter>,
    finalizers: Family<Finalizer, Counter>,
    others: Family<Manager, Counter>,
}

impl Monitor {
    pub(super) fn new(metrics: &daemon::Metrics) -> Self {
        let new = Self {
            syncs: Family::default(),
            time: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.004, 2.0, 15))),
            finished: Family::default(),
            pods: Family::default(),
            indexes: Family::default(),
            creations: Family::default(),
            judged: Family::default(),
            finalizers: Family::default(),
            others: Family::default(),
        };
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("job_controller");
            registry.register("job_syncs", "The number of job syncs", new.syncs.clone());
            registry.register("job_sync_duration_seconds", "The time it took to sync a job", new.time.clone());
            registry.register("jobs_finished", "The number of finished jobs", new.finished.clone());
            let help = "The number of finished Pods that are fully tracked";
            registry.register("job_pods_finished", help, new.pods.clone());
            registry.register("job_finished_indexes", "The number of finished indexes", new.indexes.clone());
            let help = "The number of Pods that were to be created, by why that was and by what became of it";
            registry.register("job_pods_creation", help, new.creations.clone());
            let help = "The number of failed Pods that a rule of the failure policy decided on, by its action";
            registry.register("pod_failures_handled_by_failure_policy", help, new.judged.clone());
            let help =
                "The number of terminated Pods that began (add) or ceased (delete) to have the tracking finalizer";
            registry.register("terminated_pods_tracking_finalizer", help, new.finalizers.clone());
            let help = "The number of Jobs that somebody else manages";
            registry.register("jobs_by_external_controller", help, new.others.clone());
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

    /// Pods of a Job were to be created; `status` says what has become of others.
    pub(super) fn created(&self, job: &Job, status: &JobStatus, created: Created) {
        let is_replacement = status.failed.unwrap_or(0) > 0 || status.terminating.unwrap_or(0) > 0;
        let reason = match (is_replacement, replaces_only_failed(job)) {
            (false, _) => "new",
            (true, true) => "recreate_failed",
            (true, false) => "recreate_terminating_or_failed",
        };
        for (status, count) in [("succeeded", created.made), ("failed", created.refused)] {
            if count > 0 {
                self.creations.get_or_create(&Creation { reason, status }).inc_by(count as u64);
            }
        }
    }

    /// The failures of these pods are in the status of the Job now, and were not before.
    pub(super) fn judged(&self, job: &Job, counted: &[Arc<Pod>]) {
        let before = job.status.clone().unwrap_or_default();
        if conditions::finished(&before).is_some() {
            return;
        }
        let known = before.uncounted_terminated_pods.and_then(|pods| pods.failed).unwrap_or_default();
        let is_new = |pod: &&Arc<Pod>| pod.metadata.uid.as_ref().is_none_or(|uid| !known.contains(uid));
        for action in counted.iter().filter(is_new).filter_map(|pod| policy::rule_of(job, pod)) {
            self.judged.get_or_create(&Rule { action: action.to_owned() }).inc();
        }
    }

    /// A Job has come, changed or gone.
    pub(super) fn saw_job(&self, event: &Event<Job>) {
        let Event::Applied { old: None, new } = event else { return };
        let manager = new.spec.as_ref().and_then(|spec| spec.managed_by.as_ref());
        if let Some(manager) = manager.filter(|manager| *manager != MANAGER) {
            self.others.get_or_create(&Manager { controller_name: manager.clone() }).inc();
        }
    }

    /// A pod has come, changed or gone.
    pub(super) fn saw_pod(&self, event: &Event<Pod>) {
        let (before, after) = match event {
            Event::Applied { old, new } => (old.as_deref().is_some_and(is_tracked_end), is_tracked_end(new)),
            Event::Deleted(last) => (is_tracked_end(last), false),
        };
        let event = match (before, after) {
            (false, true) => "add",
            (true, false) => "delete",
            _ => return,
        };
        self.finalizers.get_or_create(&Finalizer { event }).inc();
    }

    fn count_indexes(&self, job: &Job, status: &JobStatus, before: &JobStatus) {
        let Some(all) = completions(job).filter(|_| is_indexed(job)) else { return };
        let per_index = job.spec.as_ref().is_some_and(|spec| spec.backoff_limit_per_index.is_some());
        #[expect(non_snake_case, reason = "a label is called as its field")]
        let backoffLimit = if per_index { "perIndex" } else { "global" };
        let count = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), all).len();
        for (name, now, then) in [
            ("succeeded", &status.completed_indexes, &before.completed_indexes),
            ("failed", &status.failed_indexes, &before.failed_indexes),
        ] {
            if let Ok(more @ 1..) = u64::try_from(count(now) - count(then)) {
                self.indexes.get_or_create(&Index { status: name, backoffLimit }).inc_by(more);
            }
        }
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
        self.count_indexes(job, status, &before);
        let Some(end) = conditions::finished(status).filter(|_| conditions::finished(&before).is_none()) else {
            return;
        };
        let result = if end.type_ == "Complete" { "succeeded" } else { "failed" };
        let reason = end.reason.clone().unwrap_or_default();
        self.finished.get_or_create(&Finished { completion_mode: mode, result, reason }).inc();
    }
}

fn is_tracked_end(pod: &Pod) -> bool {
    pods::is_terminal(pod) && pod::is_tracked(pod)
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

    #[test]
    fn indexes_creations_rules_finalizers_and_managers_are_counted() {
        let metrics = daemon::Metrics::default();
        let monitor = Monitor::new(&metrics);
        let job = |status, managed_by: Option<&str>| {
            let rule = json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}});
            from_value::<Job>(json!({
                "spec": {"template": {}, "completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1,
                    "podFailurePolicy": {"rules": [rule]}, "managedBy": managed_by},
                "status": status,
            }))
            .unwrap()
        };
        let before = job(json!({"completedIndexes": "0"}), None);
        let after = job(json!({"completedIndexes": "0-2", "failedIndexes": "4", "failed": 1}), None);
        monitor.wrote(&before, after.status.as_ref().unwrap());
        monitor.created(&before, before.status.as_ref().unwrap(), Created { made: 3, refused: 1 });
        monitor.created(&before, after.status.as_ref().unwrap(), Created { made: 1, refused: 0 });
        let pod = |uid: &str, code: i32, finalizers: &[&str]| {
            let ended = json!({"name": "c", "state": {"terminated": {"exitCode": code}}});
            let pod = json!({"metadata": {"uid": uid, "finalizers": finalizers},
                "status": {"phase": "Failed", "containerStatuses": [ended]}});
            Arc::new(from_value::<Pod>(pod).unwrap())
        };
        let known = job(json!({"uncountedTerminatedPods": {"failed": ["known"]}}), None);
        monitor.judged(&known, &[pod("known", 7, &[]), pod("new", 7, &[]), pod("other", 1, &[])]);
        let (tracked, free) = (pod("x", 1, &[pod::TRACKING]), pod("x", 1, &[]));
        monitor.saw_pod(&Event::Applied { old: None, new: Arc::clone(&tracked) });
        monitor.saw_pod(&Event::Applied { old: Some(Arc::clone(&tracked)), new: Arc::clone(&tracked) });
        monitor.saw_pod(&Event::Applied { old: Some(tracked), new: Arc::clone(&free) });
        monitor.saw_pod(&Event::Deleted(free));
        for manager in [None, Some(MANAGER), Some("example.com/jobs")] {
            monitor.saw_job(&Event::Applied { old: None, new: Arc::new(job(json!({}), manager)) });
        }
        let text = metrics.encode();
        for line in [
            r#"job_finished_indexes_total{status="succeeded",backoffLimit="perIndex"} 2"#,
            r#"job_finished_indexes_total{status="failed",backoffLimit="perIndex"} 1"#,
            r#"job_pods_creation_total{reason="new",status="succeeded"} 3"#,
            r#"job_pods_creation_total{reason="new",status="failed"} 1"#,
            r#"job_pods_creation_total{reason="recreate_failed",status="succeeded"} 1"#,
            r#"pod_failures_handled_by_failure_policy_total{action="Ignore"} 1"#,
            r#"terminated_pods_tracking_finalizer_total{event="add"} 1"#,
            r#"terminated_pods_tracking_finalizer_total{event="delete"} 1"#,
            r#"jobs_by_external_controller_total{controller_name="example.com/jobs"} 1"#,
        ] {
            assert!(text.contains(&format!("job_controller_{line}\n")), "{line}: {text}");
        }
    }
}
