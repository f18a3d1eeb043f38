//! Decides what brings a Job nearer to its end: pods to make and delete, and what its status says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{self, Verdict, set};
use super::pod::{self, Failures};
use super::policy::{self, Action};
use super::tally::{Tally, backoff_end, number};
use super::{completions, is_indexed, is_suspended, replaces_only_failed};
use crate::replicaset::rank;

/// Upstream's `MaxPodCreateDeletePerSync`.
const BURST: usize = 500;
/// Upstream's `MaxUncountedPods`: a status lists no more pods than this at a time.
const MAX_UNCOUNTED: usize = 500;

/// What to do.
pub(super) struct Plan {
    pub(super) create: Vec<Pod>,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) status: JobStatus,
    /// Pods whose finalizer goes once the status is written.
    pub(super) release: Vec<Arc<Pod>>,
    /// When to look again, if nothing happens before.
    pub(super) again: Option<Duration>,
}

/// Compares a Job with its pods. With `is_settled` false the cache does not show all of the controller's own writes: then
/// no pod is made or deleted.
pub(super) fn plan(job: &Job, all: &[Arc<Pod>], is_settled: bool, now: Timestamp) -> Plan {
    let tally = Tally::of(job, all);
    let mut status = job.status.clone().unwrap_or_default();
    if conditions::finished(&status).is_some() {
        let release = all.iter().filter(|pod| pod::is_tracked(pod)).cloned().collect();
        return Plan { create: Vec::new(), delete: Vec::new(), status, release, again: None };
    }
    suspend_or_start(job, &mut status, now);
    let verdict = conditions::pending(&status).or_else(|| judge(job, &tally, &status, now));
    let mut work = Work::default();
    if is_settled && (verdict.is_some() || is_suspended(job)) {
        work.delete = tally.active.iter().take(BURST).cloned().collect();
    } else if is_settled && job.metadata.deletion_timestamp.is_none() {
        work = adjust(job, &tally, now);
    }
    let release = count(job, &tally, &mut status, verdict.is_some());
    let active = number(tally.active.len() + work.create.len()).saturating_sub(number(work.delete.len()));
    status.active = some(active);
    status.ready = Some(tally.ready());
    status.terminating = Some(number(tally.terminating.len() + work.delete.len()));
    if let Some(verdict) = verdict {
        set(&mut status, verdict.interim, "True", &verdict.reason, &verdict.message, now);
        let is_quiet = active == 0 && status.terminating == Some(0) && status.uncounted_terminated_pods.is_none();
        if is_quiet {
            conditions::finish(&mut status, &verdict, now);
        }
    }
    let create = work.create.into_iter().map(|(index, failures)| pod::make(job, index, failures)).collect();
    let again = work.again.into_iter().chain(deadline(job, &status).map(|due| pods::until(due, now))).min();
    Plan { create, delete: work.delete, status, release, again }
}

fn suspend_or_start(job: &Job, status: &mut JobStatus, now: Timestamp) {
    let was_suspended = conditions::is_true(status, "Suspended");
    if is_suspended(job) {
        set(status, "Suspended", "True", "JobSuspended", "Job suspended", now);
        return;
    }
    if was_suspended {
        set(status, "Suspended", "False", "JobResumed", "Job resumed", now);
    }
    if was_suspended || status.start_time.is_none() {
        status.start_time = Some(Time(now));
    }
}

/// When the Job has been active for too long.
fn deadline(job: &Job, status: &JobStatus) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.active_deadline_seconds?;
    if is_suspended(job) || conditions::finished(status).is_some() {
        return None;
    }
    status.start_time.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether the Job's end is decided.
