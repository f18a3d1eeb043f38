//! The watch contract (D5): every replica equals the store.

use std::sync::Arc;

use apiserver::Config;
use apiserver::testing::TestServer;
use axum::body::Body;
use http::Request;
use serde_json::json;
use store::embedded::EmbeddedStore;

use crate::client::{Client, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn put(client: &Client, name: u8, value: u8, labelled: bool) {
    let labels = if labelled { json!({"on": "yes"}) } else { json!({}) };
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{name}"), "labels": labels},
        "data": {"value": value.to_string()}});
    let (status, _) = client.put(&format!("{MAPS}/m{name}"), &body).await;
    if status == 404 {
        expect(client.post(MAPS, &body).await, 201);
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    put(&client, 1, 1, true).await;
    let query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut events = client.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.next().await.unwrap()["type"], "ADDED");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_of_forgotten_history_is_told_to_list_again() {
    let store = Arc::new(EmbeddedStore::in_memory());
    let server = TestServer::with(Config::default(), store.clone()).await;
    server.stop().await;
    // A server that starts knows nothing of what was before.
    let server = TestServer::with(Config::default(), store).await;
    let mut events = Client::admin(&server).watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn watches_end_with_their_timeout_and_with_the_server() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut short = client.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    assert!(short.next().await.is_none());
    let mut long = client.watch(&format!("{MAPS}?watch=1")).await;
    server.stop().await;
    assert!(long.next().await.is_none());
}

#[tokio::test]
async fn kubelets_only_hear_of_their_own_pods() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let pods = "/api/v1/namespaces/default/pods";
    let mut events = client.watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1").await;
    for name in ["a", "b"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        expect(client.post(pods, &pod).await, 201);
        let node = if name == "a" { "n2" } else { "n1" };
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        expect(client.post(&format!("{pods}/{name}/binding"), &binding).await, 201);
    }
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("b")));
}

#[tokio::test]
async fn a_watch_of_a_deprecated_kind_warns_as_well() {
    let server = TestServer::start().await;
    let request = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let client = Client::admin(&server);
    let answer = client.raw(request("/api/v1/endpoints?watch=1")).await;
    let warning = answer.headers().get("warning").expect("a warning").to_str().unwrap();
    assert!(warning.contains("v1 Endpoints is deprecated in v1.33+"), "{warning}");
    assert!(client.raw(request("/api/v1/pods?watch=1")).await.headers().get("warning").is_none());
}
