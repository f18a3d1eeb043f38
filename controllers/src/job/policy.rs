//! What a Job's policies say of a failed pod, and of the indexes that succeeded (upstream: `matchPodFailurePolicy`,
//! `matchSuccessPolicy`).

use facts::pods;
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;
use crate::meta;

/// What follows from a pod's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It counts towards the back-off limit.
    Count,
    /// It does not count, and is replaced.
    Ignore,
    /// Its index fails at once.
    FailIndex,
    /// The Job fails at once, for this reason in words.
    FailJob(String),
}

/// The action of the first rule that matches; without one, the failure counts.
pub(super) fn on_failure(job: &Job, pod: &Pod) -> Action {
    let Some((at, rule, why)) = first_match(job, pod) else { return Action::Count };
    match rule.action.as_str() {
        "Ignore" => Action::Ignore,
        "FailIndex" => Action::FailIndex,
        "FailJob" => Action::FailJob(format!("{why} matching FailJob rule at index {at}")),
        _ => Action::Count,
    }
}

/// The action of the rule that decides on a pod's failure, if one does, as it is written.
pub(super) fn rule_of<'a>(job: &'a Job, pod: &Pod) -> Option<&'a str> {
    first_match(job, pod).map(|(_, rule, _)| rule.action.as_str())
}

/// The first rule that matches, with its place and why it does.
fn first_match<'a>(job: &'a Job, pod: &Pod) -> Option<(usize, &'a PodFailurePolicyRule, String)> {
    let policy = job.spec.as_ref()?.pod_failure_policy.as_ref().filter(|_| pods::phase(pod) == "Failed")?;
    policy.rules.iter().enumerate().find_map(|(at, rule)| Some((at, rule, matched(rule, pod)?)))
}

/// Why the rule applies to the pod, in words.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", meta::namespace(&pod.metadata), meta::name(&pod.metadata));
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = ends(pod).find(|(status, code)| exits(codes, status, *code))?;
        return Some(format!("Container {} for pod {name} failed with exit code {code}", container.name));
    }
    let wanted = rule.on_pod_conditions.iter().flatten();
    let mut met = wanted.filter(|wanted| {
        let status = wanted.status.as_deref().unwrap_or("True");
        pods::condition(pod, &wanted.type_).is_some_and(|condition| condition.status == status)
    });
    met.next().map(|condition| format!("Pod {name} has condition {}", condition.type_))
}

/// The containers that ended, with their exit codes.
fn ends(pod: &Pod) -> impl Iterator<Item = (&ContainerStatus, i32)> {
    let statuses = pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        status.container_statuses.iter().flatten().chain(init)
    });
    statuses.filter_map(|status| Some((status, status.state.as_ref()?.terminated.as_ref()?.exit_code)))
}

fn exits(rule: &PodFailurePolicyOnExitCodesRequirement, status: &ContainerStatus, code: i32) -> bool {
    let is_asked = rule.container_name.as_ref().is_none_or(|name| *name == status.name);
    let is_listed = rule.values.contains(&code);
    is_asked && code != 0 && is_listed == (rule.operator == "In")
}

/// Whether the indexes that succeeded are enough for the Job's success policy; the rule in words.
pub(super) fn success(job: &Job, completed: &Indexes, completions: i32) -> Option<String> {
    let policy = job.spec.as_ref()?.success_policy.as_ref()?;
    let mut rules = policy.rules.iter().enumerate();
    let (at, _) = rules.find(|(_, rule)| {
        let asked: Option<Indexes> = rule.succeeded_indexes.as_ref().map(|text| Indexes::parse(text, completions));
        let met = asked.as_ref().map_or(completed.len(), |asked| asked.common(completed));
        let needed = rule.succeeded_count.or(asked.map(|asked| asked.len())).unwrap_or(completions);
        met >= needed
    })?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn job(spec: Value) -> Job {
        from_value(json!({"metadata": {"name": "j"}, "spec": spec})).unwrap()
    }

    fn failed(code: i32) -> Pod {
        from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"phase": "Failed",
            "conditions": [{"type": "DisruptionTarget", "status": if code == 143 { "True" } else { "False" }}],
            "containerStatuses": [{"name": "c", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                "state": {"terminated": {"exitCode": code}}}]}}))
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_a_failure_decides() {
        let job = job(json!({"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"containerName": "c", "operator": "NotIn", "values": [1, 42]}},
        ]}}));
        assert_eq!(on_failure(&job, &failed(143)), Action::Ignore);
        assert_eq!(on_failure(&job, &failed(7)), Action::FailIndex);
        assert_eq!(on_failure(&job, &failed(1)), Action::Count);
        let Action::FailJob(why) = on_failure(&job, &failed(42)) else { panic!("the Job fails") };
        assert_eq!(why, "Container c for pod n/p failed with exit code 42 matching FailJob rule at index 1");
    }

    #[test]
    fn a_success_policy_is_met_by_indexes_their_number_or_both() {
        let check = |rule: Value, completed: &str| {
            let job = job(json!({"template": {}, "successPolicy": {"rules": [rule]}}));
            success(&job, &Indexes::parse(completed, 10), 10).is_some()
        };
        assert!(check(json!({"succeededCount": 2}), "4,7"));
        assert!(!check(json!({"succeededCount": 3}), "4,7"));
        assert!(check(json!({"succeededIndexes": "0,2"}), "0-2"));
        assert!(!check(json!({"succeededIndexes": "0,3"}), "0-2"));
        assert!(check(json!({"succeededIndexes": "0-5", "succeededCount": 1}), "3"));
        assert!(!check(json!({"succeededIndexes": "0-5", "succeededCount": 1}), "9"));
    }
}
