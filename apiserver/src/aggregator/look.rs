//! One look at the server of an APIService: can it be reached, and what does it serve?

use std::collections::BTreeMap;

use api::strategy::User;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, HeaderValue, IF_NONE_MATCH};
use http::{Request, StatusCode};
use serde_json::Value;

use super::availability::{Verdict, obstacle};
use super::backend::{Backend, Check, Document, SendError};
use super::documents;
use super::found::Found;
use super::identity::speak_for;
use crate::outbound::dial::host_port;

/// So often the server is asked at once; one answer is enough. Behind a Service there may be several.
const ATTEMPTS: usize = 5;
/// Of the answer to that question nothing but its status counts.
const PROBE_BYTES: usize = 4 << 20;
/// The longest list of groups, and the longest index of documents, of one server.
const DOCUMENT_BYTES: usize = 4 << 20;
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const JSON: &str = "application/json";

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    discovery: Option<(HeaderValue, Option<Vec<Value>>)>,
    openapi: Option<(HeaderValue, BTreeMap<String, String>)>,
}

/// The version that a server is asked about.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) group: String,
    pub(super) version: String,
}

impl Version {
    /// `/apis` or `/api`.
    fn root(&self) -> &'static str {
        if self.group.is_empty() { "/api" } else { "/apis" }
    }

    /// Where its resources are.
    fn path(&self) -> String {
        let Self { group, version } = self;
        if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
    }
}

/// Whether the server can be reached.
pub(super) async fn check(backend: &Backend, version: &Version) -> Verdict {
    let (place, services) = (&backend.place, backend.dialer().services());
    let service = services.service(&place.namespace, &place.name);
    let slices = services.slices(&place.namespace, &place.name);
    if let Some(verdict) = obstacle(place, service.as_ref(), &slices) {
        return verdict;
    }
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| probe(backend, version)).collect();
    let mut last = String::new();
    while let Some(outcome) = attempts.next().await {
        match outcome {
            Ok(()) => return Verdict::passed(),
            Err(why) => last = why,
        }
    }
    Verdict::silent(last)
}

/// Who asks on this server's own behalf: whatever the other server lets people do, it answers.
fn master() -> User {
    let groups = vec![crate::authz::MASTERS.to_owned()];
    User { name: "system:kube-aggregator".to_owned(), groups, ..User::default() }
}

/// Asks for the version. The certificate is not looked at: all that is found is whether there is an answer.
async fn probe(backend: &Backend, version: &Version) -> Result<(), String> {
    let address = backend.address().map_err(|err| err.to_string())?;
    let url = format!("https://{}{}", host_port(&address.0, address.1), version.path());
    let request = get(&version.path(), JSON, &master(), None);
    let failed = |why: String| format!("failing or missing response from {url}: {why}");
    match backend.fetch(&address, request, Check::Nothing, PROBE_BYTES).await {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(failed(format!("bad status from {url}: {}", answer.status.as_u16()))),
        Err(err) => Err(failed(format!("Get {url:?}: {err}"))),
    }
}

/// What the server serves, over a connection whose certificate was looked at.
pub(super) async fn find(backend: &Backend, version: &Version, memory: &mut Memory) -> Found {
    let resources = match resources(backend, version, memory).await {
        Ok(resources) => resources,
        Err(why) => {
            tracing::debug!(group = version.group, version = version.version, %why, "discovery failed");
            return Found { places: places(backend, version, memory).await, ..Found::default() };
        }
    };
    Found { resources, is_current: true, places: places(backend, version, memory).await }
}

