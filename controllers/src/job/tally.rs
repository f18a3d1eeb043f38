//! Counts a Job's pods: what is under way, what ended, and what of that is already in the status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use super::pod::{self, Failures};
use super::policy::{self, Action};
use super::{completions, is_indexed, replaces_only_failed};
use crate::meta;

/// Upstream's `DefaultJobPodFailureBackOff` and `MaxJobPodFailureBackOff`, in seconds.
const BACKOFF: (i64, i64) = (10, 600);

/// A Job's pods, counted.
pub(super) struct Tally {
    /// Neither ended nor being deleted.
    pub(super) active: Vec<Arc<Pod>>,
    /// Being deleted and not ended yet.
    pub(super) terminating: Vec<Arc<Pod>>,
    /// Ended well, and not in the status yet.
    pub(super) new_succeeded: Vec<Arc<Pod>>,
    /// Failed, with what follows from it, and not in the status yet.
    pub(super) new_failed: Vec<(Arc<Pod>, Action)>,
    /// Counted by the status as `uncounted`, but their finalizer is still there.
    pub(super) to_release: Vec<Arc<Pod>>,
    /// What the status must go on listing as uncounted.
    pub(super) uncounted: UncountedTerminatedPods,
    /// Counts of pods whose finalizer is gone, for `status.succeeded` and `status.failed`.
    pub(super) settled: (i32, i32),
    /// Indexes that succeeded and that failed for good; empty for a Job without indexes.
    pub(super) completed: Indexes,
    pub(super) failed_indexes: Indexes,
    /// Per index that may be tried again: its latest failed pod.
    pub(super) last_failures: BTreeMap<i32, (Arc<Pod>, Failures)>,
    /// Failures after the last success, and when the last of them was.
    pub(super) recent_failures: (u32, Option<Timestamp>),
}

impl Tally {
    pub(super) fn of(job: &Job, all: &[Arc<Pod>]) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let (uncounted, settled, to_release) = settle(&status, all);
        let listed: BTreeSet<&String> =
            uncounted.succeeded.iter().flatten().chain(uncounted.failed.iter().flatten()).collect();
        let is_new = |each: &&Arc<Pod>| {
            pod::is_tracked(each) && each.metadata.uid.as_ref().is_none_or(|uid| !listed.contains(uid))
        };
        let new_succeeded = all.iter().filter(is_new).filter(|pod| pods::phase(pod) == "Succeeded").cloned().collect();
        let new_failed = all.iter().filter(is_new).filter(|pod| has_failed(job, pod));
        let mut tally = Self {
            active: all.iter().filter(|pod| pods::is_active(pod)).cloned().collect(),
            terminating: all
                .iter()
                .filter(|pod| pods::is_terminating(pod) && !pods::is_terminal(pod))
                .cloned()
                .collect(),
            new_succeeded,
            new_failed: new_failed.map(|pod| (Arc::clone(pod), policy::on_failure(job, pod))).collect(),
            to_release,
            uncounted,
            settled,
            completed: Indexes::default(),
            failed_indexes: Indexes::default(),
            last_failures: BTreeMap::new(),
            recent_failures: recent_failures(job, all),
        };
        if is_indexed(job) {
            tally.count_indexes(job, &status, all);
        }
        tally
    }

    /// All that succeeded, counted yet or not.
    pub(super) fn succeeded(&self, job: &Job) -> i32 {
        if is_indexed(job) {
            return self.completed.len();
        }
        self.settled.0 + length(self.uncounted.succeeded.as_ref()) + number(self.new_succeeded.len())
    }

    /// All failures that count, counted yet or not.
    pub(super) fn failed(&self) -> i32 {
        let new = self.new_failed.iter().filter(|(_, action)| *action != Action::Ignore).count();
        self.settled.1 + length(self.uncounted.failed.as_ref()) + number(new)
    }

    /// Of the active pods.
    pub(super) fn ready(&self) -> i32 {
        number(self.active.iter().filter(|pod| pods::is_ready(pod)).count())
    }

    fn count_indexes(&mut self, job: &Job, status: &JobStatus, all: &[Arc<Pod>]) {
        let completions = completions(job).unwrap_or(0);
        let index = |pod: &Pod| pod::completion_index(job, pod);
        self.completed = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        self.new_succeeded.iter().filter_map(|pod| index(pod)).for_each(|done| self.completed.insert(done));
        let Some(limit) = job.spec.as_ref().and_then(|spec| spec.backoff_limit_per_index) else { return };
        self.failed_indexes = Indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
        for (pod, action) in &self.new_failed {
            let Some(at) = index(pod) else { continue };
            let mut failures = pod::failures_before(pod);
            match action {
                Action::Ignore => failures.ignored = failures.ignored.saturating_add(1),
                _ => failures.counted = failures.counted.saturating_add(1),
            }
            if failures.counted > limit || *action == Action::FailIndex {
                self.failed_indexes.insert(at);
            }
            let total = |failures: Failures| failures.counted.saturating_add(failures.ignored);
            let known = self.last_failures.entry(at).or_insert_with(|| (Arc::clone(pod), failures));
            if total(failures) > total(known.1) {
                *known = (Arc::clone(pod), failures);
            }
        }
        let is_over = |at: &i32| self.completed.contains(*at) || self.failed_indexes.contains(*at);
        self.last_failures.retain(|at, (failed, _)| {
            let is_replaced = all.iter().any(|other| {
                index(other) == Some(*at)
                    && pod::failures_before(other) != pod::failures_before(failed)
                    && pods::is_active(other)
            });
            !is_over(at) && !is_replaced
        });
    }
}

