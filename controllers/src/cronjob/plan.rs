//! Decides what a CronJob needs now: a Job that is due, old Jobs to delete, and what its status says.

use std::sync::Arc;

use api::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::job;
use crate::meta;

/// Upstream warns of more missed times than this.
const MANY_MISSED: usize = 100;
/// Upstream's defaults of `successfulJobsHistoryLimit` and `failedJobsHistoryLimit`.
const HISTORY: (i32, i32) = (3, 1);

/// Something to tell in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) is_warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl News {
    fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_warning: false, reason, message: message.into() }
    }

    fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_warning: true, reason, message: message.into() }
    }
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Jobs to delete: beyond the history's limits, or to be replaced.
    pub(super) delete: Vec<Arc<Job>>,
    /// The time for which a Job is to be made.
    pub(super) due: Option<Timestamp>,
    pub(super) status: CronJobStatus,
    /// The next time on the schedule.
    pub(super) next: Option<Timestamp>,
    pub(super) news: Vec<News>,
}

/// Compares a CronJob with the Jobs that it controls.
pub(super) fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    follow(cron, jobs, &mut plan);
    plan.delete = expired(cron, jobs);
    let spec = &cron.spec;
    if cron.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return plan;
    }
    let Some((schedule, zone)) = read(&spec.schedule, spec.time_zone.as_deref(), &mut plan.news) else { return plan };
    plan.next = schedule.next(now, &zone);
    if plan.next.is_none() {
        // A day that no month has: upstream finds that by two times that are the same.
        let why = "time difference between two schedules is less than 1 second";
        plan.news.push(News::warning("InvalidSchedule", format!("invalid schedule: {} : {why}", spec.schedule)));
        return plan;
    }
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let last = plan.status.last_schedule_time.as_ref().or(cron.metadata.creation_timestamp.as_ref()).map(|at| at.0);
    let earliest = deadline.and_then(|late| now.checked_sub(late).ok());
    let Some(from) = last.max(earliest) else { return plan };
    let mut missed = 0;
    let mut due = None;
    for at in
        std::iter::successors(schedule.next(from, &zone), |at| schedule.next(*at, &zone)).take_while(|at| *at <= now)
    {
        due = Some(at);
        missed += 1;
        if missed > MANY_MISSED {
            due = latest(&schedule, &zone, now).or(due);
            break;
        }
    }
    if missed > MANY_MISSED {
        plan.news.push(News::warning(
            "TooManyMissedTimes",
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
        ));
    }
    let Some(due) = due else { return plan };
    if jobs.iter().any(|job| meta::name(&job.metadata) == job_name(cron, due)) {
        // It was made, and what the status says of that was not written, or is not seen yet.
        plan.status.last_schedule_time = Some(Time(due));
        return plan;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if active(&plan.status) > 0 => plan.news.push(News::normal(
            "JobAlreadyActive",
            "Not starting job because prior execution is running and concurrency policy is Forbid",
        )),
        Some("Replace") => {
            let old = jobs.iter().filter(|job| !job::is_finished(job)).cloned();
            plan.delete.extend(old);
            plan.status.active = None;
            plan.due = Some(due);
        }
        _ => plan.due = Some(due),
    }
    plan
}

/// The name of the Job of one time, which tells the time: so it is made once.
pub(super) fn job_name(cron: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", meta::name(&cron.metadata), due.as_second() / 60)
}

/// The last time on the schedule that is not after `now`, sought from ever longer ago.
fn latest(schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    (0..32).find_map(|doublings| {
        let from = now.checked_sub(SignedDuration::from_mins(1 << doublings)).ok()?;
        let times = std::iter::successors(schedule.next(from, zone), |at| schedule.next(*at, zone));
        times.take_while(|at| *at <= now).last()
    })
}

fn read(schedule: &str, zone: Option<&str>, news: &mut Vec<News>) -> Option<(Schedule, TimeZone)> {
    let parsed = match Schedule::parse(schedule) {
        Ok(parsed) => parsed,
        Err(why) => {
            news.push(News::warning("UnparseableSchedule", format!("unparseable schedule: {schedule} : {why}")));
            return None;
        }
    };
    match zone.map_or(Ok(TimeZone::UTC), TimeZone::get) {
        Ok(zone) => Some((parsed, zone)),
        Err(err) => {
            let name = zone.unwrap_or_default();
            news.push(News::warning("UnknownTimeZone", format!("invalid timeZone: {name:?}: {err}")));
            None
        }
    }
}

