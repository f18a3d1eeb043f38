//! Clients that send slowly, or what nobody wants to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use apiserver::testing::TestServer;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::Request;
use tokio::task::JoinSet;

use super::in_time;
use crate::client::{Client, expect};

type Piece = Result<Bytes, std::convert::Infallible>;

/// A body that never comes; `begun` counts those that are waited for.
fn never(begun: &Arc<AtomicUsize>) -> Body {
    let begun = begun.clone();
    let mut is_first = true;
    Body::from_stream(stream::poll_fn(move |_| -> Poll<Option<Piece>> {
        if std::mem::take(&mut is_first) {
            begun.fetch_add(1, Ordering::SeqCst);
        }
        Poll::Pending
    }))
}

#[tokio::test]
async fn seven_hundred_slow_senders_hold_up_nobody() {
    const SENDERS: usize = 700;
    const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let server = TestServer::start().await;
    let begun = Arc::new(AtomicUsize::new(0));
    let slow = Client::of(server.service_as("slow", &[]));
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (slow, body) = (slow.clone(), never(&begun));
        let request = Request::post(REVIEWS).header("content-type", "application/json").body(body).unwrap();
        senders.spawn(async move { slow.raw(request).await });
    }
    in_time("700 requests that begin", async {
        while begun.load(Ordering::SeqCst) < SENDERS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for name in ["other", "slow"] {
        let client = Client::of(server.service_as(name, &[]));
        let review = serde_json::json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
        expect(in_time("another read", client.get("/version")).await, 200);
        expect(in_time("another write", client.post(REVIEWS, &review)).await, 201);
    }
    // Nothing of this was waited for: the slow ones are there still.
    let ended = std::iter::from_fn(|| senders.try_join_next()).count();
    faults::Attack::new("apiserver: slow bodies of a user without rights")
        .tried(SENDERS as u64, 0)
        .figure("slow requests at work while others were answered", SENDERS - ended)
        .record();
}

#[tokio::test]
async fn the_body_of_a_request_that_is_refused_is_read_no_further_than_to_drop_it() {
    let server = TestServer::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Piece::Ok(Bytes::from_static(&[b'x'; 64 * 1024]))
    });
    let nobody = Client::of(server.service_as("nobody", &[]));
    let request = Request::post("/api/v1/namespaces/default/configmaps").body(Body::from_stream(endless)).unwrap();
    let answer = in_time("a refusal", nobody.raw(request)).await;
    assert_eq!(answer.status(), 403);
    assert!(asked.load(Ordering::SeqCst) <= 3 * 16 + 2, "{} pieces", asked.load(Ordering::SeqCst));
}
