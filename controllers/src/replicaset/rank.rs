//! Which pods go first when there are too many: upstream's `ActivePodsWithRanks`.

use std::cmp::Ordering;
use std::sync::Arc;

use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::meta;

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts so that the pods to delete first come first. `crowd(pod)` is how many related pods run on the pod's node.
pub(crate) fn sort_for_deletion(candidates: &mut [Arc<Pod>], now: Timestamp, crowd: impl Fn(&Pod) -> usize) {
    candidates.sort_by(|a, b| compare(a, b, now, &crowd));
}

fn compare(a: &Pod, b: &Pod, now: Timestamp, crowd: &impl Fn(&Pod) -> usize) -> Ordering {
    let is_assigned = |pod: &Pod| !pods::node(pod).is_empty();
    is_assigned(a)
        .cmp(&is_assigned(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| younger_first(pods::ready_since(a), pods::ready_since(b), a, b, now))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger_first(created(a), created(b), a, b, now))
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(COST)).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).max().unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Ages are compared by their order of magnitude, and by uid within one, so that not always the youngest has to go.
fn younger_first(a_since: Option<Timestamp>, b_since: Option<Timestamp>, a: &Pod, b: &Pod, now: Timestamp) -> Ordering {
    let (Some(a_since), Some(b_since)) = (a_since, b_since) else {
        return a_since.is_some().cmp(&b_since.is_some());
    };
    if a_since == b_since {
        return Ordering::Equal;
    }
    let magnitude = |since: Timestamp| now.duration_since(since).as_nanos().max(0).checked_ilog2();
    magnitude(a_since).cmp(&magnitude(b_since)).then_with(|| meta::uid(&a.metadata).cmp(meta::uid(&b.metadata)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn pod(name: &str, change: &Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": { "name": name, "uid": name, "creationTimestamp": "2026-01-01T10:00:00Z" },
            "spec": { "nodeName": "n", "containers": [] },
            "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:00:00Z" }] },
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        Arc::new(from_value(pod).unwrap())
    }

    fn check(first: &Value, second: &Value) {
        let mut pods = [pod("b", second), pod("a", first)];
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| meta::name(&pod.metadata).to_owned()).collect::<Vec<_>>();
        sort_for_deletion(&mut pods, now(), |pod| pod.spec.as_ref().unwrap().priority.unwrap_or(1) as usize);
        assert_eq!(names(&pods), ["a", "b"], "{first} goes before {second}");
    }

    #[test]
    fn pods_go_in_upstreams_order() {
        let none = json!({});
        check(&json!({ "/spec/nodeName": null }), &none);
        check(&json!({ "/status/phase": "Pending" }), &none);
        check(&json!({ "/status/phase": "Unknown" }), &none);
        check(&json!({ "/status/conditions": [] }), &none);
        check(&json!({ "/metadata/annotations": { COST: "-5" } }), &none);
        check(&none, &json!({ "/metadata/annotations": { COST: "7" } }));
        check(&json!({ "/spec/priority": 5 }), &none);
        let ready_at = |time: &str| json!({ "/status/conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": time }] });
        check(&ready_at("2026-01-01T11:59:50Z"), &none);
        check(
            &json!({ "/status/containerStatuses": [
            { "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3 }] }),
            &none,
        );
        check(&json!({ "/metadata/creationTimestamp": "2026-01-01T11:59:00Z" }), &none);
    }

    #[test]
    fn ages_of_one_magnitude_are_decided_by_uid() {
        check(
            &json!({ "/metadata/creationTimestamp": "2026-01-01T10:00:00Z" }),
            &json!({ "/metadata/creationTimestamp": "2026-01-01T10:00:01Z" }),
        );
    }
}
