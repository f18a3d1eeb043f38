//! Takes back the condition `DisruptionTarget` of pods that live on.

use std::time::Duration;

use client::{Event, Informer, ObjectKey, WorkQueue, clock, write};
use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::PostParams;

use super::after;
use crate::context::{Context, Controller, Outcome};

const CONDITION: &str = "DisruptionTarget";
/// Upstream's `stalePodDisruptionTimeout`.
const TIMEOUT: SignedDuration = SignedDuration::from_secs(2 * 60);

pub(super) struct StaleTargets {
    client: kube::Client,
    pods: Informer<Pod>,
}

impl StaleTargets {
    pub(super) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (queue, pods) = (WorkQueue::new(), context.informers.of::<Pod>());
        let changed = queue.clone();
        pods.on_event(move |event| {
            if let Event::Applied { new, .. } = event
                && let Some(wait) = stale_in(new, clock::now())
            {
                changed.add_after(event.key(), wait);
            }
        });
        (Self { client: context.client.clone(), pods }, queue)
    }
}

impl Controller for StaleTargets {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let (Some(pod), now) = (self.pods.get(&key), clock::now()) else { return Ok(None) };
        match stale_in(&pod, now) {
            None => Ok(None),
            Some(wait) if !wait.is_zero() => Ok(Some(after(wait))),
            Some(_) => {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
                let taken_back = without_target((*pod).clone(), now);
                write::ignore_not_found(api.replace_status(&key.name, &PostParams::default(), &taken_back).await)?;
                Ok(None)
            }
        }
    }
}

/// When the announcement that the pod goes is no longer true; `None` if there is none. What the kubelet announces may
/// take any time.
fn stale_in(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let condition = pods::condition(pod, CONDITION).filter(|condition| condition.status == "True")?;
    let is_kubelets = condition.reason.as_deref() == Some("TerminationByKubelet");
    if is_kubelets || pods::is_terminating(pod) || pods::is_terminal(pod) {
        return None;
    }
    let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some(pods::until(since.saturating_add(TIMEOUT).unwrap_or(Timestamp::MAX), now))
}

fn without_target(mut pod: Pod, now: Timestamp) -> Pod {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    for condition in conditions.iter_mut().filter(|condition| condition.type_ == CONDITION) {
        *condition = PodCondition {
            type_: CONDITION.to_owned(),
            status: "False".to_owned(),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        };
    }
    pod
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn check(status: &str, reason: &str, phase: &str, expected: Option<u64>) {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let condition: Value = json!({
            "type": CONDITION, "status": status, "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let pod = json!({ "metadata": {}, "status": { "phase": phase, "conditions": [condition] } });
        let pod: Pod = from_value(pod).unwrap();
        assert_eq!(stale_in(&pod, now).map(|wait| wait.as_secs()), expected);
        assert_eq!(stale_in(&without_target(pod, now), now), None);
    }

    #[test]
    fn an_eviction_that_does_not_come_is_taken_back_after_two_minutes() {
        check("True", "EvictionByEvictionAPI", "Running", Some(60));
        check("True", "TerminationByKubelet", "Running", None);
        check("True", "EvictionByEvictionAPI", "Failed", None);
        check("False", "", "Running", None);
    }
}
