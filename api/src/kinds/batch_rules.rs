//! Rules for Jobs and CronJobs.

use serde_json::{Value, json};

use super::batch;
use super::tree::{Errors, IMMUTABLE, Node};
use super::{job_policies, meta, networking_rules, pod_spec};
use crate::cron::Schedule;

/// A name of a job made by a CronJob has eleven more characters.
const CRON_JOB_NAME: usize = 52;

/// A `Job`.
pub(crate) fn job(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    if !spec.field("manualSelector").is_true() {
        generated_selector(object, &spec.field("selector"), errors);
    }
    job_with_selector(&spec, errors);
    let (completions, metadata) = (spec.field("completions").number(), object.field("metadata"));
    if spec.field("completionMode").text() == "Indexed" && completions > 0 {
        let name = metadata.field("name");
        let longest = format!("{}-{}", name.text(), completions - 1);
        if !super::rules::label(&longest).is_empty() {
            errors.invalid(&name, &format!("will not able to create pod with invalid DNS label: {longest}"));
        }
    }
}

fn job_with_selector(spec: &Node<'_, '_>, errors: &mut Errors) {
    job_spec(spec, errors);
    let selector = spec.field("selector");
    if selector.is_unset() {
        errors.required(&selector, "");
    } else {
        meta::selector(&selector, errors);
    }
    let template = spec.field("template");
    let metadata = template.field("metadata");
    let labels = metadata.field("labels");
    if selector.is_set() && !meta::selects(&selector, labels.map()) {
        errors.invalid(&labels, "`selector` does not match template `labels`");
    }
}

/// A generated selector is just the job's uid, which the template carries as a label.
fn generated_selector(object: &Node<'_, '_>, selector: &Node<'_, '_>, errors: &mut Errors) {
    let metadata = object.field("metadata");
    let uid = metadata.field("uid");
    let spec = object.field("spec");
    let template = spec.field("template");
    let template_metadata = template.field("metadata");
    let labels = template_metadata.field("labels");
    let expected = [
        json!({"matchLabels": {batch::CONTROLLER_UID: uid.text()}}),
        json!({"matchLabels": {batch::LEGACY_CONTROLLER_UID: uid.text()}}),
    ];
    for (key, value) in [
        (batch::LEGACY_CONTROLLER_UID, uid.text()),
        (batch::LEGACY_JOB_NAME, metadata.field("name").text()),
        (batch::CONTROLLER_UID, uid.text()),
        (batch::JOB_NAME, metadata.field("name").text()),
    ] {
        match labels.map().and_then(|map| map.get(key)).and_then(Value::as_str) {
            None => errors.required(&labels.field(key), &format!("must be '{value}'")),
            Some(given) if given != value => errors.invalid(&labels, &format!("must be '{value}'")),
            Some(_) => {}
        }
    }
    if !expected.contains(&selector.shown()) {
        errors.invalid(selector, "`selector` not auto-generated");
    }
}

