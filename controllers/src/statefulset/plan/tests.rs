use k8s_openapi::serde_json::{Value, from_value, json};

use super::*;
use crate::history::REVISION;

fn set(spec: Value) -> StatefulSet {
    let mut full = json!({ "replicas": 3, "selector": {}, "template": {} });
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    from_value(json!({ "metadata": { "name": "web", "generation": 2 }, "spec": full })).unwrap()
}

fn pod(ordinal: i32, revision: &str, state: &str) -> Arc<Pod> {
    let (phase, ready) = match state {
        "ready" => ("Running", "True"),
        "Running" | "Pending" | "Failed" => (state, "False"),
        _ => ("Running", "True"),
    };
    let mut pod = json!({
        "metadata": { "name": format!("web-{ordinal}"), "uid": ordinal.to_string(), "labels": { REVISION: revision } },
        "status": { "phase": phase, "conditions": [
            { "type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z" }] },
    });
    if state == "going" {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(from_value(pod).unwrap())
}

fn seen<'a>(set: &'a StatefulSet, pods: &[(i32, &str, &str)]) -> Seen<'a> {
    let pods = pods.iter().map(|(ordinal, revision, state)| (*ordinal, pod(*ordinal, revision, state))).collect();
    Seen { set, pods, current: "old", update: "new", now: "2026-01-01T01:00:00Z".parse().unwrap() }
}

/// `+1` creates, `+1c` from the current revision, `-1` deletes.
fn check(spec: Value, pods: &[(i32, &str, &str)], expected: &[&str]) {
    let set = set(spec);
    let steps = plan(&seen(&set, pods)).into_iter().filter_map(|step| match step {
        Step::Create { ordinal, from_current } => Some(format!("+{ordinal}{}", if from_current { "c" } else { "" })),
        Step::Delete(pod) => Some(format!("-{}", &pod.metadata.name.as_ref().unwrap()[4..])),
        Step::Claim { .. } | Step::Correct(..) => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), expected, "{pods:?}");
}

fn parallel(more: Value) -> Value {
    let mut spec = json!({ "podManagementPolicy": "Parallel" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[test]
fn ordered_pods_come_one_after_another() {
    check(json!({}), &[], &["+0"]);
    check(json!({}), &[(0, "new", "Pending")], &[]);
    check(json!({}), &[(0, "new", "ready")], &["+1"]);
    check(json!({}), &[(0, "new", "ready"), (2, "new", "ready")], &["+1"]);
    check(json!({ "minReadySeconds": 7200 }), &[(0, "new", "ready")], &[]);
    check(json!({ "ordinals": { "start": 4 } }), &[], &["+4"]);
}

#[test]
fn parallel_pods_come_and_go_at_once() {
    check(parallel(json!({})), &[], &["+0", "+1", "+2"]);
    check(
        parallel(json!({})),
        &[(1, "new", "Pending"), (5, "new", "ready"), (4, "new", "Running")],
        &["+0", "+2", "-5", "-4"],
    );
}

#[test]
fn a_pod_that_ended_makes_room_for_another() {
    check(json!({}), &[(0, "new", "Failed"), (1, "new", "ready"), (2, "new", "ready")], &["-0"]);
}

#[test]
fn surplus_pods_go_from_the_top_and_only_when_all_others_are_well() {
    let all = |state: &'static str| {
        [(0, "new", "ready"), (1, "new", "ready"), (2, "new", state), (3, "new", "ready"), (4, "new", "ready")]
    };
    check(json!({}), &all("ready"), &["-4"]);
    check(json!({}), &all("Running"), &[]);
    let going =
        [(0, "new", "ready"), (1, "new", "ready"), (2, "new", "ready"), (3, "new", "ready"), (4, "new", "going")];
    check(json!({}), &going, &[]);
}

#[test]
fn a_rollout_goes_from_the_top_down_to_the_partition() {
    let old = [(0, "old", "ready"), (1, "old", "ready"), (2, "old", "ready")];
    let partition = |number: i32| json!({ "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": number } } });
    check(partition(0), &old, &["-2"]);
    check(partition(0), &[(0, "old", "ready"), (1, "old", "ready"), (2, "new", "ready")], &["-1"]);
    check(partition(2), &[(0, "old", "ready"), (1, "old", "ready"), (2, "new", "ready")], &[]);
    check(partition(2), &[(0, "old", "ready"), (2, "new", "ready")], &["+1c"]);
    check(partition(2), &[(0, "old", "ready"), (1, "old", "ready")], &["+2"]);
    check(json!({ "updateStrategy": { "type": "OnDelete" } }), &old, &[]);
}

#[test]
fn several_pods_may_be_missing_during_a_rollout() {
    let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "67%" } });
    let old = [(0, "old", "ready"), (1, "old", "ready"), (2, "old", "ready")];
    check(json!({ "updateStrategy": strategy }), &old, &["-2", "-1"]);
    // One that is broken costs nothing, and does not hold up the rollout.
    check(parallel(json!({})), &[(0, "old", "ready"), (1, "old", "Running"), (2, "new", "ready")], &["-1"]);
}

#[test]
fn the_status_counts_revisions_until_the_rollout_is_over() {
    let set = set(json!({}));
    let got = status(&seen(&set, &[(0, "old", "ready"), (1, "old", "ready"), (2, "new", "Running")]), None);
    assert_eq!((got.replicas, got.ready_replicas, got.available_replicas), (3, Some(2), Some(2)));
    assert_eq!((got.current_replicas, got.updated_replicas), (Some(2), Some(1)));
    assert_eq!((got.current_revision.as_deref(), got.update_revision.as_deref()), (Some("old"), Some("new")));
    let got = status(&seen(&set, &[(0, "new", "ready"), (1, "new", "ready"), (2, "new", "ready")]), None);
    assert_eq!((got.current_replicas, got.current_revision.as_deref()), (Some(3), Some("new")));
}
