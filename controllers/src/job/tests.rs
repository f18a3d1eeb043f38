//! Jobs and their pods, step by step.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde_json::{Value, from_value, json};

use super::plan::{Plan, plan};
use super::{conditions, pod};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A Job, the pods that the API server would have, and a controller that works on them.
struct Run {
    job: Job,
    pods: Vec<Pod>,
    made: usize,
}

impl Run {
    fn of(spec: Value) -> Self {
        let mut job: Job =
            from_value(json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap();
        job.spec
            .get_or_insert_default()
            .template
            .spec
            .get_or_insert_default()
            .restart_policy
            .get_or_insert("Never".into());
        Self { job, pods: Vec::new(), made: 0 }
    }

    /// One reconcile, and what the API server makes of it.
    fn step(&mut self) -> Plan {
        let known: Vec<_> = self.pods.iter().cloned().map(Arc::new).collect();
        let plan = plan(&self.job, &known, true, now());
        self.pods.retain(|pod| plan.delete.iter().all(|gone| gone.metadata.uid != pod.metadata.uid));
        for pod in &plan.create {
            self.made += 1;
            let mut pod = pod.clone();
            pod.metadata.uid = Some(self.made.to_string());
            self.pods.push(pod);
        }
        self.job.status = Some(plan.status.clone());
        for done in &plan.release {
            for pod in self.pods.iter_mut().filter(|pod| pod.metadata.uid == done.metadata.uid) {
                pod.metadata.finalizers = None;
            }
        }
        plan
    }

    /// Reconciles until nothing changes.
    fn settle(&mut self) -> &JobStatus {
        for _ in 0..20 {
            let before = self.job.status.clone();
            let plan = self.step();
            if before == self.job.status && plan.create.is_empty() && plan.delete.is_empty() {
                return self.job.status.as_ref().unwrap();
            }
        }
        panic!("it never settles: {:?}", self.job.status);
    }

    fn end(&mut self, at: usize, phase: &str, seconds_ago: i64) {
        let finished = now() - jiff::SignedDuration::from_secs(seconds_ago);
        let code = if phase == "Failed" { 1 } else { 0 };
        self.pods[at].status = Some(
            from_value(
                json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": finished.to_string()}}}]}),
            )
            .unwrap(),
        );
    }

    fn ended(&self) -> Option<(String, String)> {
        let condition = conditions::finished(self.job.status.as_ref()?)?;
        Some((condition.type_.clone(), condition.reason.clone().unwrap_or_default()))
    }

    fn indexes(&self) -> Vec<Option<i32>> {
        self.pods.iter().map(|pod| pod::completion_index(&self.job, pod)).collect()
    }
}

fn ends_as(kind: &str, reason: &str) -> Option<(String, String)> {
    Some((kind.to_owned(), reason.to_owned()))
}

#[test]
fn a_job_completes_when_enough_pods_have_succeeded() {
    let mut run = Run::of(json!({"completions": 3, "parallelism": 2, "template": {}}));
    assert_eq!((run.settle().active, run.pods.len()), (Some(2), 2));
    run.end(0, "Succeeded", 0);
    assert_eq!(run.settle().succeeded, Some(1));
    assert_eq!(run.pods.len(), 3);
    run.end(1, "Succeeded", 0);
    run.end(2, "Succeeded", 0);
    let status = run.settle().clone();
    assert_eq!((status.succeeded, status.active, status.uncounted_terminated_pods), (Some(3), None, None));
    assert!(status.completion_time.is_some() && run.pods.iter().all(|pod| !pod::is_tracked(pod)));
    assert_eq!(run.ended(), ends_as("Complete", "CompletionsReached"));
}

#[test]
fn a_pod_is_counted_by_uid_until_its_finalizer_is_gone() {
    let mut run = Run::of(json!({"completions": 2, "parallelism": 1, "template": {}}));
    run.settle();
    run.end(0, "Succeeded", 0);
    let first = run.step();
    assert_eq!(first.status.succeeded, None);
    assert_eq!(first.status.uncounted_terminated_pods.unwrap().succeeded.unwrap(), ["1"]);
    let second = run.step();
    assert_eq!((second.status.succeeded, second.status.uncounted_terminated_pods), (Some(1), None));
}

#[test]
fn failures_are_replaced_after_a_pause_and_end_the_job_at_the_limit() {
    let mut run = Run::of(json!({"completions": 1, "parallelism": 1, "backoffLimit": 1, "template": {}}));
    run.settle();
    run.end(0, "Failed", 4);
    let plan = run.step();
    assert_eq!((plan.create.len(), plan.again), (0, Some(std::time::Duration::from_secs(6))));
    run.end(0, "Failed", 10);
    assert_eq!((run.settle().failed, run.pods.len()), (Some(1), 2));
    run.end(1, "Failed", 0);
    run.settle();
    assert_eq!(run.ended(), ends_as("Failed", "BackoffLimitExceeded"));
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_anew() {
    let mut run = Run::of(json!({"parallelism": 2, "suspend": true, "template": {}}));
    assert_eq!((run.settle().start_time.clone(), run.pods.len()), (None, 0));
    run.job.spec.as_mut().unwrap().suspend = Some(false);
    assert_eq!(run.settle().active, Some(2));
    run.job.spec.as_mut().unwrap().suspend = Some(true);
    assert_eq!((run.settle().active, run.pods.len()), (None, 0));
    assert_eq!(run.ended(), None);
}

#[test]
fn an_active_deadline_ends_the_job_and_its_pods() {
    let mut run = Run::of(json!({"activeDeadlineSeconds": 60, "template": {}}));
    run.settle();
    assert_eq!(run.step().again, Some(std::time::Duration::from_secs(60)));
    run.job.status.as_mut().unwrap().start_time = Some(from_value(json!("2026-01-01T11:58:00Z")).unwrap());
    run.settle();
    assert_eq!((run.ended(), run.pods.len()), (ends_as("Failed", "DeadlineExceeded"), 0));
}

#[test]
fn every_index_gets_a_pod_until_it_has_succeeded() {
    let mut run = Run::of(json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2, "template": {}}));
    run.settle();
    assert_eq!(run.indexes(), [Some(0), Some(1)]);
    run.end(1, "Succeeded", 0);
    assert_eq!(run.settle().completed_indexes.as_deref(), Some("1"));
    assert_eq!(run.indexes(), [Some(0), Some(1), Some(2)]);
    run.end(0, "Failed", 10);
    run.settle();
    assert_eq!(run.indexes(), [Some(0), Some(1), Some(2), Some(0)]);
    for at in [2, 3] {
        run.end(at, "Succeeded", 0);
    }
    run.settle();
    run.end(4, "Succeeded", 0);
    let status = run.settle().clone();
    assert_eq!((status.completed_indexes.as_deref(), status.succeeded, status.failed), (Some("0-3"), Some(4), Some(1)));
    assert_eq!(run.ended(), ends_as("Complete", "CompletionsReached"));
}