async fn resources(backend: &Backend, version: &Version, memory: &mut Memory) -> Result<Option<Vec<Value>>, String> {
    let known = memory.discovery.as_ref().map(|(etag, _)| etag.clone());
    let answer = ask(backend, get(version.root(), AGGREGATED, &master(), known)).await?;
    if answer.status == StatusCode::NOT_MODIFIED
        && let Some((_, resources)) = &memory.discovery
    {
        return Ok(resources.clone());
    }
    memory.discovery = None;
    let Document { status, etag, body } = answer;
    let (group, name) = (version.group.clone(), version.version.clone());
    let listed = if status.is_success() {
        read(body, move |document| documents::listed(&document, &group, &name)).await?
    } else {
        None
    };
    let Some(resources) = listed else { return resources_of_old(backend, version, &master()).await.map(Some) };
    memory.discovery = etag.map(|etag| (etag, resources.clone()));
    Ok(resources)
}

/// The same of a server that does not know aggregated discovery.
async fn resources_of_old(backend: &Backend, version: &Version, user: &User) -> Result<Vec<Value>, String> {
    let answer = ask(backend, get(&version.path(), JSON, user, None)).await?;
    if !answer.status.is_success() {
        return Err(format!("{} answers {}", version.path(), answer.status));
    }
    let resources = read(answer.body, |document| documents::converted(&document)).await?;
    resources.ok_or_else(|| format!("{} is no APIResourceList", version.path()))
}

/// Where the OpenAPI documents of the version are; of a server that has none, nowhere.
async fn places(backend: &Backend, version: &Version, memory: &mut Memory) -> BTreeMap<String, String> {
    let known = memory.openapi.as_ref().map(|(etag, _)| etag.clone());
    let answer = match ask(backend, get("/openapi/v3", JSON, &documents_reader(), known)).await {
        Ok(answer) => answer,
        Err(why) => {
            tracing::debug!(group = version.group, version = version.version, %why, "no index of OpenAPI documents");
            return memory.openapi.as_ref().map(|(_, places)| places.clone()).unwrap_or_default();
        }
    };
    if answer.status == StatusCode::NOT_MODIFIED
        && let Some((_, places)) = &memory.openapi
    {
        return places.clone();
    }
    memory.openapi = None;
    if !answer.status.is_success() {
        return BTreeMap::new();
    }
    let (group, name) = (version.group.clone(), version.version.clone());
    let places = read(answer.body, move |index| documents::places(&index, &group, &name)).await.unwrap_or_default();
    memory.openapi = answer.etag.map(|etag| (etag, places.clone()));
    places
}

/// The OpenAPI v2 document with its tag; `None` if it is still the one that is known by this tag.
pub(super) async fn document_of_everything(
    backend: &Backend,
    known: Option<HeaderValue>,
) -> Result<Option<(Option<HeaderValue>, Bytes)>, String> {
    let answer = ask(backend, get("/openapi/v2", JSON, &documents_reader(), known)).await?;
    match answer.status {
        StatusCode::NOT_MODIFIED => Ok(None),
        status if status.is_success() => Ok(Some((answer.etag, answer.body))),
        status => Err(format!("/openapi/v2 answers {status}")),
    }
}

/// Who asks for OpenAPI documents.
fn documents_reader() -> User {
    User { name: "system:aggregator".to_owned(), ..User::default() }
}

fn get(path: &str, accept: &'static str, user: &User, known: Option<HeaderValue>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    // Group and version have been validated as parts of a path.
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    if let Some(etag) = known {
        headers.insert(IF_NONE_MATCH, etag);
    }
    speak_for(headers, user, None).expect("the server's own users have plain names");
    request
}

async fn ask(backend: &Backend, request: Request<Body>) -> Result<Document, String> {
    let failed = |err: SendError| err.to_string();
    let address = backend.address().map_err(|err| err.to_string())?;
    backend.fetch(&address, request, Check::Certificate, DOCUMENT_BYTES).await.map_err(failed)
}

/// Reads JSON, aside from what serves requests: it may be long.
async fn read<T: Send + 'static>(body: Bytes, take: impl FnOnce(Value) -> T + Send + 'static) -> Result<T, String> {
    let read = move || serde_json::from_slice(&body).map(take).map_err(|err| err.to_string());
    tokio::task::spawn_blocking(read).await.map_err(|err| err.to_string())?
}
