//! Jobs: defaults, preparation and warnings (upstream: `pkg/registry/batch/job`).

mod policies;
mod status;
pub(crate) mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub, field};
use crate::kinds::pods::warn::{self, PODS_AND_HOSTS};
use crate::kinds::pods::{defaults, gates};
use crate::kinds::rules::fill::{self, default_pointer, default_zero, is_unset, object, object_at};
use crate::kinds::rules::tree::{Fields, Node};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::Row;
use crate::table::cell::{age, containers, number, selector_or_none};
use crate::table::duration::{human_duration, whole_seconds};

pub(crate) const KIND: Kind = Kind {
    categories: &["all"],
    subresources: &[Sub::STATUS],
    has_generation: true,
    fields: &[field("status.successful").at("status.succeeded").or("0")],
    cells: &[Row(cells)],
    default,
    fill_status: Some(|_| {}),
    gated: gates::WORKLOAD,
    prepare_create,
    validate: validate::job,
    validate_change: validate::change,
    validate_status: status::job,
    warn,
    rechecks: (1, 1),
    orphans: true,
    silent_deletion_warning: Some(ORPHANS),
    ..Kind::namespaced("jobs", "Job")
};

/// Labels that tie pods to their job; the ones without a prefix are kept for clients of long ago.
pub(crate) const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
pub(crate) const JOB_NAME: &str = "batch.kubernetes.io/job-name";
pub(crate) const LEGACY_CONTROLLER_UID: &str = "controller-uid";
pub(crate) const LEGACY_JOB_NAME: &str = "job-name";

/// What a client should know who deletes a job without saying what becomes of its pods.
const ORPHANS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background \
                                  to remove them or set propagationPolicy=Orphan to suppress this warning";

/// What `backoffLimit` is when failures are counted per index.
const UNLIMITED: i64 = i32::MAX as i64;

fn default(object: &mut Object) {
    let labels = object.get(&["spec", "template", "metadata", "labels"]).filter(|l| l.is_object()).cloned();
    if let Some(labels) = labels.filter(|labels| labels != &json!({})) {
        default_zero(object.metadata_mut(), "labels", labels);
    }
    let spec = fill::object(object.root_mut(), "spec");
    if is_unset(spec, "completions") && is_unset(spec, "parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    default_pointer(spec, "parallelism", 1);
    default_pointer(spec, "backoffLimit", if is_unset(spec, "backoffLimitPerIndex") { 6 } else { UNLIMITED });
    default_pointer(spec, "completionMode", "NonIndexed");
    default_pointer(spec, "suspend", false);
    default_pointer(spec, "manualSelector", false);
    let replacement = if is_unset(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    default_pointer(spec, "podReplacementPolicy", replacement);
    default_job_template(spec);
}

pub(crate) fn default_job_template(spec: &mut Fields) {
    defaults::template(spec, "template");
    if let Some(policy) = object_at(spec, "podFailurePolicy") {
        fill::each(policy, "rules", |rule| {
            fill::each(rule, "onPodConditions", |pattern| default_zero(pattern, "status", "True"));
        });
    }
}

/// Gives a new job a selector and labels made of its uid, unless its author selects by hand.
fn prepare_create(_ctx: &WriteContext<'_>, new: &mut Object) {
    let (uid, name) = (new.uid().to_owned(), new.name().to_owned());
    let spec = object(new.root_mut(), "spec");
    if spec.get("manualSelector").and_then(Value::as_bool) == Some(true) {
        return;
    }
    let metadata = object(object(spec, "template"), "metadata");
    let labels = object(metadata, "labels");
    for (key, value) in
        [(LEGACY_CONTROLLER_UID, &uid), (LEGACY_JOB_NAME, &name), (CONTROLLER_UID, &uid), (JOB_NAME, &name)]
    {
        default_pointer(labels, key, value.as_str());
    }
    let selector = object(spec, "selector");
    let match_labels = object(selector, "matchLabels");
    if !match_labels.contains_key(LEGACY_CONTROLLER_UID) {
        default_pointer(match_labels, CONTROLLER_UID, uid.as_str());
    }
    // A job's own labels follow its template's where it has none; defaulting ran before the template had any.
    let labels = new.get(&["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels {
        default_zero(new.metadata_mut(), "labels", labels);
    }
}

fn warn(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_none() {
        warn::pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
    }
    if warn::is_news(new, old) {
        warn_spec(&new.field("spec"), texts);
    }
}

pub(crate) fn warn_spec(spec: &Node<'_, '_>, texts: &mut Vec<String>) {
    let many = spec.field("completions").number() > 100_000 && spec.field("parallelism").number() > 10_000;
    if spec.field("completionMode").text() == "Indexed" && many {
        texts.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path()
        ));
    }
    warn::all(&spec.field("template"), true, texts);
}

fn cells(job: &Object, now: Timestamp) -> Vec<Value> {
    let succeeded = number(job, &["status", "succeeded"]);
    let completions = match (job.integer(&["spec", "completions"]), number(job, &["spec", "parallelism"])) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |field: &str| job.text(&["status", field]).parse::<Timestamp>().ok();
    let duration =
        time("startTime").map(|start| human_duration(whole_seconds(start, time("completionTime").unwrap_or(now))));
    let [names, images] = containers(job, &["spec", "template", "spec"]);
    vec![
        job.name().into(),
        job_status(job).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        age(job, now).into(),
        names,
        images,
        selector_or_none(job.get(&["spec", "selector"])).into(),
    ]
}

fn job_status(job: &Object) -> &'static str {
    let holds = |kind: &str| job.has_condition(kind);
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if job.is_being_deleted() => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}
