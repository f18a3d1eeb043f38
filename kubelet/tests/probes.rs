//! Probes that speak to servers: those of these tests are on loopback, where pods in the node's network are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod node;

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use node::{TestNode, condition, container, phase};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server that answers each request with these bytes, as gRPC does; it counts them, and ends when it is dropped.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl Server {
    async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        running.spawn(serve(listener, answer, Arc::clone(&asked)));
        Self { port, asked, _running: running }
    }
}

async fn serve(listener: TcpListener, answer: &'static [u8], asked: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            asked.fetch_add(1, Ordering::SeqCst);
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            let body = Full::new(Bytes::from_static(answer)).with_trailers(async { Some(Ok(trailers)) });
            let response = Response::builder().header("content-type", "application/grpc").body(body).unwrap();
            async move { Ok::<_, Infallible>(response) }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        connections.spawn(async move {
            let _lost = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A frame with a `HealthCheckResponse` that says so of the server.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];

fn probed(kind: &str, action: Value) -> Value {
    let mut probe = json!({"periodSeconds": 1, "failureThreshold": 1});
    probe.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
    json!({"hostNetwork": true, "containers": [{"name": "c", "image": "busybox:1", kind: probe}]})
}

/// Conformance: [sig-node] Probing container should *not* be restarted with a GRPC liveness probe [NodeConformance] [Conformance]
#[tokio::test]
async fn a_container_whose_health_service_serves_stays() {
    let (node, server) = (TestNode::start().await, Server::start(SERVING).await);
    node.create("etcd", probed("livenessProbe", json!({"grpc": {"port": server.port}}))).await;
    node.wait_for("etcd", |pod| phase(pod) == "Running").await;
    node.eventually(|| server.asked.load(Ordering::SeqCst) >= 5).await;
    assert_eq!(container(&node.get("etcd").await, "c").restart_count, 0);
}

#[tokio::test]
async fn a_container_whose_health_service_does_not_serve_is_started_again() {
    let (node, server) = (TestNode::start().await, Server::start(NOT_SERVING).await);
    node.create("etcd", probed("livenessProbe", json!({"grpc": {"port": server.port}}))).await;
    node.wait_for("etcd", |pod| container(pod, "c").restart_count >= 1).await;
    let message = node.wait_for_message("etcd", "Unhealthy").await;
    assert_eq!(message, "Liveness probe failed: service unhealthy (responded with \"NOT_SERVING\")");
}

#[tokio::test]
async fn a_container_whose_health_service_is_not_there_is_started_again() {
    let node = TestNode::start().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    node.create("etcd", probed("livenessProbe", json!({"grpc": {"port": free.port()}}))).await;
    node.wait_for("etcd", |pod| container(pod, "c").restart_count >= 1).await;
    let why = format!("timeout: failed to connect service \"{free}\" within 1s: context deadline exceeded");
    assert_eq!(node.wait_for_message("etcd", "Unhealthy").await, format!("Liveness probe failed: {why}"));
}

#[tokio::test]
async fn a_container_is_ready_when_its_health_service_serves() {
    let (node, server) = (TestNode::start().await, Server::start(SERVING).await);
    node.create("etcd", probed("readinessProbe", json!({"grpc": {"port": server.port}}))).await;
    node.wait_for("etcd", |pod| condition(pod, "Ready") == Some("True")).await;
}

/// Conformance: [sig-node] Probing container should have monotonically increasing restart count [NodeConformance] [Conformance]
#[tokio::test]
async fn the_count_of_restarts_only_grows() {
    // Nobody waits for minutes here.
    let tuning = kubelet::Tuning { restart_backoff: Duration::from_secs(1), ..kubelet::Tuning::default() };
    let node = TestNode::with(None, tuning).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _lost = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    node.create("p", probed("livenessProbe", json!({"httpGet": {"path": "/healthz", "port": port}}))).await;
    let last = Cell::new(0);
    node.wait_for("p", |pod| {
        let count = container(pod, "c").restart_count;
        let before = last.replace(count);
        assert!(count >= before, "{count} after {before}");
        count >= 5
    })
    .await;
    assert_eq!(
        node.wait_for_message("p", "Unhealthy").await,
        "Liveness probe failed: HTTP probe failed with statuscode: 500"
    );
}
