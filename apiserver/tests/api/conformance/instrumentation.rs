//! What `[sig-instrumentation]` asks: events, by both of their groups.

use serde_json::{Value, json};

use super::start_without_fairness;
use crate::client::{Client, STRATEGIC, expect};

const CORE: &str = "/api/v1/namespaces/default/events";
const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const TIME: &str = "2017-09-19T13:49:16.000000Z";

/// An event as `events.k8s.io` has it, of this reporter.
fn new_event(name: &str, reporter: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"testevent-set": "true"}}, "reportingController": reporter,
        "reportingInstance": "test-node", "action": "Do", "reason": "Test", "type": "Normal", "note": "This is a test event",
        "eventTime": TIME, "regarding": {"namespace": "default"},
        "series": {"count": 2, "lastObservedTime": TIME}})
}

/// An event as the core group has it.
fn core_event(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"testevent-set": "true"}}, "message": "This is a test event",
        "reason": "Test", "type": "Normal", "count": 1, "involvedObject": {"namespace": "default"}})
}

/// The names in a list.
async fn names(client: &Client, path: &str) -> Vec<String> {
    let list = expect(client.get(path).await, 200);
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(name).collect()
}

/// Conformance: [sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed [Conformance]
#[tokio::test]
async fn an_event_of_the_new_group_lives_and_dies() {
    let (_server, client) = start_without_fairness().await;
    expect(client.post(NEW, &new_event("e", "test-controller")).await, 201);
    expect(client.post(NEW, &new_event("other", "test-other")).await, 201);
    let by_reporter = "fieldSelector=reportingController%3Dtest-controller";
    for path in ["/apis/events.k8s.io/v1/events", NEW] {
        assert_eq!(names(&client, &format!("{path}?{by_reporter}")).await, ["e"], "{path}");
    }
    assert_eq!(names(&client, &format!("{CORE}?fieldSelector=source%3Dtest-controller")).await, ["e"]);
    let one = format!("{NEW}/e");
    let mut wanted = expect(client.get(&one).await, 200);
    let series = |count: u32| json!({"count": count, "lastObservedTime": "2014-01-01T00:00:00.000000Z"});
    let patched = expect(client.patch(&one, STRATEGIC, &json!({"series": series(3)})).await, 200);
    wanted["series"] = series(3);
    wanted["metadata"] = patched["metadata"].clone();
    assert_eq!(patched, wanted, "nothing else changes");
    wanted["series"] = series(100);
    expect(client.put(&one, &wanted).await, 200);
    assert_eq!(expect(client.get(&one).await, 200)["series"], series(100));
    // What an event says does not change, other than by way of the core group, which shows the same event.
    let refused = expect(client.patch(&one, STRATEGIC, &json!({"note": "changed"})).await, 422);
    assert!(refused["message"].as_str().unwrap().ends_with("field is immutable"), "{refused}");
    assert_eq!(expect(client.get(&format!("{CORE}/e")).await, 200)["message"], "This is a test event");
    expect(client.delete(&one).await, 200);
    assert!(names(&client, &format!("{NEW}?{by_reporter}")).await.is_empty());
}

/// Conformance: [sig-instrumentation] Events API should delete a collection of events [Conformance]
#[tokio::test]
async fn events_of_the_new_group_are_deleted_together() {
    let (_server, client) = start_without_fairness().await;
    for name in ["one", "two", "three"] {
        expect(client.post(NEW, &new_event(name, "test-controller")).await, 201);
    }
    let mut other = new_event("other", "test-controller");
    other["metadata"]["labels"] = json!({});
    expect(client.post(NEW, &other).await, 201);
    deletes_those_with_the_label(&client, NEW).await;
}

/// Conformance: [sig-instrumentation] Events should delete a collection of events [Conformance]
#[tokio::test]
async fn events_of_the_core_group_are_deleted_together() {
    let (_server, client) = start_without_fairness().await;
    for name in ["one", "two", "three"] {
        expect(client.post(CORE, &core_event(name)).await, 201);
    }
    let mut other = core_event("other");
    other["metadata"]["labels"] = json!({});
    expect(client.post(CORE, &other).await, 201);
    deletes_those_with_the_label(&client, CORE).await;
}

async fn deletes_those_with_the_label(client: &Client, path: &str) {
    let set = format!("{path}?labelSelector=testevent-set%3Dtrue");
    assert_eq!(names(client, &set).await, ["one", "three", "two"]);
    expect(client.delete(&set).await, 200);
    assert!(names(client, &set).await.is_empty());
    assert!(names(client, path).await.contains(&"other".to_owned()));
}

/// Conformance: [sig-instrumentation] Events should manage the lifecycle of an event [Conformance]
#[tokio::test]
async fn an_event_of_the_core_group_lives_and_dies() {
    let (_server, client) = start_without_fairness().await;
    expect(client.post(CORE, &core_event("e")).await, 201);
    let everywhere = "/api/v1/events?labelSelector=testevent-set%3Dtrue";
    assert_eq!(names(&client, everywhere).await, ["e"]);
    let one = format!("{CORE}/e");
    let patched = expect(client.patch(&one, STRATEGIC, &json!({"message": "changed"})).await, 200);
    assert_eq!((&patched["message"], &patched["reason"]), (&json!("changed"), &json!("Test")));
    let mut event = expect(client.get(&one).await, 200);
    let series = json!({"count": 100, "lastObservedTime": "2014-01-01T00:00:00.000000Z"});
    event["series"] = series.clone();
    expect(client.put(&one, &event).await, 200);
    assert_eq!(expect(client.get(&one).await, 200)["series"], series);
    let by_reason = format!("{CORE}?fieldSelector=reason%3DTest,involvedObject.namespace%3Ddefault");
    assert_eq!(names(&client, &by_reason).await, ["e"]);
    expect(client.delete(&one).await, 200);
    assert!(names(&client, everywhere).await.is_empty());
}
