//! Rules for the status of a Job: how it may go on, and what must come with its end.

use std::collections::HashSet;

use serde_json::Value;

use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};

/// The status of a `Job`. What was wrong before may stay as it was.
pub(crate) fn job(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.non_negative(&status.field(key));
    }
    uncounted(&status.field("uncountedTerminatedPods"), errors);
    let change = Change { spec: new.field("spec"), new: status, old: old.field("status") };
    change.conditions(errors);
    change.times(errors);
    change.counts(errors);
    change.indexes(errors);
}

/// Pods that have ended, each once.
fn uncounted(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for pod in at.field(list).items() {
            if pod.text().is_empty() {
                errors.invalid(&pod, "must not be empty");
            } else if !seen.insert(pod.text()) {
                errors.duplicate(&pod);
            }
        }
    }
}

struct Change<'p, 'v> {
    spec: Node<'p, 'v>,
    new: Node<'p, 'v>,
    old: Node<'p, 'v>,
}

fn is_true(status: &Node<'_, '_>, kind: &str) -> bool {
    is(status, kind, "True")
}

fn is(status: &Node<'_, '_>, kind: &str, wanted: &str) -> bool {
    let conditions = status.field("conditions");
    conditions.items().any(|one| one.field("type").text() == kind && one.field("status").text() == wanted)
}

impl Change<'_, '_> {
    /// Whether a condition came or went.
    fn turned(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| is_true(&self.new, kind) != is_true(&self.old, kind))
    }

    fn changed(&self, fields: &[&str]) -> bool {
        fields.iter().any(|field| self.new.field(field).value() != self.old.field(field).value())
    }

    /// The time at which a Job started is reset when it goes on.
    fn resumes(&self) -> bool {
        is_true(&self.old, "Suspended") && is(&self.new, "Suspended", "False")
    }

    fn is_finished(&self) -> bool {
        is_true(&self.new, "Complete") || is_true(&self.new, "Failed")
    }

    fn conditions(&self, errors: &mut Errors) {
        let at = self.new.field("conditions");
        let is = |kind| is_true(&self.new, kind);
        for (one, other) in [
            ("Complete", "Failed"),
            ("Complete", "FailureTarget"),
            ("Failed", "SuccessCriteriaMet"),
            ("FailureTarget", "SuccessCriteriaMet"),
        ] {
            if is(one) && is(other) && self.turned(&[one, other]) {
                errors.invalid_hidden(&at, &format!("cannot set {one}=True and {other}=true conditions"));
            }
        }
        for (end, before) in [("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")] {
            if is(end) && !is(before) && self.turned(&[end, before]) {
                let why = format!("cannot set {end}=True condition without the {before}=true condition");
                errors.invalid_hidden(&at, &why);
            }
        }
        for kind in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
            if is_true(&self.old, kind) && !is(kind) {
                errors.invalid_hidden(&at, &format!("cannot disable the terminal {kind}=True condition"));
            }
        }
    }

    fn times(&self, errors: &mut Errors) {
        let (start, end) = (self.new.field("startTime"), self.new.field("completionTime"));
        let complete = is_true(&self.new, "Complete");
        if self.turned(&["Complete"]) || self.changed(&["completionTime"]) {
            if end.is_set() && !complete {
                errors.invalid(&end, "cannot set completionTime when there is no Complete=True condition");
            }
            if end.is_unset() && complete {
                errors.required(&end, "completionTime is required for Complete jobs");
            }
        }
        let time = |at: &Node<'_, '_>| at.text().parse::<jiff::Timestamp>().ok();
        if let (Some(start), Some(at), true) =
            (time(&start), time(&end), self.changed(&["startTime", "completionTime"]))
            && at < start
        {
            errors.invalid(&end, "completionTime cannot be set before startTime");
        }
        if self.is_finished()
            && start.is_unset()
            && (self.turned(&["Complete", "Failed"]) || self.changed(&["startTime"]))
        {
            errors.required(&start, "startTime is required for finished job");
        }
        if end.is_set() && self.old.field("completionTime").is_set() && self.changed(&["completionTime"]) {
            errors.invalid(&end, IMMUTABLE);
        }
        let may_restart = self.spec.field("suspend").is_true() || self.resumes();
        if self.old.field("startTime").is_set() && self.changed(&["startTime"]) && !may_restart {
            errors.required(&start, "startTime cannot be removed for unsuspended job");
        }
    }

    fn counts(&self, errors: &mut Errors) {
        let count = |key| self.new.field(key).number();
        let ended = self.is_finished();
        for key in ["active", "terminating"] {
            if ended && count(key) > 0 && (self.turned(&["Complete", "Failed"]) || self.changed(&[key])) {
                errors.invalid(&self.new.field(key), &format!("{key}>0 is invalid for finished job"));
            }
        }
        let uncounted = self.new.field("uncountedTerminatedPods");
        let some = ["succeeded", "failed"].iter().any(|list| !uncounted.field(list).is_empty());
        if ended && some && (self.turned(&["Complete", "Failed"]) || self.changed(&["uncountedTerminatedPods"])) {
            errors.invalid(&uncounted, "uncountedTerminatedPods needs to be empty for finished job");
        }
        if count("ready") > count("active") && self.changed(&["ready", "active"]) {
            errors.invalid(&self.new.field("ready"), "cannot set more ready pods than active");
        }
        let elastic =
            self.is_indexed() && self.spec.field("completions").value() == self.spec.field("parallelism").value();
        for (key, may_fall) in [("failed", false), ("succeeded", elastic)] {
            if !may_fall && count(key) < self.old.field(key).number() {
                errors.invalid_value(&self.new.field(key), count(key), &format!("cannot decrease the {key} counter"));
            }
        }
    }

    fn is_indexed(&self) -> bool {
        self.spec.field("completionMode").text() == "Indexed"
    }

    fn indexes(&self, errors: &mut Errors) {
        let (done, failed) = (self.new.field("completedIndexes"), self.new.field("failedIndexes"));
        let completions = self.spec.field("completions").integer();
        let limited = self.spec.field("backoffLimitPerIndex").is_set();
        for (at, key, counts) in [(&done, "completedIndexes", true), (&failed, "failedIndexes", limited)] {
            if let (Some(completions), true, true) = (completions, self.changed(&[key]), counts && at.is_set())
                && let Err(why) = parse_indexes(at.text(), completions)
            {
                errors.invalid(at, &format!("error parsing {key}: {why}"));
            }
        }
        if !done.text().is_empty() && !self.is_indexed() && self.changed(&["completedIndexes"]) {
            errors.invalid(&done, "cannot set non-empty completedIndexes when non-indexed completion mode");
        }
        if failed.is_set() && !limited && self.changed(&["failedIndexes"]) {
            errors.invalid(&failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
        }
        let completions = completions.unwrap_or(0);
        if let (Ok(both), Ok(other)) =
            (parse_indexes(done.text(), completions), parse_indexes(failed.text(), completions))
            && limited
            && self.changed(&["completedIndexes", "failedIndexes"])
            && let Some(index) = both.iter().find_map(|one| other.iter().find_map(|two| overlap(*one, *two)))
        {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.invalid_value(&failed, Value::from(failed.text()), &why);
        }
    }
}

