//! Rules for Jobs (upstream: `ValidateJob`, `ValidateJobUpdate`).

use serde_json::Value;

use super::policies;
use crate::kinds::batch::job;
use crate::kinds::pods::{self, spec};
use crate::kinds::rules::tree::{Errors, Fields, IMMUTABLE, Node, is_same};
use crate::kinds::rules::{labels, naming, shown};

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
        if !naming::label(&longest).is_empty() {
            errors.invalid(&name, &format!("will not able to create pod with invalid DNS label: {longest}"));
        }
    }
}

fn job_with_selector(spec: &Node<'_, '_>, errors: &mut Errors) {
    job_spec(spec, errors);
    let selector = spec.field("selector");
    let before = errors.0.len();
    labels::selector(&selector, errors);
    let is_valid = errors.0.len() == before;
    if selector.is_unset() {
        errors.required(&selector, "");
    }
    let template = spec.field("template");
    let metadata = template.field("metadata");
    let labels = metadata.field("labels");
    if is_valid && !labels::is_everything(&selector) && !labels::selects(&selector, labels.map()) {
        errors.invalid(&labels, "`selector` does not match template `labels`");
    }
}

/// A generated selector is just the job's uid, which the template carries as a label.
fn generated_selector(object: &Node<'_, '_>, selector: &Node<'_, '_>, errors: &mut Errors) {
    if selector.is_unset() {
        return;
    }
    let metadata = object.field("metadata");
    let uid = metadata.field("uid");
    let spec = object.field("spec");
    let template = spec.field("template");
    let template_metadata = template.field("metadata");
    let labels = template_metadata.field("labels");
    let mut expected = Fields::new();
    for (key, value) in [
        (job::LEGACY_CONTROLLER_UID, uid.text()),
        (job::LEGACY_JOB_NAME, metadata.field("name").text()),
        (job::CONTROLLER_UID, uid.text()),
        (job::JOB_NAME, metadata.field("name").text()),
    ] {
        match labels.map().and_then(|map| map.get(key)).and_then(Value::as_str) {
            None => errors.required(&labels.key(key), &format!("must be '{value}'")),
            Some(given) if given != value => {
                errors.invalid_value(&labels.key(key), labels.shown(), &format!("must be '{value}'"));
            }
            Some(_) => {}
        }
        expected.insert(key.to_owned(), value.into());
    }
    if !labels::selects(selector, Some(&expected)) {
        errors.invalid(selector, "`selector` not auto-generated");
    }
}

pub(crate) fn job_spec(spec: &Node<'_, '_>, errors: &mut Errors) {
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
    policies::failure_policy(spec, errors);
    let template = spec.field("template");
    spec::template(&template, errors);
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
    naming::domain_prefixed(at, errors);
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
    let success = spec.field("successPolicy");
    if mode.text() != "Indexed" && success.is_set() {
        errors.invalid_shown(&success, &policies::shown_success_policy(&success), REQUIRES_INDEXES);
    }
    if matches!(mode.text(), "" | "NonIndexed") {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            let field = spec.field(key);
            if field.is_set() {
                errors.invalid(&field, REQUIRES_INDEXES);
            }
        }
    }
    if mode.text() != "Indexed" {
        return;
    }
    if completions.is_unset() {
        errors.required(&completions, "when completion mode is Indexed");
    }
    let parallelism = spec.field("parallelism");
    if parallelism.number() > MANY {
        errors.invalid(&parallelism, &format!("must be less than or equal to {MANY} when completion mode is Indexed"));
    }
    failed_indexes(spec, completions.integer(), errors);
    if success.is_set() {
        policies::success_policy(&success, completions.number(), errors);
    }
}

const REQUIRES_INDEXES: &str = "requires indexed completion mode";