/// Brings the list of running Jobs up to date, and the time of the last success.
fn follow(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let status = &mut plan.status;
    let mut active = status.active.take().unwrap_or_default();
    for job in jobs {
        let (uid, name) = (meta::uid(&job.metadata), meta::name(&job.metadata));
        let known = active.iter().position(|reference| reference.uid.as_deref() == Some(uid));
        match (known, job::is_finished(job)) {
            (Some(at), true) => {
                active.remove(at);
                let end = if job::has_succeeded(job) { "Complete" } else { "Failed" };
                plan.news.push(News::normal("SawCompletedJob", format!("Saw completed job: {name}, condition: {end}")));
            }
            (None, false) => {
                let created = job.metadata.creation_timestamp.as_ref();
                let adopted = created.is_some_and(|at| cron.metadata.creation_timestamp.as_ref() <= Some(at));
                if adopted {
                    active.push(reference(job));
                }
            }
            _ => {}
        }
        let end = job.status.as_ref().and_then(|status| status.completion_time.clone());
        if job::has_succeeded(job) && end > status.last_successful_time {
            status.last_successful_time = end;
        }
    }
    active.retain(|reference| {
        let is_there = jobs.iter().any(|job| job.metadata.uid == reference.uid);
        if !is_there {
            let name = reference.name.clone().unwrap_or_default();
            plan.news.push(News::normal("MissingJob", format!("Active job went missing: {name}")));
        }
        is_there
    });
    status.active = (!active.is_empty()).then_some(active);
}

/// How the status refers to a running Job.
pub(super) fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

fn active(status: &CronJobStatus) -> usize {
    status.active.as_ref().map_or(0, Vec::len)
}