/// The first index that two ranges share.
fn overlap(one: (i64, i64), other: (i64, i64)) -> Option<i64> {
    let (start, end) = (one.0.max(other.0), one.1.min(other.1));
    (start <= end).then_some(start)
}

/// `1,3-5` as ranges in order, each below `completions`.
pub(crate) fn parse_indexes(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(ranges);
    }
    let index = |text: &str| {
        let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(|| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(number)
    };
    for part in text.split(',') {
        let mut ends = part.split('-');
        let start = index(ends.next().unwrap_or(""))?;
        let end = ends.next().map(index).transpose()?;
        if ends.next().is_some() {
            return Err(format!(
                "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        if end.is_some_and(|end| start >= end) {
            let end = end.unwrap_or_default();
            return Err(format!("non-increasing order, previous: {start}, current: {end}"));
        }
        if let Some((_, last)) = ranges.last().filter(|(_, last)| *last >= start) {
            return Err(format!("non-increasing order, previous: {last}, current: {start}"));
        }
        ranges.push((start, end.unwrap_or(start)));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: &Value, new: &Value, old: &Value, want: &[&str]) {
        let (new, old) = (json!({"spec": spec, "status": new}), json!({"spec": spec, "status": old}));
        let mut errors = Errors::default();
        super::job(
            &Node::root(new.as_object().expect("an object")),
            &Node::root(old.as_object().expect("an object")),
            &mut errors,
        );
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_job_ends_in_steps() {
        let done = json!({"conditions": [{"type": "Complete", "status": "True"}], "active": 1});
        let want = [
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.startTime: Required value: startTime is required for finished job",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ];
        check(&json!({}), &done, &json!({"active": 1}), &want);
        check(&json!({}), &done, &done, &[]);
        let fine = json!({
            "startTime": "2020-01-01T00:00:00Z", "completionTime": "2020-01-01T00:00:01Z", "succeeded": 1,
            "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}],
        });
        check(&json!({}), &fine, &json!({}), &[]);
        check(
            &json!({}),
            &json!({"startTime": "2020-01-01T00:00:00Z"}),
            &fine,
            &[
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.conditions: Invalid value: cannot disable the terminal SuccessCriteriaMet=True condition",
                "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            ],
        );
    }

    #[test]
    fn a_job_starts_anew_only_when_it_was_suspended() {
        let status = |start: &str, suspended: &str| json!({"startTime": start, "conditions": [{"type": "Suspended", "status": suspended}]});
        let (first, second) = ("2020-01-01T00:00:00Z", "2020-01-01T00:01:00Z");
        check(&json!({}), &status(second, "False"), &status(first, "True"), &[]);
        check(&json!({"suspend": true}), &json!({}), &status(first, "True"), &[]);
        let refused = ["status.startTime: Required value: startTime cannot be removed for unsuspended job"];
        check(&json!({}), &status(second, "False"), &status(first, "False"), &refused);
        check(&json!({}), &status(second, "True"), &status(first, "True"), &refused);
    }

    #[test]
    fn indexes_are_ranges_in_order() {
        assert_eq!(parse_indexes("1,3-5", 6), Ok(vec![(1, 1), (3, 5)]));
        for wrong in ["a", "1-", "3,1", "5-3", "6", "1-2-3", "-1"] {
            assert!(parse_indexes(wrong, 6).is_err(), "{wrong}");
        }
        let spec = json!({"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1});
        check(
            &spec,
            &json!({"completedIndexes": "0-2", "failedIndexes": "2"}),
            &json!({}),
            &["status.failedIndexes: Invalid value: \"2\": failedIndexes and completedIndexes overlap at index: 2"],
        );
    }
}
