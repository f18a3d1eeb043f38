//! Decides how many pods of a budget may be evicted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::after;
use super::expected::Expected;

/// Upstream's `DeletionTimeout`: an evicted pod that is not deleted by then will not be.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(2 * 60);
const CONDITION: &str = "DisruptionAllowed";

/// The status of a budget, and the pods that were evicted but not deleted in time.
pub(super) fn status<'a>(
    budget: &PodDisruptionBudget,
    pods: &'a [Arc<Pod>],
    expected: &Expected,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Vec<&'a Arc<Pod>>) {
    let old = budget.status.clone().unwrap_or_default();
    let noted = old.disrupted_pods.unwrap_or_default();
    let (mut disrupted, mut late) = (BTreeMap::new(), Vec::new());
    for pod in pods.iter().filter(|pod| !pods::is_terminating(pod)) {
        let Some((name, since)) = pod.metadata.name.as_ref().and_then(|name| noted.get_key_value(name)) else {
            continue;
        };
        if deadline(since) < now {
            late.push(pod);
        } else {
            disrupted.insert(name.clone(), since.clone());
        }
    }
    let is_disrupted = |pod: &Pod| pod.metadata.name.as_ref().is_some_and(|name| disrupted.contains_key(name));
    let healthy = pods.iter().filter(|pod| !pods::is_terminating(pod) && !is_disrupted(pod) && pods::is_ready(pod));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    // A budget without pods allows nothing, so that the first pods are safe before they have been counted.
    let allowed = if expected.pods > 0 { healthy.saturating_sub(expected.healthy).max(0) } else { 0 };
    let (state, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let observed = budget.metadata.generation;
    let status = PodDisruptionBudgetStatus {
        conditions: Some(conditions(old.conditions, state, reason, "", observed, now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected.pods),
        observed_generation: observed,
    };
    (status, late)
}

/// The status when nothing is known: no evictions.
pub(super) fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let observed = old.observed_generation;
    PodDisruptionBudgetStatus {
        conditions: Some(conditions(old.conditions.clone(), "False", "SyncFailed", why, observed, now)),
        disruptions_allowed: Some(0),
        // The API server expects the numbers.
        current_healthy: Some(old.current_healthy.unwrap_or(0)),
        desired_healthy: Some(old.desired_healthy.unwrap_or(0)),
        expected_pods: Some(old.expected_pods.unwrap_or(0)),
        ..old
    }
}

/// When the next evicted pod should be gone.
pub(super) fn next_deadline(status: &PodDisruptionBudgetStatus, now: Timestamp) -> Option<Duration> {
    let times = status.disrupted_pods.iter().flat_map(BTreeMap::values);
    times.map(|since| after(pods::until(deadline(since), now))).min()
}

fn deadline(since: &Time) -> Timestamp {
    since.0.saturating_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX)
}

fn conditions(
    old: Option<Vec<Condition>>,
    state: &str,
    reason: &str,
    message: &str,
    observed: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut all = old.unwrap_or_default();
    let known = all.iter().position(|condition| condition.type_ == CONDITION);
    let since = known.map(|at| &all[at]).filter(|known| known.status == state);
    let condition = Condition {
        type_: CONDITION.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: observed,
        last_transition_time: since.map_or(Time(now), |known| known.last_transition_time.clone()),
    };
    match known {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
    all
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:05:00Z".parse().unwrap()
    }

    fn pod(name: &str, ready: &str) -> Arc<Pod> {
        let ready = json!({ "type": "Ready", "status": ready });
        Arc::new(from_value(json!({ "metadata": { "name": name }, "status": { "conditions": [ready] } })).unwrap())
    }

    fn budget(status: Value) -> PodDisruptionBudget {
        from_value(json!({ "metadata": { "name": "b", "generation": 2 }, "status": status })).unwrap()
    }

    fn check(noted: Value, expected: Expected, healthy: i32, allowed: i32, reason: &str) -> usize {
        let pods = [pod("a", "True"), pod("b", "True"), pod("c", "True"), pod("d", "False")];
        let (status, late) = status(&budget(json!({ "disruptedPods": noted })), &pods, &expected, now());
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(healthy), Some(allowed)));
        assert_eq!((status.observed_generation, status.expected_pods), (Some(2), Some(expected.pods)));
        assert_eq!(status.conditions.unwrap()[0].reason, reason);
        late.len()
    }

    fn expected(pods: i32, healthy: i32) -> Expected {
        Expected { pods, healthy, has_unmanaged: false }
    }

    #[test]
    fn what_is_healthy_beyond_need_may_go() {
        check(json!({}), expected(4, 2), 3, 1, "SufficientPods");
        check(json!({}), expected(4, 3), 3, 0, "InsufficientPods");
        check(json!({}), expected(0, 0), 3, 0, "InsufficientPods");
    }

    #[test]
    fn an_evicted_pod_is_not_healthy_until_its_time_is_over() {
        let late = check(json!({ "a": "2026-01-01T00:04:00Z" }), expected(4, 2), 2, 0, "InsufficientPods");
        assert_eq!(late, 0);
        let late = check(json!({ "a": "2026-01-01T00:02:00Z" }), expected(4, 2), 3, 1, "SufficientPods");
        assert_eq!(late, 1);
        let waiting = budget(json!({ "disruptedPods": { "a": "2026-01-01T00:04:00Z" } })).status.unwrap();
        assert_eq!(next_deadline(&waiting, now()).unwrap().as_secs(), 60);
    }

    #[test]
    fn a_failure_forbids_evictions_and_a_condition_keeps_its_time() {
        let (before, _) = status(&budget(json!({})), &[pod("a", "True")], &expected(1, 0), now());
        let mut failing = budget(json!({}));
        failing.status = Some(before);
        let failed = failed(&failing, "no scale", now());
        assert_eq!(failed.disruptions_allowed, Some(0));
        let condition = &failed.conditions.unwrap()[0];
        assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("SyncFailed", "no scale"));
        let later = now().saturating_add(SignedDuration::from_secs(60)).unwrap();
        let (again, _) = status(&failing, &[pod("a", "True")], &expected(1, 0), later);
        assert_eq!(Some(again), failing.status);
    }
}