/// Whether the pod ended badly. One that is being deleted counts as failed, unless the Job waits for its end.
fn has_failed(job: &Job, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pods::is_terminating(pod) && !replaces_only_failed(job),
    }
}

/// Moves uncounted pods whose finalizer is gone into the counts.
fn settle(status: &JobStatus, all: &[Arc<Pod>]) -> (UncountedTerminatedPods, (i32, i32), Vec<Arc<Pod>>) {
    let tracked: BTreeMap<&str, &Arc<Pod>> =
        all.iter().filter(|pod| pod::is_tracked(pod)).map(|pod| (meta::uid(&pod.metadata), pod)).collect();
    let mut to_release = Vec::new();
    let mut split = |uids: Option<Vec<String>>| {
        let (kept, gone): (Vec<_>, Vec<_>) =
            uids.unwrap_or_default().into_iter().partition(|uid| tracked.contains_key(uid.as_str()));
        to_release.extend(kept.iter().filter_map(|uid| tracked.get(uid.as_str())).map(|pod| Arc::clone(pod)));
        ((!kept.is_empty()).then_some(kept), number(gone.len()))
    };
    let before = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let (succeeded, settled) = split(before.succeeded);
    let (failed, settled_failed) = split(before.failed);
    let counts = (status.succeeded.unwrap_or(0) + settled, status.failed.unwrap_or(0) + settled_failed);
    (UncountedTerminatedPods { failed, succeeded }, counts, to_release)
}

fn recent_failures(job: &Job, all: &[Arc<Pod>]) -> (u32, Option<Timestamp>) {
    let last_success = all.iter().filter(|pod| pods::phase(pod) == "Succeeded").filter_map(|pod| pod::end(pod)).max();
    let failures = all.iter().filter(|pod| has_failed(job, pod)).filter_map(|pod| pod::end(pod));
    let recent: Vec<Timestamp> = failures.filter(|end| last_success.is_none_or(|success| *end > success)).collect();
    (u32::try_from(recent.len()).unwrap_or(u32::MAX), recent.into_iter().max())
}

/// When the next pod may be made after this many failures in a row, of which the last was at `last`.
pub(super) fn backoff_end(failures: u32, last: Option<Timestamp>) -> Option<Timestamp> {
    let doublings = failures.checked_sub(1)?;
    let (first, longest) = BACKOFF;
    let pause =
        2_i64.checked_pow(doublings).and_then(|factor| first.checked_mul(factor)).unwrap_or(longest).min(longest);
    last?.checked_add(SignedDuration::from_secs(pause)).ok()
}

fn length(uids: Option<&Vec<String>>) -> i32 {
    number(uids.map_or(0, Vec::len))
}

/// A count as the API writes it.
pub(super) fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
