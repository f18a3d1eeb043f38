//! What components ask of a pod: how far it is, what it needs of its node (upstream: pkg/api/v1/pod).

pub mod demand;
pub mod ports;
mod qos;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};

pub use qos::QosClass;

/// The phase, `Pending` when unset.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// All containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Somebody has asked for the pod's deletion.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither ended nor being deleted: it counts as a replica.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

/// The condition of this type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The `Ready` condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_in(pod, min_ready_seconds, now).is_some_and(|left| left.is_zero())
}

/// How long until a ready pod is available; `None` if it is not ready (or says not since when).
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return is_ready(pod).then_some(Duration::ZERO);
    }
    let due = ready_since(pod)?.saturating_add(SignedDuration::from_secs(min_ready_seconds.into())).ok()?;
    Some(until(due, now))
}

/// The time from `now` to `due`, zero when past.
pub fn until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// Whether an init container keeps running beside the containers after it (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The name of the node it is bound to, empty when unbound.
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(ready: Value) -> Pod {
        serde_json::from_value(json!({"status": {"phase": "Running", "conditions": [ready]}})).unwrap()
    }

    fn check(ready: Value, min_ready_seconds: i32, available: bool) {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(is_available(&pod(ready.clone()), min_ready_seconds, now), available, "{ready} {min_ready_seconds}");
    }

    #[test]
    fn a_pod_is_available_when_it_has_been_ready_for_long_enough() {
        let ready = |since: &str| json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
        check(ready("2026-01-01T00:00:50Z"), 0, true);
        check(ready("2026-01-01T00:00:50Z"), 10, true);
        check(ready("2026-01-01T00:00:50Z"), 11, false);
        check(json!({"type": "Ready", "status": "False"}), 0, false);
    }

    #[test]
    fn a_pod_that_does_not_say_since_when_it_is_ready_is_not_available_yet() {
        let ready = || json!({"type": "Ready", "status": "True"});
        check(ready(), 0, true);
        check(ready(), 1, false);
    }

    #[test]
    fn pods_are_active_until_they_end_or_are_deleted() {
        let of = |phase: &str, deleted: Option<&str>| {
            let pod = json!({"metadata": {"deletionTimestamp": deleted}, "status": {"phase": phase}});
            is_active(&serde_json::from_value(pod).unwrap())
        };
        assert!(of("Running", None) && of("Unknown", None));
        assert!(!of("Succeeded", None) && !of("Failed", None) && !of("Running", Some("2026-01-01T00:00:00Z")));
        assert_eq!(phase(&Pod::default()), "Pending");
    }
}
