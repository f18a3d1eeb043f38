//! Requests in JSON, and waiting for what they bring about.

use std::time::Duration;

use cluster::TestCluster;
use futures::io::{AsyncBufRead, AsyncBufReadExt as _};
use http::{Method, Request};
use serde_json::Value;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A client of a cluster.
pub(crate) struct Api {
    client: kube::Client,
}

impl Api {
    pub(crate) fn of(cluster: &TestCluster) -> Self {
        Self { client: cluster.client() }
    }

    async fn send(&self, method: Method, path: &str, media: &str, body: &Value) -> Result<Value, u16> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", media).body(body).unwrap();
        match self.client.request::<Value>(request).await {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(err) => panic!("{path}: {err}"),
        }
    }

    /// The object at a path; `None` when there is none.
    pub(crate) async fn find(&self, path: &str) -> Option<Value> {
        match self.send(Method::GET, path, "application/json", &Value::Null).await {
            Ok(object) => Some(object),
            Err(404) => None,
            Err(code) => panic!("{path}: {code}"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.find(path).await.unwrap_or_else(|| panic!("{path} is not there"))
    }

    pub(crate) async fn items(&self, path: &str) -> Vec<Value> {
        self.get(path).await["items"].as_array().unwrap().clone()
    }

    pub(crate) async fn create(&self, path: &str, object: &Value) -> Value {
        self.send(Method::POST, path, "application/json", object).await.unwrap_or_else(|code| panic!("{path}: {code}"))
    }

    /// Tries to create what must be refused, and returns how it was.
    pub(crate) async fn refused(&self, path: &str, object: &Value) -> u16 {
        self.send(Method::POST, path, "application/json", object).await.expect_err("refused")
    }

    /// Tries a change that must be refused, and returns how it was.
    pub(crate) async fn merge_refused(&self, path: &str, patch: &Value) -> u16 {
        self.send(Method::PATCH, path, "application/merge-patch+json", patch).await.expect_err("refused")
    }

    /// Tries to create an object; the error is the code of the answer.
    pub(crate) async fn try_create(&self, path: &str, object: &Value) -> Result<(), u16> {
        self.send(Method::POST, path, "application/json", object).await.map(drop)
    }

    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Value {
        let answer = self.send(Method::PATCH, path, "application/merge-patch+json", patch).await;
        answer.unwrap_or_else(|code| panic!("{path}: {code}"))
    }

    /// Changes an object by a strategic merge patch, which meets items of lists by their names.
    pub(crate) async fn strategic(&self, path: &str, patch: &Value) -> Value {
        let answer = self.send(Method::PATCH, path, "application/strategic-merge-patch+json", patch).await;
        answer.unwrap_or_else(|code| panic!("{path}: {code}"))
    }

    /// Deletes a pod that has so many seconds to end.
    pub(crate) async fn delete_within(&self, path: &str, seconds: u32) {
        let path = format!("{path}?gracePeriodSeconds={seconds}");
        let answer = self.send(Method::DELETE, &path, "application/json", &Value::Null).await;
        answer.unwrap_or_else(|code| panic!("{path}: {code}"));
    }

    /// Replaces an object.
    pub(crate) async fn put(&self, path: &str, object: &Value) -> Value {
        self.send(Method::PUT, path, "application/json", object).await.unwrap_or_else(|code| panic!("{path}: {code}"))
    }

    /// Reads what is at a path, changes it and writes it back, until nobody else wrote in between.
    pub(crate) async fn update(&self, path: &str, change: impl Fn(&mut Value)) -> Value {
        loop {
            let mut object = self.get(path).await;
            change(&mut object);
            match self.send(Method::PUT, path, "application/json", &object).await {
                Ok(updated) => return updated,
                Err(409) => {}
                Err(code) => panic!("{path}: {code}"),
            }
        }
    }

    /// Deletes all that a list with a selector would show.
    pub(crate) async fn delete_collection(&self, path: &str) {
        let answer = self.send(Method::DELETE, path, "application/json", &Value::Null).await;
        answer.unwrap_or_else(|code| panic!("{path}: {code}"));
    }

    /// Watches what a list with a selector would show.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        let request = Request::get(format!("{path}&watch=1")).body(Vec::new()).unwrap();
        Events { stream: Box::pin(self.client.request_stream(request).await.unwrap()) }
    }

    /// Deletes an object; `policy` says what becomes of its dependents.
    pub(crate) async fn delete(&self, path: &str, policy: &str) {
        let path = format!("{path}?propagationPolicy={policy}");
        let answer = self.send(Method::DELETE, &path, "application/json", &Value::Null).await;
        answer.unwrap_or_else(|code| panic!("{path}: {code}"));
    }

    /// Waits until there is nothing at a path.
    pub(crate) async fn gone(&self, path: &str) {
        eventually(&format!("{path} is gone"), async || self.find(path).await.is_none()).await;
    }
}

/// The events of a watch.
pub(crate) struct Events {
    stream: std::pin::Pin<Box<dyn AsyncBufRead + Send>>,
}

impl Events {
    /// The next event, which must come.
    pub(crate) async fn next(&mut self) -> Value {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        read.expect("an event comes in time").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Passes events by until one of this type has an object that is as wanted, and returns the object.
    pub(crate) async fn until(&mut self, kind: &str, check: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut event = self.next().await;
            if event["type"] == kind && check(&event["object"]) {
                return event["object"].take();
            }
        }
    }
}

/// Waits until `check` holds.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}
