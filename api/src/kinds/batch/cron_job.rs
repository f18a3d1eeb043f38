//! CronJobs (upstream: `pkg/registry/batch/cronjob`).

use jiff::Timestamp;
use serde_json::Value;

use super::job::{self, validate};
use crate::cron::Schedule;
use crate::kinds::kind::{Kind, Sub};
use crate::kinds::pods::gates;
use crate::kinds::pods::warn::{self, PODS_AND_HOSTS};
use crate::kinds::rules::fill::{self, default_pointer, default_zero};
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{NONE, UNSET, age, ago, containers, list, or, selector_or_none, title};

pub(crate) const KIND: Kind = Kind {
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[Sub::STATUS],
    has_generation: true,
    cells: &[Row(cells)],
    default,
    fill_status: Some(|_| {}),
    gated: gates::CRON_JOB,
    validate,
    validate_new,
    warn,
    ..Kind::namespaced("cronjobs", "CronJob")
};

/// Defaults of a `CronJob`. The job it makes gets its own defaults when it is made.
fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    default_zero(spec, "concurrencyPolicy", "Allow");
    default_pointer(spec, "suspend", false);
    default_pointer(spec, "successfulJobsHistoryLimit", 3);
    default_pointer(spec, "failedJobsHistoryLimit", 1);
    let template = fill::object(spec, "jobTemplate");
    fill::object(template, "metadata");
    job::default_job_template(fill::object(template, "spec"));
}

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    schedule(&spec, errors);
    time_zone(&spec.field("timeZone"), errors);
    for key in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.non_negative(&spec.field(key));
    }
    let concurrency = spec.field("concurrencyPolicy");
    if errors.require_text(&concurrency) {
        errors.one_of(&concurrency, &["Allow", "Forbid", "Replace"]);
    }
    let template = spec.field("jobTemplate");
    let job = template.field("spec");
    if job.field("selector").is_set() {
        errors.invalid(&job.field("selector"), "`selector` will be auto-generated");
    }
    if job.field("manualSelector").is_true() {
        errors.not_supported(&job.field("manualSelector"), &["nil", "false"]);
    }
    validate::job_spec(&job, errors);
}

fn schedule(spec: &Node<'_, '_>, errors: &mut Errors) {
    let schedule = spec.field("schedule");
    if !errors.require_text(&schedule) {
        return;
    }
    let text = schedule.text();
    let zoned = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ="));
    let plain = zoned.map_or(text, |rest| rest.split_once(' ').map_or("", |(_, plain)| plain.trim_start()));
    if let Err(why) = Schedule::parse(plain) {
        errors.invalid(&schedule, &why);
    }
    if text.contains("TZ") {
        errors.invalid(&schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    }
}

/// The time zone of a schedule, by its name in the database of time zones.
fn time_zone(at: &Node<'_, '_>, errors: &mut Errors) {
    let name = at.text();
    if at.is_unset() {
        return;
    }
    if name.is_empty() {
        errors.invalid(at, "timeZone must be nil or non-empty string");
        return;
    }
    let unknown = format!("unknown time zone {name}");
    if !name.split('/').all(is_part_of_zone) {
        errors.invalid(at, &unknown);
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        errors.invalid(at, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    // Go's names are those of files, in which capital letters matter.
    let known = jiff::tz::TimeZone::get(name).is_ok_and(|zone| zone.iana_name().is_none_or(|known| known == name));
    if !known && name != "Local" {
        errors.invalid(at, &unknown);
    }
}

fn is_part_of_zone(part: &str) -> bool {
    !matches!(part, "." | "..")
        && !part.starts_with('-')
        && (1..=14).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

/// A name of a job made by a CronJob has eleven more characters.
const CRON_JOB_NAME: usize = 52;

/// A new `CronJob` leaves room for what it appends to its name.
fn validate_new(object: &Node<'_, '_>, errors: &mut Errors) {
    let metadata = object.field("metadata");
    let name = metadata.field("name");
    if name.text().len() > CRON_JOB_NAME {
        errors.invalid(&name, "must be no more than 52 characters");
    }
}

fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const ZONE: &str = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                        https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
    if old.is_none() {
        warn::pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
    }
    let spec = new.field("spec");
    if warn::is_news(new, old) {
        job::warn_spec(&spec.field("jobTemplate").field("spec"), texts);
    }
    if old.is_some() && spec.field("schedule").text().contains("TZ") {
        texts.push(ZONE.to_owned());
    }
}

fn cells(job: &Object, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(job, &["spec", "jobTemplate", "spec", "template", "spec"]);
    let suspend = job.get(&["spec", "suspend"]).and_then(Value::as_bool).map_or(UNSET, title);
    vec![
        job.name().into(),
        job.text(&["spec", "schedule"]).into(),
        or(job.text(&["spec", "timeZone"]), NONE).into(),
        suspend.into(),
        list(job, &["status", "active"]).len().into(),
        ago(job.get(&["status", "lastScheduleTime"]), now).unwrap_or_else(|| NONE.to_owned()).into(),
        age(job, now).into(),
        names,
        images,
        selector_or_none(job.get(&["spec", "jobTemplate", "spec", "selector"])).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;
    use serde_json::json;

    #[test]
    fn schedules_say_no_time_zone() {
        let cases: [(&str, &[&str]); 3] = [
            ("0 * * * *", &[]),
            (
                "TZ=UTC 0 * * * *",
                &[
                    "schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
                ],
            ),
            ("", &["schedule: Required value"]),
        ];
        for (text, want) in cases {
            check_rule(schedule, json!({"schedule": text}), want);
        }
    }

    #[test]
    fn time_zones_are_those_of_the_database() {
        let local = "z: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        let cases: [(&str, &[&str]); 6] = [
            ("Europe/Berlin", &[]),
            ("Etc/UTC", &[]),
            ("europe/berlin", &["z: Invalid value: \"europe/berlin\": unknown time zone europe/berlin"]),
            ("Europe//Berlin", &["z: Invalid value: \"Europe//Berlin\": unknown time zone Europe//Berlin"]),
            ("Local", &[local]),
            ("", &["z: Invalid value: \"\": timeZone must be nil or non-empty string"]),
        ];
        for (name, want) in cases {
            check_rule(|at, errors| time_zone(&at.field("z"), errors), json!({"z": name}), want);
        }
    }
}
