//! Watchers that do not read.

use std::sync::Arc;

use apiserver::testing::TestServer;
use axum::body::Body;
use http::Request;
use serde_json::json;

use super::{assert_small, in_time};
use crate::client::{Client, Events, MERGE, expect};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// In-process streams are polled by nobody but their reader, as those of a client whose window is closed.
#[tokio::test]
async fn thousands_of_watches_that_nobody_reads_are_cut_and_cost_little() {
    const WATCHES: usize = 2_000;
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    expect(client.post(MAPS, &json!({"metadata": {"name": "x"}})).await, 201);
    let cache = server.server().registry().named("", "configmaps").unwrap();
    let before = cache.watchers();
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        watches.push(client.watch(&format!("{MAPS}?watch=1&allowWatchBookmarks=true")).await);
    }
    assert_eq!(cache.watchers(), before + WATCHES);
    // Each version is new bytes, which the queues of the watchers would keep.
    for at in 0..150 {
        let data = json!({"data": {"a": "x".repeat(600_000), "at": at.to_string()}});
        expect(client.patch(&format!("{MAPS}/x"), MERGE, &data).await, 200);
        if cache.watchers() == before {
            break;
        }
    }
    assert_eq!(cache.watchers(), before, "all that fell behind are cut");
    for events in watches.iter_mut().take(10) {
        assert_eq!(last(events).await["code"], 410);
    }
    // Whoever reads is served.
    let mut fresh = client.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(in_time("a fresh watch", fresh.next()).await.unwrap()["type"], "ADDED");
    assert_small();
}

/// What an error event at the end of a watch says.
async fn last(events: &mut Events) -> serde_json::Value {
    loop {
        let event = in_time("the end of a watch", events.next()).await.expect("an error ends the watch");
        if event["type"] == "ERROR" {
            assert!(events.next().await.is_none());
            return event["object"].clone();
        }
    }
}

#[tokio::test]
async fn a_watch_that_is_dropped_is_forgotten() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let cache = Arc::clone(&server.server().registry().named("", "configmaps").unwrap());
    let before = cache.watchers();
    for _ in 0..100 {
        let request = Request::get(format!("{MAPS}?watch=1")).body(Body::empty()).unwrap();
        drop(client.raw(request).await);
    }
    assert_eq!(cache.watchers(), before);
}
