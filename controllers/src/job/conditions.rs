//! The conditions of a Job: first what its end will be, then, when no pod is left, the end itself.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The decided end of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The condition that tells of it while pods are still ending.
    pub(super) interim: &'static str,
    /// The condition of the end itself.
    pub(super) terminal: &'static str,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn failure(reason: &str, message: &str) -> Self {
        Self { interim: "FailureTarget", terminal: "Failed", reason: reason.to_owned(), message: message.to_owned() }
    }

    pub(super) fn success(reason: &str, message: &str) -> Self {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        Self { interim: "SuccessCriteriaMet", terminal: "Complete", reason, message }
    }
}

/// The verdict that the status already tells of.
pub(super) fn pending(status: &JobStatus) -> Option<Verdict> {
    let of = |kind, verdict: fn(&str, &str) -> Verdict| {
        let condition = find(status, kind).filter(|condition| condition.status == "True")?;
        let words = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(verdict(&words(&condition.reason), &words(&condition.message)))
    };
    of("FailureTarget", Verdict::failure).or_else(|| of("SuccessCriteriaMet", Verdict::success))
}

/// The condition by which the Job has ended.
pub(super) fn finished(status: &JobStatus) -> Option<&JobCondition> {
    ["Complete", "Failed"].into_iter().filter_map(|kind| find(status, kind)).find(|found| found.status == "True")
}

pub(super) fn is_true(status: &JobStatus, kind: &str) -> bool {
    find(status, kind).is_some_and(|condition| condition.status == "True")
}

/// Ends the Job.
pub(super) fn finish(status: &mut JobStatus, verdict: &Verdict, now: Timestamp) {
    set(status, verdict.terminal, "True", &verdict.reason, &verdict.message, now);
    if verdict.terminal == "Complete" {
        status.completion_time = Some(Time(now));
    }
}

/// Sets a condition; one that says the same already keeps its times.
pub(super) fn set(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let condition = JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|known| known.type_ == kind) {
        None => conditions.push(condition),
        Some(known) if known.status == value => {}
        Some(known) => *known = condition,
    }
}

fn find<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}
