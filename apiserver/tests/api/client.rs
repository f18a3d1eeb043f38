//! A small JSON client on the in-memory transport.

use std::time::Duration;

use apiserver::http::InProcess;
use apiserver::testing::TestServer;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// Media types of patches.
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer: its status and body.
pub(crate) type Answer = (StatusCode, Value);

/// A client of a server in this process.
#[derive(Clone)]
pub(crate) struct Client {
    service: InProcess,
}

impl Client {
    pub(crate) fn admin(server: &TestServer) -> Self {
        Self { service: server.service() }
    }

    pub(crate) fn of(service: InProcess) -> Self {
        Self { service }
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> http::Response<Body> {
        let Ok(response) = self.service.clone().oneshot(request).await;
        response
    }

    /// Sends bytes and returns bytes.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (StatusCode, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.raw(request.body(Body::from(body)).unwrap()).await;
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let (status, bytes) = self.exchange(method, path, headers, body).await;
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (status, value)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Method::GET, path, &[("accept", accept)], Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string().into_bytes()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string().into_bytes()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, &[("content-type", kind)], body.to_string().into_bytes()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Vec::new()).await
    }

    /// Deletes with options in the body.
    pub(crate) async fn delete_with(&self, path: &str, options: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.send(Method::DELETE, path, &json, options.to_string().into_bytes()).await
    }

    /// Opens a watch and returns its events one by one.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        let response = self.raw(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Events { body: response.into_body(), buffer: Vec::new() }
    }
}

/// The events of a watch.
pub(crate) struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event, which must come; `None` at the end of the stream.
    pub(crate) async fn soon(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.next()).await.expect("an event comes in time")
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let mut stream = (&mut self.body).into_data_stream();
            match stream.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.unwrap()),
                None => return None,
            }
        }
    }
}

/// Asserts a status and returns the body.
#[track_caller]
pub(crate) fn expect(answer: Answer, status: u16) -> Value {
    assert_eq!(answer.0.as_u16(), status, "{}", answer.1);
    answer.1
}
