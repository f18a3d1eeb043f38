//! What `[sig-scheduling]` asks of the API server alone.

use serde_json::{Value, json};

use super::{start, start_without_fairness};
use crate::client::{Client, JSON_PATCH, STRATEGIC, expect};

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Conformance: [sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods [Conformance]
#[tokio::test]
async fn the_value_of_a_priority_class_stays_and_its_description_may_change() {
    let (_server, client) = start().await;
    for (name, value) in [("p1", 1), ("p2", 2)] {
        let class = json!({"metadata": {"name": name, "labels": {"e2e": "yes"}}, "value": value});
        expect(client.post(CLASSES, &class).await, 201);
    }
    for (name, value) in [("p1", 1), ("p2", 2)] {
        let path = format!("{CLASSES}/{name}");
        let mut class = expect(client.get(&path).await, 200);
        assert_eq!(
            (&class["value"], &class["preemptionPolicy"]),
            (&json!(value), &json!("PreemptLowerPriority")),
            "{class}"
        );
        let replace = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
        let refused = expect(client.patch(&path, JSON_PATCH, &replace("/value", json!(value * 10))).await, 422);
        assert!(refused["message"].as_str().unwrap().contains("may not be changed in an update"), "{refused}");
        let add = json!([{"op": "add", "path": "/description", "value": "patched"}]);
        expect(client.patch(&path, JSON_PATCH, &add).await, 200);
        class = expect(client.get(&path).await, 200);
        assert_eq!((&class["description"], &class["value"]), (&json!("patched"), &json!(value)));
        let mut changed = class.clone();
        changed["value"] = json!(value * 10);
        expect(client.put(&path, &changed).await, 422);
        let mut changed = class.clone();
        changed["preemptionPolicy"] = json!("Never");
        expect(client.put(&path, &changed).await, 422);
        class["description"] = json!("updated");
        expect(client.put(&path, &class).await, 200);
        assert_eq!(expect(client.get(&path).await, 200)["description"], "updated");
    }
    let selected = format!("{CLASSES}?labelSelector=e2e%3Dyes");
    assert_eq!(items(&client, &selected).await.len(), 2);
    expect(client.delete(&selected).await, 200);
    assert!(items(&client, &selected).await.is_empty());
    expect(client.get(&format!("{CLASSES}/system-node-critical")).await, 200);
}

async fn items(client: &Client, path: &str) -> Vec<Value> {
    expect(client.get(path).await, 200)["items"].as_array().unwrap().clone()
}

fn amounts(cpu: &str, memory: &str, storage: &str) -> Value {
    json!({"cpu": cpu, "memory": memory, "ephemeral-storage": storage})
}

fn range(least: &Value) -> Value {
    let limits = json!([{"type": "Container", "min": least, "max": amounts("500m", "500Mi", "500Gi"),
        "default": amounts("500m", "500Mi", "500Gi"), "defaultRequest": amounts("100m", "200Mi", "200Gi")}]);
    json!({"metadata": {"name": "limits", "labels": {"time": "now"}}, "spec": {"limits": limits}})
}

/// A pod whose container asks for this.
fn pod(name: &str, requests: &Value, limits: &Value) -> Value {
    let resources = json!({"requests": requests, "limits": limits});
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

async fn resources(client: &Client, pod: &Value) -> Value {
    expect(client.post(PODS, pod).await, 201);
    let path = format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap());
    expect(client.get(&path).await, 200)["spec"]["containers"][0]["resources"].clone()
}

/// Conformance: [sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]
#[tokio::test]
async fn pods_have_the_defaults_of_limit_ranges_and_keep_to_them() {
    let (_server, client) = start_without_fairness().await;
    let selected = format!("{RANGES}?labelSelector=time%3Dnow");
    assert!(items(&client, &selected).await.is_empty());
    let mut events = client.watch(&format!("{selected}&watch=1")).await;
    let created = expect(client.post(RANGES, &range(&amounts("50m", "100Mi", "100Gi"))).await, 201);
    assert_eq!(events.soon().await.unwrap()["type"], "ADDED");
    assert_eq!(expect(client.get(&format!("{RANGES}/limits")).await, 200)["spec"], created["spec"]);
    let (most, usual) = (amounts("500m", "500Mi", "500Gi"), amounts("100m", "200Mi", "200Gi"));
    let bare = resources(&client, &pod("bare", &json!({}), &json!({}))).await;
    assert_eq!(bare, json!({"requests": usual, "limits": most}));
    // What is asked for stays; a request of what is limited only is the limit.
    let some =
        resources(&client, &pod("some", &json!({"cpu": "300m"}), &json!({"cpu": "300m", "memory": "150Mi"}))).await;
    assert_eq!((&some["requests"]["cpu"], &some["requests"]["memory"]), (&json!("300m"), &json!("150Mi")));
    assert_eq!(some["limits"]["ephemeral-storage"], "500Gi");
    for (name, requests, limits) in
        [("less", amounts("10m", "50Mi", "50Gi"), json!({})), ("more", json!({}), amounts("600m", "600Mi", "600Gi"))]
    {
        let refused = expect(client.post(PODS, &pod(name, &requests, &limits)).await, 403);
        assert!(refused["message"].as_str().unwrap().contains("per Container"), "{refused}");
    }
    // What was refused is allowed once the range says so.
    let mut lower = expect(client.get(&format!("{RANGES}/limits")).await, 200);
    let least = amounts("9m", "49Mi", "49Gi");
    lower["spec"]["limits"][0]["min"] = least.clone();
    expect(client.put(&format!("{RANGES}/limits"), &lower).await, 200);
    let stored = expect(client.get(&format!("{RANGES}/limits")).await, 200);
    assert_eq!(stored["spec"]["limits"][0]["min"], least);
    assert_eq!(events.soon().await.unwrap()["type"], "MODIFIED");
    resources(&client, &pod("less", &amounts("10m", "50Mi", "50Gi"), &json!({}))).await;
    expect(client.post(PODS, &pod("more", &json!({}), &amounts("600m", "600Mi", "600Gi"))).await, 403);
    expect(client.delete(&format!("{RANGES}/limits")).await, 200);
    assert_eq!(events.soon().await.unwrap()["type"], "DELETED");
    // Nothing is filled in or refused any more.
    let free = amounts("600m", "600Mi", "600Gi");
    assert_eq!(resources(&client, &pod("more", &json!({}), &free)).await["limits"], free);
}

/// Conformance: [sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection [Conformance]
#[tokio::test]
async fn limit_ranges_are_found_patched_and_deleted_by_label() {
    let (_server, client) = start_without_fairness().await;
    expect(client.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await, 201);
    let mut object = range(&amounts("50m", "100Mi", "100Gi"));
    for namespace in ["default", "other"] {
        expect(client.post(&format!("/api/v1/namespaces/{namespace}/limitranges"), &object).await, 201);
        object["metadata"]["labels"] = json!({"time": "now", "name": "other"});
    }
    let everywhere = "/api/v1/limitranges?labelSelector=time%3Dnow";
    assert_eq!(items(&client, everywhere).await.len(), 2);
    let patch = json!({"metadata": {"labels": {"limits": "patched"}},
        "spec": {"limits": [{"type": "Container", "min": {"cpu": "40m"}}]}});
    let path = format!("{RANGES}/limits");
    let patched = expect(client.patch(&path, STRATEGIC, &patch).await, 200);
    // The list of limits has no key to merge by: it is replaced.
    let limits = json!([{"type": "Container", "min": {"cpu": "40m"}, "defaultRequest": {"cpu": "40m"}}]);
    assert_eq!(patched["spec"]["limits"], limits);
    expect(client.delete(&format!("{RANGES}?labelSelector=limits%3Dpatched")).await, 200);
    let left = items(&client, everywhere).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["namespace"], "other");
}
