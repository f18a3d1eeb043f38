//! Rules for Jobs and CronJobs.

use serde_json::{Value, json};

use super::batch;
use super::tree::{Errors, IMMUTABLE, Node};
use super::{meta, pod_spec};
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
    let completions = spec.field("completions");
    if spec.field("completionMode").text() == "Indexed" {
        let name_rule = object.field("metadata");
        let longest = format!("{}-{}", name_rule.field("name").text(), (completions.number() - 1).max(0));
        for why in super::rules::label(&longest) {
            errors.invalid_value(
                &name_rule.field("name"),
                name_rule.field("name").text(),
                &format!("will not able to create pod with invalid DNS label: {longest}: {why}"),
            );
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
    completion_mode(spec, errors);
    failure_policy(spec, errors);
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

fn completion_mode(spec: &Node<'_, '_>, errors: &mut Errors) {
    let (mode, completions) = (spec.field("completionMode"), spec.field("completions"));
    errors.none_or_one_of(&mode, &["NonIndexed", "Indexed"]);
    if mode.text() == "Indexed" {
        if completions.is_unset() {
            errors.required(&completions, "when completion mode is Indexed");
        }
        let parallelism = spec.field("parallelism");
        if parallelism.number() > 100_000 {
            errors.invalid(&parallelism, "must be less than or equal to 100000 when completion mode is Indexed");
        }
        return;
    }
    for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        let field = spec.field(key);
        if field.is_set() {
            errors.invalid(&field, "requires indexed completion mode");
        }
    }
}

fn failure_policy(spec: &Node<'_, '_>, errors: &mut Errors) {
    let policy = spec.field("podFailurePolicy");
    if policy.is_unset() {
        return;
    }
    let template = spec.field("template");
    let pods = template.field("spec");
    if pods.field("restartPolicy").text() != "Never" {
        let at = spec.field("template");
        let restart = at.field("spec");
        errors
            .invalid(&restart.field("restartPolicy"), "only \"Never\" is supported when podFailurePolicy is specified");
    }
    let rules = policy.field("rules");
    for rule in rules.items() {
        let action = rule.field("action");
        if action.text().is_empty() {
            errors.required(&action, "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]");
        } else {
            errors.one_of(&action, &["Count", "FailIndex", "FailJob", "Ignore"]);
        }
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => errors.invalid(&rule, "specifying both OnExitCodes and OnPodConditions is not supported"),
            (false, false) => errors.invalid(&rule, "specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
        if codes.is_set() {
            exit_codes(&codes, errors);
        }
    }
}

fn exit_codes(codes: &Node<'_, '_>, errors: &mut Errors) {
    let (operator, values) = (codes.field("operator"), codes.field("values"));
    errors.one_of(&operator, &["In", "NotIn"]);
    if values.is_empty() {
        errors.invalid(&values, "at least one value is required");
    } else if values.list().len() > 255 {
        errors.too_many(&values, values.list().len(), 255);
    }
    for value in values.items() {
        if operator.text() == "In" && value.number() == 0 {
            errors.invalid(&value, "must not be 0 for the In operator");
        }
    }
}

/// What may not change in a `Job`.
pub(crate) fn job_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    // Upstream's rules for a change hold those for a spec once more.
    job_with_selector(&spec, errors);
    let elastic = spec.field("completionMode").text() == "Indexed"
        && spec.field("completions").value() == spec.field("parallelism").value();
    for key in
        ["completions", "selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "successPolicy"]
    {
        if key == "completions" && elastic {
            continue;
        }
        errors.immutable(&spec.field(key), &before.field(key));
    }
    if template_differs(&spec.field("template"), &before.field("template"), old) {
        let template = spec.field("template");
        errors.invalid_shown(&template, &super::dump::pod_template(&template), IMMUTABLE);
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

/// A `CronJob`.
pub(crate) fn cron_job(object: &Node<'_, '_>, errors: &mut Errors) {
    let metadata = object.field("metadata");
    let name = metadata.field("name");
    if name.text().len() > CRON_JOB_NAME {
        errors.invalid(&name, "must be no more than 52 characters");
    }
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
    let metadata = template.field("metadata");
    meta::labels(&metadata.field("labels"), errors);
    let job = template.field("spec");
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