fn judge(job: &Job, tally: &Tally, status: &JobStatus, now: Timestamp) -> Option<Verdict> {
    let spec = job.spec.as_ref()?;
    let fail = |reason: &str, message: &str| Some(Verdict::failure(reason, message));
    let policy = tally.new_failed.iter().find_map(|(_, action)| match action {
        Action::FailJob(why) => Some(why),
        _ => None,
    });
    if let Some(why) = policy {
        return fail("PodFailurePolicy", why);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let has_new_failure = tally.failed() > status.failed.unwrap_or(0);
    if (has_new_failure && tally.failed() > limit) || restarts_exceed(job, tally, limit) {
        return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline(job, status).is_some_and(|due| due <= now) {
        return fail("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    if spec.max_failed_indexes.is_some_and(|most| tally.failed_indexes.len() > most) {
        return fail("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
    }
    let completions = completions(job);
    if let Some(all) = completions
        && tally.failed_indexes.len() > 0
        && tally.failed_indexes.len() + tally.completed.len() >= all
    {
        return fail("FailedIndexes", "Job has failed indexes");
    }
    if let Some(why) = completions.and_then(|completions| policy::success(job, &tally.completed, completions)) {
        return Some(Verdict::success("SuccessPolicy", &why));
    }
    let succeeded = tally.succeeded(job);
    let is_complete = match completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && tally.active.is_empty(),
    };
    is_complete.then(|| Verdict::success("CompletionsReached", "Reached expected number of succeeded pods"))
}

/// Pods that restart their containers in place fail without ending.
fn restarts_exceed(job: &Job, tally: &Tally, limit: i32) -> bool {
    let policy = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts = tally.active.iter().map(|pod| pod::restarts(pod)).fold(0, i32::saturating_add);
    restarts > 0 && restarts >= limit
}

/// Puts what ended into the status; the pods that may go after it is written.
fn count(job: &Job, tally: &Tally, status: &mut JobStatus, is_ending: bool) -> Vec<Arc<Pod>> {
    let mut release = tally.to_release.clone();
    let mut uncounted = tally.uncounted.clone();
    let mut room = MAX_UNCOUNTED;
    for pod in &tally.new_succeeded {
        if !is_indexed(job) {
            if room == 0 {
                break;
            }
            room -= 1;
            uncounted.succeeded.get_or_insert_default().extend(pod.metadata.uid.clone());
        }
        release.push(Arc::clone(pod));
    }
    for (pod, action) in &tally.new_failed {
        // The next pod of its index learns from it how often the index failed.
        let is_needed = tally.last_failures.values().any(|(last, _)| last.metadata.uid == pod.metadata.uid);
        if room == 0 || (is_needed && !is_ending && job.metadata.deletion_timestamp.is_none()) {
            continue;
        }
        if *action != Action::Ignore {
            room -= 1;
            uncounted.failed.get_or_insert_default().extend(pod.metadata.uid.clone());
        }
        release.push(Arc::clone(pod));
    }
    (status.succeeded, status.failed) = (some(tally.settled.0), some(tally.settled.1));
    if is_indexed(job) {
        status.succeeded = some(tally.completed.len());
        status.completed_indexes = Some(tally.completed.notation()).filter(|text| !text.is_empty());
        if job.spec.as_ref().is_some_and(|spec| spec.backoff_limit_per_index.is_some()) {
            status.failed_indexes = Some(tally.failed_indexes.notation());
        }
    }
    let is_empty = uncounted.succeeded.is_none() && uncounted.failed.is_none();
    status.uncounted_terminated_pods = (!is_empty).then_some(uncounted);
    release
}

#[derive(Default)]
struct Work {
    create: Vec<(Option<i32>, Failures)>,
    delete: Vec<Arc<Pod>>,
    again: Option<Duration>,
}

/// Brings the number of active pods to what the Job wants now.
fn adjust(job: &Job, tally: &Tally, now: Timestamp) -> Work {
    let parallelism = job.spec.as_ref().and_then(|spec| spec.parallelism).unwrap_or(1);
    let active = number(tally.active.len());
    let succeeded = tally.succeeded(job);
    let wanted = match completions(job) {
        Some(completions) => (completions - succeeded - tally.failed_indexes.len()).clamp(0, parallelism.max(0)),
        None if succeeded > 0 => active.min(parallelism),
        None => parallelism,
    };
    let mut delete = misplaced(job, tally);
    let surplus = usize::try_from(active - wanted).unwrap_or(0);
    if surplus > delete.len() {
        let mut rest = tally.active.clone();
        rest.retain(|pod| delete.iter().all(|gone| gone.metadata.uid != pod.metadata.uid));
        rank::sort_for_deletion(&mut rest, now, |_| 0);
        delete.extend(rest.into_iter().take(surplus - delete.len()));
    }
    delete.truncate(BURST);
    if !delete.is_empty() {
        return Work { delete, ..Work::default() };
    }
    let waiting = if replaces_only_failed(job) { number(tally.terminating.len()) } else { 0 };
    let missing = usize::try_from(wanted - active - waiting).unwrap_or(0).min(BURST);
    if is_indexed(job) { next_indexes(job, tally, missing, now) } else { more(tally, missing, now) }
}

fn more(tally: &Tally, missing: usize, now: Timestamp) -> Work {
    match wait(tally.recent_failures, now) {
        Some(wait) if missing > 0 => Work { again: Some(wait), ..Work::default() },
        _ => Work { create: vec![(None, Failures::default()); missing], ..Work::default() },
    }
}

fn wait((failures, last): (u32, Option<Timestamp>), now: Timestamp) -> Option<Duration> {
    backoff_end(failures, last).map(|end| pods::until(end, now)).filter(|left| !left.is_zero())
}

/// The lowest indexes without a pod, as far as their failures let them start now.
fn next_indexes(job: &Job, tally: &Tally, missing: usize, now: Timestamp) -> Work {
    let mut work = Work::default();
    let is_per_index = job.spec.as_ref().is_some_and(|spec| spec.backoff_limit_per_index.is_some());
    if let Some(wait) = wait(tally.recent_failures, now).filter(|_| !is_per_index && missing > 0) {
        work.again = Some(wait);
        return work;
    }
    let waiting = if replaces_only_failed(job) { tally.terminating.as_slice() } else { &[] };
    let taken: BTreeSet<i32> =
        tally.active.iter().chain(waiting).filter_map(|pod| pod::completion_index(job, pod)).collect();
    for index in 0..completions(job).unwrap_or(0) {
        if work.create.len() == missing {
            break;
        }
        if taken.contains(&index) || tally.completed.contains(index) || tally.failed_indexes.contains(index) {
            continue;
        }
        let last = tally.last_failures.get(&index);
        let failures = last.map_or_else(Failures::default, |(_, failures)| *failures);
        let total = u32::try_from(failures.counted.saturating_add(failures.ignored)).unwrap_or(0);
        match wait((total, last.and_then(|(pod, _)| pod::end(pod))), now) {
            Some(wait) => work.again = work.again.into_iter().chain([wait]).min(),
            None => work.create.push((Some(index), failures)),
        }
    }
    work
}

/// Active pods of an indexed Job that no index needs: the index is done, or does not exist, or has a pod already.
fn misplaced(job: &Job, tally: &Tally) -> Vec<Arc<Pod>> {
    if !is_indexed(job) {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let is_needed = |pod: &&Arc<Pod>| match pod::completion_index(job, pod) {
        Some(index) => seen.insert(index) && !tally.completed.contains(index) && !tally.failed_indexes.contains(index),
        None => false,
    };
    let kept: BTreeSet<_> = tally.active.iter().filter(is_needed).map(|pod| pod.metadata.uid.clone()).collect();
    tally.active.iter().filter(|pod| !kept.contains(&pod.metadata.uid)).cloned().collect()
}

fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
