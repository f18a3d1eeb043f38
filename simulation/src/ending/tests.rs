//! What is missing or left over is found.

use serde_json::{Value, json};

use super::complaints;
use crate::objects::Objects;

fn cluster() -> Objects {
    let metadata = |name: &str| json!({ "name": name, "namespace": "a", "uid": name, "generation": 1 });
    let owned = |name: &str, owner: &str| {
        let mut metadata = metadata(name);
        metadata["ownerReferences"] = json!([{ "uid": owner, "controller": true, "kind": "X", "name": owner }]);
        metadata["labels"] = json!({ "app": "d", "kubernetes.io/service-name": "d" });
        metadata
    };
    let counts = json!({ "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1 });
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    let objects = [
        ("namespaces/a", json!({ "metadata": { "name": "a", "uid": "a" } })),
        ("minions/n", json!({ "metadata": { "name": "n", "uid": "n" }, "status": { "conditions": ready } })),
        ("deployments/a/d", json!({ "metadata": metadata("d"), "spec": { "replicas": 1 }, "status": counts })),
        ("replicasets/a/r", json!({ "metadata": owned("r", "d"), "spec": { "replicas": 1 }, "status": counts })),
        (
            "pods/a/p",
            json!({
                "metadata": owned("p", "r"), "spec": { "nodeName": "n", "restartPolicy": "Always" },
                "status": { "phase": "Running", "conditions": ready, "podIP": "10.0.0.1" },
            }),
        ),
        ("services/specs/a/d", json!({ "metadata": metadata("d-service"), "spec": { "selector": { "app": "d" } } })),
        (
            "services/endpoints/a/d-service",
            json!({ "metadata": metadata("e"), "subsets": [{ "addresses": [{ "ip": "10.0.0.1" }] }] }),
        ),
        (
            "endpointslices/a/x",
            json!({
                "metadata": { "name": "x", "namespace": "a", "uid": "x", "labels": { "kubernetes.io/service-name": "d-service" } },
                "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": true } }],
            }),
        ),
        (
            "poddisruptionbudgets/a/b",
            json!({
                "metadata": metadata("b"), "spec": { "selector": { "matchLabels": { "app": "d" } } },
                "status": { "currentHealthy": 1 },
            }),
        ),
    ];
    objects.into_iter().map(|(key, object)| (key.to_owned(), object)).collect()
}

fn check(change: impl FnOnce(&mut Objects), complaint: &str) {
    let mut objects = cluster();
    change(&mut objects);
    let complaints = complaints(&objects);
    assert!(complaints.iter().any(|one| one.contains(complaint)), "{complaint:?} is not in {complaints:?}");
}

fn set(key: &'static str, path: &'static str, value: Value) -> impl FnOnce(&mut Objects) {
    move |objects| *objects.get_mut(key).unwrap().pointer_mut(path).unwrap() = value
}

#[test]
fn a_cluster_that_is_well_gives_no_cause_for_complaint() {
    assert_eq!(complaints(&cluster()), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_found() {
    check(|objects| drop(objects.remove("namespaces/a")), "is in no namespace");
    check(|objects| drop(objects.remove("deployments/a/d")), "which is gone");
    check(|objects| drop(objects.remove("pods/a/p")), "has 0 pods, not 1");
    check(set("pods/a/p", "/spec/nodeName", json!("")), "has no place");
    check(set("pods/a/p", "/status/phase", json!("Pending")), "is Pending");
    check(set("deployments/a/d", "/status/updatedReplicas", json!(0)), "updatedReplicas 0, not 1");
    check(set("deployments/a/d", "/status/observedGeneration", json!(0)), "observedGeneration");
    check(set("endpointslices/a/x", "/endpoints/0/conditions/ready", json!(false)), "has slices to {}");
    check(set("services/endpoints/a/d-service", "/subsets", json!([])), "has endpoints {}");
    check(set("poddisruptionbudgets/a/b", "/status/currentHealthy", json!(0)), "counts 0 healthy");
    check(set("minions/n", "/status/conditions/0/status", json!("False")), "not ready for work");
    let going = json!({ "name": "d", "uid": "d", "deletionTimestamp": "2026-01-01T00:00:00Z" });
    check(set("deployments/a/d", "/metadata", going), "is still going");
}

#[test]
fn jobs_have_ended_and_hold_nothing() {
    let job = |status: Value| {
        let metadata = json!({ "name": "j", "namespace": "a", "uid": "j" });
        json!({ "metadata": metadata, "spec": { "completions": 2 }, "status": status })
    };
    let add = |job: Value| move |objects: &mut Objects| drop(objects.insert("jobs/a/j".to_owned(), job));
    check(add(job(json!({}))), "has not ended");
    let complete = json!({ "conditions": [{ "type": "Complete", "status": "True" }], "succeeded": 1 });
    check(add(job(complete)), "is complete with 1 of 2");
}