fn job_spec(spec: &Node<'_, '_>, errors: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.non_negative(&spec.field(key));
    }
    if spec.field("maxFailedIndexes").is_set() && spec.field("backoffLimitPerIndex").is_unset() {
        errors.required(&spec.field("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    managed_by(&spec.field("managedBy"), errors);
    completion_mode(spec, errors);
    job_policies::failure_policy(spec, errors);
    let template = spec.field("template");
    pod_spec::template(&template, errors);
    let pods = template.field("spec");
    let restart = pods.field("restartPolicy");
    match restart.text() {
        "" | "Always" => errors.required(&restart, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" | "Never" => {}
        _ => errors.not_supported(&restart, &["OnFailure", "Never"]),
    }
    let replacement = spec.field("podReplacementPolicy");
    if replacement.is_set() {
        if spec.field("podFailurePolicy").is_set() {
            errors.one_of(&replacement, &["Failed"]);
        } else {
            errors.one_of(&replacement, &["Failed", "TerminatingOrFailed"]);
        }
    }
}

/// The name of another controller than ours.
fn managed_by(at: &Node<'_, '_>, errors: &mut Errors) {
    const LONGEST: usize = 63;
    if at.is_unset() {
        return;
    }
    networking_rules::domain_prefixed(at, errors);
    if at.text().len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
}

/// The most pods that run at once in a job whose completions are indexed, and how many when there are more of these.
const MANY: i64 = 100_000;
const FEW: i64 = 10_000;

fn completion_mode(spec: &Node<'_, '_>, errors: &mut Errors) {
    let (mode, completions) = (spec.field("completionMode"), spec.field("completions"));
    errors.none_or_one_of(&mode, &["NonIndexed", "Indexed"]);
    if mode.text() != "Indexed" {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            let field = spec.field(key);
            if field.is_set() {
                errors.invalid(&field, "requires indexed completion mode");
            }
        }
        return;
    }
    if completions.is_unset() {
        errors.required(&completions, "when completion mode is Indexed");
    }
    let parallelism = spec.field("parallelism");
    if parallelism.number() > MANY {
        errors.invalid(&parallelism, &format!("must be less than or equal to {MANY} when completion mode is Indexed"));
    }
    if spec.field("backoffLimitPerIndex").is_set() && completions.is_set() {
        failed_indexes(spec, completions.number(), errors);
    }
    if spec.field("successPolicy").is_set() {
        job_policies::success_policy(&spec.field("successPolicy"), completions.number(), errors);
    }
}

fn failed_indexes(spec: &Node<'_, '_>, completions: i64, errors: &mut Errors) {
    let (most, parallelism) = (spec.field("maxFailedIndexes"), spec.field("parallelism"));
    if most.number() > completions {
        errors.invalid(&most, "must be less than or equal to completions");
    }
    if most.number() > MANY {
        errors.invalid(&most, &format!("must be less than or equal to {MANY}"));
    }
    if completions <= MANY {
        return;
    }
    if most.is_unset() {
        errors.required(&most, &format!("must be specified when completions is above {MANY}"));
    }
    for count in [&parallelism, &most] {
        if count.number() > FEW {
            let when = format!("when completions are above {MANY} and used with backoff limit per index");
            errors.invalid(count, &format!("must be less than or equal to {FEW} {when}"));
        }
    }
}

/// What may not change in a `Job`.
pub(crate) fn job_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    // Upstream's rules for a change hold those for a spec once more.
    job_with_selector(&spec, errors);
    completions_change(&spec, &before, errors);
    for key in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        errors.immutable(&spec.field(key), &before.field(key));
    }
    if template_differs(&spec.field("template"), &before.field("template"), old) {
        let template = spec.field("template");
        errors.invalid_shown(&template, &super::dump::pod_template(&template), IMMUTABLE);
    }
}

/// A job whose completions are indexed can grow and shrink with its parallelism.
fn completions_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (now, then) = (new.field("completions"), old.field("completions"));
    if new.field("completionMode").text() != "Indexed" {
        errors.immutable(&now, &then);
    } else if now.value() != then.value() && now.is_set() && now.number() != new.field("parallelism").number() {
        errors.invalid(&now, "can only be modified in tandem with spec.parallelism");
    }
}

/// While a job is suspended and has started nothing, its scheduling directives may change.
fn template_differs(new: &Node<'_, '_>, old: &Node<'_, '_>, job: &Node<'_, '_>) -> bool {
    if new.value() == old.value() {
        return false;
    }
    let (spec, status) = (job.field("spec"), job.field("status"));
    if !spec.field("suspend").is_true() || status.field("startTime").is_set() {
        return true;
    }
    super::storage::differs_beside(new, old, &["metadata", "spec"])
        || super::storage::differs_beside(&new.field("metadata"), &old.field("metadata"), &["labels", "annotations"])
        || super::storage::differs_beside(
            &new.field("spec"),
            &old.field("spec"),
            &["nodeSelector", "tolerations", "affinity", "schedulingGates"],
        )
}

/// A new `CronJob` leaves room for what it appends to its name.
pub(crate) fn new_cron_job(object: &Node<'_, '_>, errors: &mut Errors) {
    let metadata = object.field("metadata");
    let name = metadata.field("name");
    if name.text().len() > CRON_JOB_NAME {
        errors.invalid(&name, "must be no more than 52 characters");
    }
}

/// A `CronJob`.
pub(crate) fn cron_job(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    schedule(&spec, errors);
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
    job_spec(&job, errors);
}

fn schedule(spec: &Node<'_, '_>, errors: &mut Errors) {
    let (schedule, zone) = (spec.field("schedule"), spec.field("timeZone"));
    if !errors.require_text(&schedule) {
        return;
    }
    if schedule.text().contains("TZ=") {
        errors.invalid(&schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if let Err(why) = Schedule::parse(schedule.text()) {
        errors.invalid(&schedule, &why);
    }
    if zone.is_set() {
        if zone.text().is_empty() {
            errors.invalid(&zone, "timeZone must be nil or non-empty string");
        } else if zone.text().eq_ignore_ascii_case("local") {
            errors
                .invalid(&zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
        } else if jiff::tz::TimeZone::get(zone.text()).is_err() {
            errors.invalid(&zone, &format!("unknown time zone {}", zone.text()));
        }
    }
}
