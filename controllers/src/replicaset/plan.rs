//! Decides what brings a ReplicaSet to its number of pods, and what its status says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rank;

/// Upstream's `BurstReplicas`: no sync creates or deletes more pods than this.
const BURST: usize = 500;

/// What to do about the number of pods.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// Compares the active pods with the wanted number. `related` are all active pods of the sibling ReplicaSets (same
/// owner), which decide who is crowded on a node.
pub(super) fn plan(replicas: i32, active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Step {
    let wanted = usize::try_from(replicas).unwrap_or(0);
    if active.len() < wanted {
        return Step::Create((wanted - active.len()).min(BURST));
    }
    if active.len() == wanted {
        return Step::Nothing;
    }
    let mut crowds: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *crowds.entry(pods::node(pod)).or_default() += 1;
    }
    let mut candidates = active.to_vec();
    rank::sort_for_deletion(&mut candidates, now, |pod| crowds.get(pods::node(pod)).copied().unwrap_or(0));
    candidates.truncate((active.len() - wanted).min(BURST));
    Step::Delete(candidates)
}

/// A failed attempt to create or delete pods, for the `ReplicaFailure` condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The status that the pods (`active`, and those `terminating`) give `set`.
pub(super) fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let template_labels = spec.template.and_then(|template| template.metadata?.labels).unwrap_or_default();
    let is_labelled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let some = |number: i32| (number != 0).then_some(number);
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(active, |_| true),
        fully_labeled_replicas: some(count(active, is_labelled)),
        ready_replicas: some(count(active, pods::is_ready)),
        available_replicas: some(count(active, |pod| pods::is_available(pod, min_ready, now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, trouble, now),
    }
}

/// The time until the next ready pod becomes available.
pub(super) fn next_available(min_ready_seconds: i32, active: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let waits = active.iter().filter_map(|pod| pods::available_in(pod, min_ready_seconds, now));
    waits.filter(|left| !left.is_zero()).min()
}

fn count(pods: &[Arc<Pod>], is_counted: impl Fn(&Pod) -> bool) -> i32 {
    i32::try_from(pods.iter().filter(|pod| is_counted(pod)).count()).unwrap_or(i32::MAX)
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut all = old.unwrap_or_default();
    let known = all.iter().position(|condition| condition.type_ == "ReplicaFailure");
    match (trouble, known) {
        (None, Some(at)) => drop(all.remove(at)),
        (Some(trouble), None) => all.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(trouble.reason.to_owned()),
            message: Some(trouble.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        _ => {}
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn pod(name: &str, is_ready: bool) -> Arc<Pod> {
        let ready = if is_ready { "True" } else { "False" };
        let pod = json!({
            "metadata": { "name": name, "uid": name, "labels": { "app": "web" } },
            "spec": { "nodeName": "n", "containers": [] },
            "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T11:59:50Z" }] },
        });
        Arc::new(from_value(pod).unwrap())
    }

    fn names(step: &Step) -> Vec<String> {
        let Step::Delete(pods) = step else { panic!("{step:?} deletes nothing") };
        pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
    }

    #[test]
    fn missing_pods_are_created_and_surplus_deleted() {
        let pods = [pod("a", true), pod("b", false), pod("c", true)];
        assert_eq!(plan(3, &pods, &pods, now()), Step::Nothing);
        assert_eq!(plan(5, &pods, &pods, now()), Step::Create(2));
        assert_eq!(plan(100_000, &pods, &pods, now()), Step::Create(500));
        assert_eq!(names(&plan(2, &pods, &pods, now())), ["b"]);
        assert_eq!(names(&plan(0, &pods, &pods, now())).len(), 3);
    }

    fn set(min_ready: i32) -> ReplicaSet {
        from_value(json!({
            "metadata": { "name": "web", "generation": 4 },
            "spec": { "selector": {}, "minReadySeconds": min_ready, "template": { "metadata": { "labels": { "app": "web" } } } },
        }))
        .unwrap()
    }

    #[test]
    fn status_counts_ready_and_available_pods() {
        let pods = [pod("a", true), pod("b", false)];
        let got = status(&set(0), &pods, 1, None, now());
        assert_eq!((got.replicas, got.ready_replicas, got.available_replicas), (2, Some(1), Some(1)));
        assert_eq!(
            (got.fully_labeled_replicas, got.terminating_replicas, got.observed_generation),
            (Some(2), Some(1), Some(4))
        );
        assert_eq!(status(&set(30), &pods, 0, None, now()).available_replicas, None);
        assert_eq!(next_available(30, &pods, now()), Some(Duration::from_secs(20)));
        assert_eq!(next_available(0, &pods, now()), None);
    }

    #[test]
    fn a_failure_is_a_condition_until_it_is_over() {
        let trouble = Trouble { reason: "FailedCreate", message: "quota".into() };
        let mut failing = set(0);
        failing.status = Some(status(&failing, &[], 0, Some(&trouble), now()));
        let condition = &failing.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
        assert_eq!((condition.reason.as_deref(), condition.message.as_deref()), (Some("FailedCreate"), Some("quota")));
        assert_eq!(status(&failing, &[], 0, None, now()).conditions, None);
    }
}
