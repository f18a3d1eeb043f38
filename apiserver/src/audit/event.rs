//! The event of one request as it grows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use api::ApiError;
use api::codec::{protobuf, yaml};
use api::strategy::User;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::policy::{Level, Recorded, Stage};
use super::text::{Event, to_json};
use crate::authn::user_value;
use crate::request::headers as header;
use crate::request::info::RequestInfo;

/// What names a request.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longer user agents are cut.
const AGENT: usize = 1024;

/// What is recorded of a request.
pub(super) struct Record {
    recorded: Recorded,
    event: Mutex<Map<String, Value>>,
}

impl Record {
    pub(super) fn new(recorded: Recorded, parts: &Parts, info: &RequestInfo, user: &User) -> Self {
        let uri = parts.uri.path_and_query().map_or(parts.uri.path(), |it| it.as_str());
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": recorded.level.as_str(),
            "auditID": audit_id(parts), "requestURI": uri, "verb": info.verb(), "user": user_value(user),
            "requestReceivedTimestamp": now(),
        });
        let sources = sources(parts);
        if !sources.is_empty() {
            event["sourceIPs"] = sources.into();
        }
        if let Some(agent) = parts.headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes())) {
            event["userAgent"] = shortened(&agent).into();
        }
        if info.is_resource {
            event["objectRef"] = reference(info);
        }
        let event = match event {
            Value::Object(event) => event,
            _ => Map::new(),
        };
        Self { recorded, event: Mutex::new(event) }
    }

    fn event(&self) -> MutexGuard<'_, Map<String, Value>> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, field: &str, value: Value) {
        self.event().insert(field.to_owned(), value);
    }

    /// The event at a stage; `None` for a stage that is left out.
    pub(super) fn at(&self, stage: Stage) -> Option<Event> {
        if self.recorded.omit_stages.contains(&stage) {
            return None;
        }
        let mut event = self.event();
        let time = match event.get("requestReceivedTimestamp") {
            Some(received) if stage == Stage::RequestReceived => received.clone(),
            _ => now().into(),
        };
        event.insert("stage".to_owned(), stage.as_str().into());
        event.insert("stageTimestamp".to_owned(), time);
        let objects = ["requestObject", "responseObject"];
        let outline = event.iter().filter(|(field, _)| !objects.contains(&field.as_str()));
        let outline = outline.map(|(field, value)| (field.clone(), value.clone())).collect();
        Some(Event { level: self.recorded.level, json: to_json(&event), outline })
    }

    pub(super) fn annotate(&self, key: &str, value: String) {
        let mut event = self.event();
        let annotations = event.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.entry(key).or_insert(Value::String(value));
        }
    }

    pub(super) fn shows_content(&self) -> bool {
        self.recorded.level >= Level::Request
    }

    pub(super) fn impersonated(&self, user: &User) {
        self.set("impersonatedUser", user_value(user));
    }

    /// Notes what the client sent: whom it names, and all of it if that is wanted.
    pub(super) fn request(&self, headers: &HeaderMap, body: &[u8]) {
        let Some(tree) = read(headers, body) else { return };
        if let Some(reference) = self.event().get_mut("objectRef").and_then(Value::as_object_mut) {
            for field in ["namespace", "name", "uid", "resourceVersion"] {
                let known = tree
                    .pointer(&format!("/metadata/{field}"))
                    .filter(|it| it.as_str().is_some_and(|it| !it.is_empty()));
                if let Some(known) = known {
                    reference.entry(field).or_insert_with(|| known.clone());
                }
            }
        }
        if self.shows_content() {
            self.set("requestObject", self.shown(tree));
        }
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.set("responseStatus", json!({"metadata": {}, "code": status.as_u16()}));
    }

    /// Notes that nobody answered: the time of the request ran out, or its client went away.
    pub(super) fn unanswered(&self) {
        let why = "the request ended before it was answered: its time ran out, or its client went away";
        self.refused(&ApiError::timeout(why, 0));
    }

    pub(super) fn refused(&self, err: &ApiError) {
        self.set("responseStatus", status(&err.to_value()));
        if self.recorded.level >= Level::RequestResponse {
            self.set("responseObject", err.to_value());
        }
    }

    /// Whether the bytes of an answer are looked at.
    pub(super) fn wants_answer(&self, status: StatusCode) -> bool {
        self.recorded.level >= Level::RequestResponse || status.as_u16() >= 400
    }

    pub(super) fn response(&self, parts: &http::response::Parts, body: &[u8]) {
        if parts.headers.contains_key(http::header::CONTENT_ENCODING) {
            return;
        }
        let Some(tree) = read(&parts.headers, body) else { return };
        if tree.get("kind").is_some_and(|kind| kind == "Status") {
            self.set("responseStatus", status(&tree));
        }
        if self.recorded.level >= Level::RequestResponse {
            self.set("responseObject", self.shown(tree));
        }
    }

    /// An object as it is recorded.
    fn shown(&self, mut tree: Value) -> Value {
        if self.recorded.omit_managed_fields {
            strip(&mut tree);
            tree.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
        }
        tree
    }
}

fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// The parts of a `Status` that are always recorded.
fn status(tree: &Value) -> Value {
    let mut out = json!({"metadata": {}});
    for field in ["status", "message", "reason", "details", "code"] {
        if let Some(value) = tree.get(field) {
            out[field] = value.clone();
        }
    }
    out
}

/// A body as a tree, if it is one.
fn read(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    let media = header::shown(headers, CONTENT_TYPE);
    let media = if media.is_empty() { "application/json" } else { &media };
    match media.split(';').next().unwrap_or("").trim() {
        "application/yaml" | "application/apply-patch+yaml" => Some(yaml::parse(body).ok()?.0.into_value()),
        protobuf::MEDIA_TYPE => protobuf::decode(body).ok(),
        media if media.ends_with("json") => serde_json::from_slice(body).ok(),
        _ => None,
    }
}

fn reference(info: &RequestInfo) -> Value {
    let parts = [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("apiVersion", &info.version),
        ("subresource", &info.subresource),
    ];
    let given = parts.into_iter().filter(|(_, value)| !value.is_empty());
    Value::Object(given.map(|(name, value)| (name.to_owned(), value.as_str().into())).collect())
}

/// The name of a request, which its answer tells and its events have.
#[derive(Clone, Debug)]
pub(crate) struct AuditId(pub(crate) HeaderValue);

impl AuditId {
    /// The client's name for the request, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&AUDIT_ID).filter(|id| !id.is_empty() && id.len() <= 64 && id.to_str().is_ok());
        Self(given.cloned().unwrap_or_else(|| {
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
            HeaderValue::try_from(id).expect("a UUID is text")
        }))
    }
}

fn audit_id(parts: &Parts) -> String {
    let id = parts.extensions.get::<AuditId>().cloned().unwrap_or_else(|| AuditId::of(&parts.headers));
    id.0.to_str().unwrap_or_default().to_owned()
}

/// The addresses that the request came by: those that proxies name, and the one that it was received from.
fn sources(parts: &Parts) -> Vec<String> {
    let header = |name: &'static str| header::shown(&parts.headers, name);
    let mut all: Vec<String> = header("x-forwarded-for").split(',').map(|it| it.trim().to_owned()).collect();
    all.push(header("x-real-ip").trim().to_owned());
    all.extend(parts.extensions.get::<crate::http::PeerAddress>().map(|peer| peer.0.to_string()));
    all.retain(|address| address.parse::<std::net::IpAddr>().is_ok());
    let mut seen = Vec::new();
    for address in all {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}

fn shortened(agent: &str) -> String {
    match agent.char_indices().nth(AGENT) {
        Some((at, _)) => format!("{}...TRUNCATED", &agent[..at]),
        None => agent.to_owned(),
    }
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