fn failed_indexes(spec: &Node<'_, '_>, completions: Option<i64>, errors: &mut Errors) {
    let (most, parallelism) = (spec.field("maxFailedIndexes"), spec.field("parallelism"));
    if completions.is_some_and(|completions| most.number() > completions) {
        errors.invalid(&most, "must be less than or equal to completions");
    }
    if most.number() > MANY {
        errors.invalid(&most, &format!("must be less than or equal to {MANY}"));
    }
    if completions.unwrap_or(0) <= MANY || spec.field("backoffLimitPerIndex").is_unset() {
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
pub(crate) fn change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    // Upstream's rules for a change hold those for a spec once more.
    job_with_selector(&spec, errors);
    completions_change(&spec, &before, errors);
    for key in ["selector", "completionMode", "backoffLimitPerIndex", "managedBy"] {
        errors.immutable(&spec.field(key), &before.field(key));
    }
    type Show = fn(&Node<'_, '_>) -> shown::Shown;
    let shown: [(&str, Show); 2] =
        [("podFailurePolicy", policies::shown_failure_policy), ("successPolicy", policies::shown_success_policy)];
    for (key, shown) in shown {
        let policy = spec.field(key);
        if !policy.is_same(&before.field(key)) {
            errors.invalid_shown(&policy, &shown(&policy), IMMUTABLE);
        }
    }
    if template_differs(&spec.field("template"), &before.field("template"), old) {
        let template = spec.field("template");
        errors.invalid_shown(&template, &pods::shown::pod_template(&template), IMMUTABLE);
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

/// While a job is suspended and runs nothing, where its pods go and what they ask for may change.
fn template_differs(new: &Node<'_, '_>, old: &Node<'_, '_>, job: &Node<'_, '_>) -> bool {
    if new.is_same(old) {
        return false;
    }
    if !runs_nothing(job) {
        return true;
    }
    let (Some(mut now), Some(mut then)) = (new.value().cloned(), old.value().cloned()) else { return true };
    for template in [&mut now, &mut then] {
        without_directives(template);
    }
    !is_same(Some(&now), Some(&then))
}

/// Whether a job is suspended and either never started or has been brought to rest.
fn runs_nothing(job: &Node<'_, '_>) -> bool {
    let (spec, status) = (job.field("spec"), job.field("status"));
    let rests = status
        .field("conditions")
        .items()
        .any(|one| one.field("type").text() == "Suspended" && one.field("status").text() == "True");
    spec.field("suspend").is_true()
        && status.field("active").number() == 0
        && (status.field("startTime").is_unset() || rests)
}

/// Takes out of a template what may change then.
fn without_directives(template: &mut Value) {
    let remove = |value: Option<&mut Value>, keys: &[&str]| {
        if let Some(fields) = value.and_then(Value::as_object_mut) {
            fields.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    remove(template.get_mut("metadata"), &["labels", "annotations"]);
    remove(template.pointer_mut("/spec/affinity"), &["nodeAffinity"]);
    remove(template.get_mut("spec"), &["nodeSelector", "tolerations", "schedulingGates"]);
    for list in ["containers", "initContainers"] {
        let containers = template.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(|container| remove(Some(container), &["resources"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;
    use serde_json::json;

    #[test]
    fn a_job_without_a_selector_is_only_told_that_it_needs_one() {
        let spec = json!({"template": {"metadata": {"labels": {"a": "b"}}}});
        let job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec});
        check_rule(|job, errors| generated_selector(job, &job.field("spec").field("selector"), errors), &job, &[]);
        let mut generated = job;
        generated["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}});
        let mut errors = Errors::default();
        let root = Node::root(generated.as_object().expect("an object"));
        generated_selector(&root, &root.field("spec").field("selector"), &mut errors);
        assert_eq!(errors.0.len(), 4, "the labels of the template");
    }

    #[test]
    fn what_counts_by_index_needs_indexes() {
        check_rule(
            completion_mode,
            json!({"completionMode": "NonIndexed", "backoffLimitPerIndex": 1,
                    "successPolicy": {"rules": [{"succeededCount": 1}]}}),
            &[
                "successPolicy: Invalid value: {\"Rules\":[{\"SucceededIndexes\":null,\"SucceededCount\":1}]}: requires indexed completion mode",
                "backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            ],
        );
        check_rule(
            completion_mode,
            json!({"completionMode": "Indexed", "completions": 3, "maxFailedIndexes": 4}),
            &["maxFailedIndexes: Invalid value: 4: must be less than or equal to completions"],
        );
    }

    #[test]
    fn a_job_at_rest_can_be_told_where_to_run() {
        let template = |cpu: &str, image: &str| {
            json!({"metadata": {"labels": {"a": cpu}}, "spec": {"nodeSelector": {"zone": cpu}, "containers": [
                {"image": image, "resources": {"requests": {"cpu": cpu}}}]}})
        };
        let job = |status: Value| json!({"spec": {"suspend": true}, "status": status});
        let suspended = json!([{"type": "Suspended", "status": "True"}]);
        for (status, image, want) in [
            (json!({}), "i", false),
            (json!({}), "j", true),
            (json!({"active": 1}), "i", true),
            (json!({"startTime": "2020-01-01T00:00:00Z"}), "i", true),
            (json!({"startTime": "2020-01-01T00:00:00Z", "conditions": suspended}), "i", false),
        ] {
            let (new, old, job) = (json!({"t": template("2", image)}), json!({"t": template("1", "i")}), job(status));
            let (new, old) = (new.as_object().expect("an object"), old.as_object().expect("an object"));
            let (new, old) = (Node::root(new), Node::root(old));
            let job = Node::root(job.as_object().expect("an object"));
            assert_eq!(template_differs(&new.field("t"), &old.field("t"), &job), want, "{image}");
        }
    }
}
