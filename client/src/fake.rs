//! An API server in memory for this crate's tests: one collection of objects with versions, list and watch.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Holds objects by path, such as `/api/v1/namespaces/default/pods/web`.
#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
}

struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    watchers: broadcast::Sender<Option<Value>>,
    /// Requests as `GET /path`, watches as `WATCH /path`.
    log: Vec<String>,
    failing: bool,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        let watchers = broadcast::Sender::new(1000);
        let state = State { objects: BTreeMap::new(), version: 1, watchers, log: Vec::new(), failing: false };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Stores an object and tells the watchers.
    pub(crate) fn put(&self, path: &str, object: Value) -> Value {
        let mut state = self.lock();
        state.put(path, object)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    pub(crate) fn delete(&self, path: &str) {
        let mut state = self.lock();
        if let Some(object) = state.objects.remove(path) {
            state.version += 1;
            let _ = state.watchers.send(Some(json!({ "type": "DELETED", "object": object })));
        }
    }

    /// Changes the objects without telling any watcher, then closes the watches as expired.
    pub(crate) fn behind_the_watch(&self, change: impl FnOnce(&mut BTreeMap<String, Value>)) {
        let mut state = self.lock();
        change(&mut state.objects);
        state.version += 1;
        let gone =
            json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" });
        let _ = state.watchers.send(Some(json!({ "type": "ERROR", "object": gone })));
        let _ = state.watchers.send(None);
    }

    /// Answers everything with 500 from now on.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.lock().failing = failing;
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
        let is_watch = query.contains("watch=true");
        let mut state = self.lock();
        let verb = if is_watch { "WATCH" } else { parts.method.as_str() };
        state.log.push(format!("{verb} {path}"));
        if state.failing {
            return failure(500, "InternalError");
        }
        match parts.method {
            Method::GET if is_watch => watch(&state.watchers),
            Method::GET => state.get(&path),
            Method::POST => state.create(&path, body),
            Method::PUT => state.replace(&path, body),
            Method::PATCH => state.merge(&path, &body),
            method => panic!("{method} {path} is not faked"),
        }
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let known = self.objects.insert(path.to_owned(), object.clone()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        let _ = self.watchers.send(Some(json!({ "type": kind, "object": object })));
        object
    }

    fn get(&self, path: &str) -> Answer {
        if let Some(object) = self.objects.get(path) {
            return respond(200, object);
        }
        let is_collection = path.rsplit('/').next().is_some_and(|last| last.ends_with('s'));
        if !is_collection {
            return failure(404, "NotFound");
        }
        let items: Vec<_> = self.objects.values().collect();
        let version = self.version.to_string();
        respond(
            200,
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }

    fn create(&mut self, collection: &str, object: Value) -> Answer {
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&path) {
            return failure(409, "AlreadyExists");
        }
        respond(201, &self.put(&path, object))
    }

    fn replace(&mut self, path: &str, object: Value) -> Answer {
        let Some(known) = self.objects.get(path) else { return failure(404, "NotFound") };
        if known["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        respond(200, &self.put(path, object))
    }

    fn merge(&mut self, path: &str, change: &Value) -> Answer {
        let Some(mut object) = self.objects.get(path).cloned() else { return failure(404, "NotFound") };
        for (key, value) in change.as_object().unwrap() {
            object[key] = value.clone();
        }
        respond(200, &self.put(path, object))
    }
}

fn watch(watchers: &broadcast::Sender<Option<Value>>) -> Answer {
    let lines = BroadcastStream::new(watchers.subscribe())
        .take_while(|event| std::future::ready(matches!(event, Ok(Some(_)))))
        .map(|event| Ok::<_, Infallible>(http_body::Frame::data(line(event.unwrap()))));
    Response::new(StreamBody::new(lines).boxed_unsync())
}

/// The type stands first, as every server writes it.
fn line(event: Option<Value>) -> Bytes {
    let event = event.unwrap_or_default();
    Bytes::from(format!("{{\"type\":{},\"object\":{}}}\n", event["type"], event["object"]))
}

fn failure(code: u16, reason: &str) -> Answer {
    respond(code, &json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason }))
}

fn respond(code: u16, body: &Value) -> Answer {
    Response::builder().status(code).body(Full::from(body.to_string()).boxed_unsync()).unwrap()
}