#[test]
fn an_index_fails_for_good_at_its_own_limit() {
    let mut run = Run::of(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimitPerIndex": 1, "backoffLimit": 2_147_483_647, "template": {}}));
    run.settle();
    run.end(0, "Failed", 100);
    run.settle();
    let again = run.pods.last().unwrap();
    assert_eq!(pod::failures_before(again).counted, 1);
    let at = run.pods.len() - 1;
    run.end(at, "Failed", 100);
    run.end(1, "Succeeded", 0);
    let status = run.settle().clone();
    assert_eq!((status.failed_indexes.as_deref(), status.completed_indexes.as_deref()), (Some("0"), Some("1")));
    assert_eq!((run.ended(), status.failed), (ends_as("Failed", "FailedIndexes"), Some(2)));
}

#[test]
fn a_success_policy_ends_the_job_early() {
    let mut run = Run::of(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "1"}]}, "template": {}}));
    run.settle();
    run.end(1, "Succeeded", 0);
    run.settle();
    assert_eq!((run.ended(), run.indexes()), (ends_as("Complete", "SuccessPolicy"), vec![Some(1)]));
}

#[test]
fn without_completions_the_first_success_lets_the_others_finish() {
    let mut run = Run::of(json!({"parallelism": 2, "template": {}}));
    run.settle();
    run.end(0, "Succeeded", 0);
    assert_eq!((run.settle().active, run.ended()), (Some(1), None));
    run.end(1, "Failed", 0);
    run.settle();
    assert_eq!(run.ended(), ends_as("Complete", "CompletionsReached"));
}

#[test]
fn less_parallelism_deletes_pods_without_counting_them() {
    let mut run = Run::of(json!({"completions": 5, "parallelism": 4, "template": {}}));
    run.settle();
    run.job.spec.as_mut().unwrap().parallelism = Some(1);
    let status = run.settle().clone();
    assert_eq!((status.active, status.failed, run.pods.len()), (Some(1), None, 1));
}
