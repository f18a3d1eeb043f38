//! Rules for what a job makes of the ways in which its pods end.

use std::collections::HashSet;

use super::status::parse_indexes;
use crate::kinds::rules::labels;
use crate::kinds::rules::shown::Shape::{Any, List, Pointer, Text};
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{Errors, Node};

/// The most rules of a policy, and patterns of a rule.
const RULES: usize = 20;
const EXIT_CODES: usize = 255;

/// `podFailurePolicy`.
pub(crate) fn failure_policy(spec: &Node<'_, '_>, errors: &mut Errors) {
    let policy = spec.field("podFailurePolicy");
    if policy.is_unset() {
        return;
    }
    let template = spec.field("template");
    let pods = template.field("spec");
    let restart = pods.field("restartPolicy");
    if restart.text() == "OnFailure" {
        errors.invalid(&restart, "only \"Never\" is supported when podFailurePolicy is specified");
    }
    let lists = [pods.field("containers"), pods.field("initContainers")];
    let containers: HashSet<&str> =
        lists.iter().flat_map(|list| list.list()).filter_map(|one| one.get("name")?.as_str()).collect();
    let list = policy.field("rules");
    if list.list().len() > RULES {
        errors.too_many(&list, list.list().len(), RULES);
    }
    for rule in list.items() {
        action(&rule.field("action"), spec, errors);
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => {
                errors.invalid_hidden(&rule, "specifying both OnExitCodes and OnPodConditions is not supported");
            }
            (false, false) => {
                errors.invalid_hidden(&rule, "specifying one of OnExitCodes and OnPodConditions is required");
            }
            _ => {}
        }
        if codes.is_set() {
            exit_codes(&codes, &containers, errors);
        }
        pod_conditions(&conditions, errors);
    }
}

fn action(at: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    match at.text() {
        "" => errors.required(at, "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
        "FailIndex" if spec.field("backoffLimitPerIndex").is_unset() => {
            errors.invalid(at, "requires the backoffLimitPerIndex to be set");
        }
        _ => errors.one_of(at, &["Count", "FailIndex", "FailJob", "Ignore"]),
    }
}

fn pod_conditions(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.list().len() > RULES {
        errors.too_many(at, at.list().len(), RULES);
    }
    for pattern in at.items() {
        labels::label_name(&pattern.field("type"), errors);
        let status = pattern.field("status");
        if status.text().is_empty() {
            errors.required(&status, "valid values: [\"False\" \"True\" \"Unknown\"]");
        } else {
            errors.one_of(&status, &["False", "True", "Unknown"]);
        }
    }
}

fn exit_codes(at: &Node<'_, '_>, containers: &HashSet<&str>, errors: &mut Errors) {
    let (operator, values, name) = (at.field("operator"), at.field("values"), at.field("containerName"));
    if operator.text().is_empty() {
        errors.required(&operator, "valid values: [\"In\" \"NotIn\"]");
    } else {
        errors.one_of(&operator, &["In", "NotIn"]);
    }
    if name.is_set() && !containers.contains(name.text()) {
        errors.invalid(&name, "must be one of the container or initContainer names in the pod template");
    }
    let codes: Vec<i64> = values.items().map(|value| value.number()).collect();
    if codes.is_empty() {
        errors.invalid(&values, "at least one value is required");
    } else if codes.len() > EXIT_CODES {
        errors.too_many(&values, codes.len(), EXIT_CODES);
    }
    let mut seen = HashSet::new();
    for value in values.items() {
        if operator.text() == "In" && value.number() == 0 {
            errors.invalid(&value, "must not be 0 for the In operator");
        }
        if !seen.insert(value.number()) {
            errors.duplicate(&value);
        }
    }
    if !codes.is_sorted() {
        errors.invalid(&values, "must be ordered");
    }
}

/// `successPolicy`: when a job is done before all of it is.
pub(crate) fn success_policy(policy: &Node<'_, '_>, completions: i64, errors: &mut Errors) {
    let list = policy.field("rules");
    if list.is_empty() {
        errors.required(&list, "at least one rules must be specified when the successPolicy is specified");
    }
    if list.list().len() > RULES {
        errors.too_many(&list, list.list().len(), RULES);
    }
    for rule in list.items() {
        success_rule(&rule, completions, errors);
    }
}

fn success_rule(rule: &Node<'_, '_>, completions: i64, errors: &mut Errors) {
    /// The most bytes of a list of indexes.
    const LONGEST: usize = 64 * 1024;
    let (indexes, count) = (rule.field("succeededIndexes"), rule.field("succeededCount"));
    if indexes.is_unset() && count.is_unset() {
        errors.required(rule, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut named = None;
    if indexes.is_set() {
        if indexes.text().len() > LONGEST {
            errors.too_long(&indexes, LONGEST);
        }
        match parse_indexes(indexes.text(), completions) {
            Ok(ranges) => named = Some(ranges.iter().map(|(first, last)| last - first + 1).sum::<i64>()),
            Err(why) => errors.invalid(&indexes, &format!("error parsing succeededIndexes: {why}")),
        }
    }
    errors.non_negative(&count);
    for (most, what) in [
        (Some(completions), "the number of specified completions"),
        (named, "the number of indexes in the specified succeededIndexes field"),
    ] {
        if let Some(most) = most.filter(|most| count.number() > *most) {
            errors.invalid(&count, &format!("must be less than or equal to {most} ({what})"));
        }
    }
}

/// What a job makes of pods that fail; `null` for nothing.
pub(crate) fn shown_failure_policy(at: &Node<'_, '_>) -> Shown {
    const EXIT_CODES: Table =
        &[("ContainerName", "containerName", Any), ("Operator", "operator", Text), ("Values", "values", Any)];
    const RULE: Table = &[
        ("Action", "action", Text),
        ("OnExitCodes", "onExitCodes", Pointer(EXIT_CODES)),
        ("OnPodConditions", "onPodConditions", List(&[("Type", "type", Text), ("Status", "status", Text)])),
    ];
    Shown::or_null(at.value(), &[("Rules", "rules", List(RULE))])
}

/// When a job is done; `null` for when all of it is.
pub(crate) fn shown_success_policy(at: &Node<'_, '_>) -> Shown {
    const RULE: Table = &[("SucceededIndexes", "succeededIndexes", Any), ("SucceededCount", "succeededCount", Any)];
    Shown::or_null(at.value(), &[("Rules", "rules", List(RULE))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: &Value, want: &[&str]) {
        let spec = Node::root(spec.as_object().expect("an object"));
        let mut errors = Errors::default();
        failure_policy(&spec, &mut errors);
        success_policy(&spec.field("successPolicy"), 3, &mut errors);
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn rules_of_policies_are_told_what_is_wrong() {
        let spec = json!({
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
            "podFailurePolicy": {"rules": [
                {"action": "FailIndex", "onExitCodes": {"containerName": "d", "operator": "In", "values": [2, 0, 2]}},
                {"action": "Count", "onPodConditions": [{"type": "Ready", "status": "Maybe"}]},
                {"action": "Ignore"},
            ]},
            "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 3}, {}]},
        });
        let want = [
            "podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
            "podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"d\": must be one of the container or initContainer names in the pod template",
            "podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
            "podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
            "podFailurePolicy.rules[1].onPodConditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "podFailurePolicy.rules[2]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            "successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
            "successPolicy.rules[1]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ];
        check(&spec, &want);
    }
}