/// Finished Jobs beyond the history's limits, the oldest first.
fn expired(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = &cron.spec;
    let beyond = |has_succeeded: bool, limit: i32| {
        let mut ended: Vec<_> = jobs
            .iter()
            .filter(|job| job::is_finished(job) && job::has_succeeded(job) == has_succeeded)
            .filter(|job| job.metadata.deletion_timestamp.is_none())
            .cloned()
            .collect();
        ended.sort_by_key(|job| {
            let start = job.status.as_ref().and_then(|status| status.start_time.clone());
            (start.map(|Time(at)| at), job.metadata.name.clone())
        });
        ended.truncate(ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0)));
        ended
    };
    let mut expired = beyond(true, spec.successful_jobs_history_limit.unwrap_or(HISTORY.0));
    expired.extend(beyond(false, spec.failed_jobs_history_limit.unwrap_or(HISTORY.1)));
    expired
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn cron(spec: Value, status: Value) -> CronJob {
        let mut cron: CronJob = from_value(json!({
            "metadata": {"name": "tick", "uid": "c", "creationTimestamp": "2026-01-01T10:00:30Z"},
            "spec": {"schedule": "*/10 * * * *", "jobTemplate": {}}, "status": status,
        }))
        .unwrap();
        let mut whole = serde_json::to_value(&cron.spec).unwrap();
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        cron.spec = from_value(whole).unwrap();
        cron
    }

    fn job(name: &str, start: &str, end: Option<&str>) -> Arc<Job> {
        let conditions = end.map(|kind| json!([{"type": kind, "status": "True"}])).unwrap_or(Value::Null);
        let time = at(start).to_string();
        Arc::new(
            from_value(json!({
                "metadata": {"name": name, "uid": name, "creationTimestamp": time},
                "status": {"startTime": time, "completionTime": end.map(|_| &time), "conditions": conditions},
            }))
            .unwrap(),
        )
    }

    fn reasons(plan: &Plan) -> Vec<&str> {
        plan.news.iter().map(|news| news.reason).collect()
    }

    #[test]
    fn a_job_is_due_once_per_time_on_the_schedule() {
        let fresh = cron(json!({}), json!({}));
        let plan1 = plan(&fresh, &[], at("10:09:00"));
        assert_eq!((plan1.due, plan1.next), (None, Some(at("10:10:00"))));
        assert_eq!(plan(&fresh, &[], at("10:10:00")).due, Some(at("10:10:00")));
        // Of several missed times only the last counts.
        assert_eq!(plan(&fresh, &[], at("10:35:00")).due, Some(at("10:30:00")));
        let done = cron(json!({}), json!({"lastScheduleTime": "2026-01-01T10:30:00Z"}));
        assert_eq!(plan(&done, &[], at("10:35:00")).due, None);
    }

    #[test]
    fn a_job_that_was_made_and_not_noted_yet_is_neither_replaced_nor_in_the_way() {
        for policy in ["Replace", "Forbid", "Allow"] {
            let stale = cron(json!({"concurrencyPolicy": policy}), json!({}));
            let made = job(&job_name(&stale, at("10:10:00")), "10:10:00", None);
            let plan = plan(&stale, &[made], at("10:10:01"));
            assert_eq!((plan.due, plan.delete.len(), reasons(&plan)), (None, 0, Vec::new()), "{policy}");
            assert_eq!(plan.status.last_schedule_time, Some(Time(at("10:10:00"))));
            assert_eq!(active(&plan.status), 1);
        }
    }

    #[test]
    fn a_schedule_without_any_time_is_told_of() {
        let plan = plan(&cron(json!({"schedule": "59 23 31 2 *"}), json!({})), &[], at("11:00:00"));
        let message = "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second";
        assert_eq!(plan.news, [News::warning("InvalidSchedule", message)]);
        assert_eq!((plan.due, plan.next), (None, None));
    }

    #[test]
    fn suspension_and_a_late_start_skip_times() {
        assert_eq!(plan(&cron(json!({"suspend": true}), json!({})), &[], at("11:00:00")).due, None);
        let strict = cron(json!({"startingDeadlineSeconds": 60}), json!({}));
        assert_eq!(plan(&strict, &[], at("10:15:00")).due, None);
        assert_eq!(plan(&strict, &[], at("10:20:30")).due, Some(at("10:20:00")));
    }

    #[test]
    fn after_a_long_pause_only_the_latest_time_is_made_up_for() {
        let old = cron(json!({"schedule": "* * * * *"}), json!({"lastScheduleTime": "2025-12-01T00:00:00Z"}));
        let plan = plan(&old, &[], at("10:35:20"));
        assert_eq!((plan.due, reasons(&plan)), (Some(at("10:35:00")), vec!["TooManyMissedTimes"]));
    }

    #[test]
    fn running_jobs_forbid_or_are_replaced() {
        let running = [job("one", "10:10:00", None)];
        let forbid = plan(&cron(json!({"concurrencyPolicy": "Forbid"}), json!({})), &running, at("10:20:00"));
        assert_eq!((forbid.due, reasons(&forbid)), (None, vec!["JobAlreadyActive"]));
        let replace = plan(&cron(json!({"concurrencyPolicy": "Replace"}), json!({})), &running, at("10:20:00"));
        assert_eq!((replace.due, replace.delete.len(), replace.status.active), (Some(at("10:20:00")), 1, None));
        let allow = plan(&cron(json!({}), json!({})), &running, at("10:20:00"));
        assert_eq!((allow.due, allow.status.active.unwrap().len()), (Some(at("10:20:00")), 1));
    }

    #[test]
    fn finished_jobs_leave_the_list_and_old_ones_are_deleted() {
        let jobs: Vec<_> = [("a", "10:01:00"), ("b", "10:02:00"), ("c", "10:03:00"), ("d", "10:04:00")]
            .map(|(name, start)| job(name, start, Some("Complete")))
            .into_iter()
            .chain([job("e", "10:05:00", Some("Failed")), job("f", "10:06:00", Some("Failed"))])
            .collect();
        let active = json!({"active": [{"name": "d", "uid": "d"}, {"name": "gone", "uid": "gone"}]});
        let plan = plan(&cron(json!({}), active), &jobs, at("10:07:00"));
        let deleted: Vec<_> = plan.delete.iter().map(|job| meta::name(&job.metadata).to_owned()).collect();
        assert_eq!(deleted, ["a", "e"]);
        assert_eq!(plan.status.active, None);
        assert_eq!(plan.status.last_successful_time, Some(Time(at("10:04:00"))));
        assert_eq!(reasons(&plan), ["SawCompletedJob", "MissingJob"]);
    }
}
