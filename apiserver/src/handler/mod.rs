//! Requests for resources: from a routed request to the registry and back to an answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use api::patch::PatchType;
use api::resource::Verb;
use api::status::Details;
use api::strategy::User;
use api::{ApiError, Resource};
use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::upgrade::OnUpgrade;

use crate::flow_control::Seat;
use crate::http::PeerAddress;
use crate::registry::{List, Patch, Registry, Target, Updated};
use crate::request::decode;
use crate::request::headers as header;
use crate::request::info::{Deed, RequestInfo};
use crate::request::negotiate::{Accept, Offer, accepts_gzip, content_type, is_pretty};
use crate::request::options::{DeleteOptions, ListOptions, Write, WriteOptions};
use crate::request::query::Query;
use crate::response::{self, Answer};
use crate::server::Core;
use crate::watch_cache::ResourceCache;

mod encode;
mod list;
mod selection;
mod watch;

pub(crate) use encode::{made, made_list};
pub(crate) use selection::{LateFields, selection};

/// A request that has been authenticated and authorised.
pub(crate) struct Call<'a> {
    pub(crate) core: &'a Arc<Core>,
    /// What was authorised. Whatever this server does itself goes by nothing else of the request line.
    pub(crate) info: &'a RequestInfo,
    pub(crate) query: &'a Query,
    pub(crate) user: &'a User,
    /// The seat of a request that may give it back before it ends.
    seat: &'a Mutex<Option<Seat>>,
    parts: &'a Parts,
}

/// A request line.
pub(crate) struct Line<'a> {
    pub(crate) method: &'a Method,
    /// As the client encoded it.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

/// The body of a request.
pub(crate) enum Incoming {
    /// It was read.
    Read(Bytes),
    /// It goes on to somewhere else as it comes.
    Stream(Body),
}

/// A call to a resource that exists.
pub(crate) struct Routed<'a> {
    pub(crate) call: &'a Call<'a>,
    /// The row in the version of the path.
    pub(crate) row: Arc<Resource>,
    pub(crate) cache: Arc<ResourceCache>,
    pub(crate) accept: Accept,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        core: &'a Arc<Core>,
        parts: &'a Parts,
        info: &'a RequestInfo,
        query: &'a Query,
        user: &'a User,
        seat: &'a Mutex<Option<Seat>>,
    ) -> Self {
        Self { core, info, query, user, seat, parts }
    }

    pub(crate) fn headers(&self) -> &'a HeaderMap {
        &self.parts.headers
    }

    /// The request line as it came, for another server, which reads and authorises it again.
    pub(crate) fn line(&self) -> Line<'a> {
        let uri = &self.parts.uri;
        Line { method: &self.parts.method, path: uri.path(), query: uri.query() }
    }

    /// What is known of the connection that the request came by.
    pub(crate) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.parts.extensions.get()
    }

    /// The path as the client encoded it.
    pub(crate) fn raw_path(&self) -> &'a str {
        self.parts.uri.path()
    }

    /// Whom the client asked: of HTTP/2, the authority.
    pub(crate) fn host(&self) -> Option<HeaderValue> {
        let authority = || HeaderValue::from_str(self.parts.uri.authority()?.as_str()).ok();
        self.headers().get(http::header::HOST).cloned().or_else(authority)
    }

    /// Where the request comes from.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.extension::<PeerAddress>().map(|peer| peer.0)
    }

    /// The query as the client encoded it.
    pub(crate) fn raw_query(&self) -> Option<&'a str> {
        self.parts.uri.query()
    }

    /// The client's side of a connection that leaves HTTP.
    pub(crate) fn upgrade(&self) -> Option<OnUpgrade> {
        self.parts.extensions.get::<OnUpgrade>().cloned()
    }

    pub(crate) fn user_agent(&self) -> Cow<'_, str> {
        header::shown(self.headers(), http::header::USER_AGENT)
    }

    /// Takes the seat out of the request's hands.
    pub(crate) fn take_seat(&self) -> Option<Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn accept(&self, row: &Resource) -> Result<Accept, ApiError> {
        Accept::for_object(self.headers(), self.is_pretty(), Offer::of(row))
    }

    pub(crate) fn is_pretty(&self) -> bool {
        is_pretty(self.query, self.headers())
    }

    pub(crate) fn write_options(&self, what: Write) -> Result<WriteOptions, ApiError> {
        WriteOptions::read(self.query, what, &self.user_agent())
    }
}

impl<'a> Routed<'a> {
    pub(crate) fn registry(&self) -> &'a Registry {
        &self.call.core.registry
    }

    pub(crate) fn target(&self) -> Target<'_> {
        let info = self.call.info;
        let namespace = if self.row.namespaced { info.namespace.as_str() } else { "" };
        Target {
            cache: &self.cache,
            requested: &self.row,
            namespace,
            name: &info.name,
            subresource: &info.subresource,
            user: self.call.user,
        }
    }
}

/// The error for a method that a path does not take.
pub(crate) fn method_not_allowed() -> ApiError {
    ApiError::method_not_allowed("the server does not allow this method on the requested resource")
}

/// Answers a request for a resource.
///
/// What is more than reading an object has a large future, which lies in a box of its own: the future of a request is moved
/// several times before it is polled.
pub(crate) async fn resource(call: &Call<'_>, body: Incoming) -> Result<Answer, ApiError> {
    let info = call.info;
    let catalog = call.core.registry.catalog();
    let Some(row) = catalog.resource(&info.group, &info.version, &info.resource) else {
        // Custom resources have no path until somebody defines them.
        let known = catalog.iter().any(|row| row.group == info.group && !row.is_custom());
        return if known { Err(ApiError::unknown_resource()) } else { Ok(response::page_not_found()) };
    };
    check_place(call, row)?;
    let body = match body {
        Incoming::Read(body) => body,
        // Only what leads to a node is not read here.
        Incoming::Stream(body) => return Box::pin(crate::subresources::connect(call, row, body)).await,
    };
    if !info.subresource.is_empty() {
        let answer = Box::pin(crate::subresources::answer(call, row, body)).await;
        // Of what is not there, nobody is warned; what lies below a custom object is all of its version.
        let is_there = row.is_custom() || row.has_subresource(&info.subresource);
        return if is_there { with_deprecation(row, answer, || call.accept(row).ok()) } else { answer };
    }
    if !is_stored(row) {
        let answer = Box::pin(crate::subresources::virtual_resource(call, row, body)).await;
        return with_deprecation(row, answer, || call.accept(row).ok());
    }
    let storage = catalog.storage_row(row);
    let cache = call.core.registry.resource(storage)?;
    if Verb::from_name(info.verb()).is_some_and(|verb| !row.allows(verb)) {
        return Err(method_not_allowed());
    }
    match (&info.deed, info.is_item) {
        (Deed::Watch, _) => {
            let accept = Accept::for_watch(call.headers(), Offer::of(row))?;
            let routed = Routed { call, row: row.clone(), cache, accept };
            return Box::pin(watch::watch(&routed)).await;
        }
        (Deed::List | Deed::Create | Deed::DeleteCollection, false)
        | (Deed::Get | Deed::Update | Deed::Patch | Deed::Delete, true) => {}
        _ => return Err(not_supported(call, row)),
    }
    let routed = Routed { call, row: row.clone(), cache, accept: call.accept(row)? };
    let answer = dispatch(&routed, body).await;
    with_deprecation(&routed.row, answer, || Some(routed.accept))
}

/// The answer with what clients of old resources are told, also when it is an error. `accept` says how the client wants
/// to be answered, if that can be done.
fn with_deprecation(
    row: &Resource,
    answer: Result<Answer, ApiError>,
    accept: impl FnOnce() -> Option<Accept>,
) -> Result<Answer, ApiError> {
    let warnings = deprecation(row);
    if warnings.is_empty() {
        return answer;
    }
    let mut answer = match (answer, accept()) {
        (Ok(answer), _) => answer,
        (Err(err), Some(accept)) => response::error(&err, accept),
        (Err(err), None) => return Err(err),
    };
    response::add_warnings(answer.headers_mut(), &warnings);
    Ok(answer)
}

/// The error for a method that a resource does not take.
pub(crate) fn not_supported(call: &Call<'_>, row: &Resource) -> ApiError {
    if !row.is_custom() {
        return method_not_allowed();
    }
    let what = row.qualified();
    let text = format!("{} is not supported on resources of kind \"{what}\"", call.info.verb());
    ApiError::method_not_allowed(text).with_details(Details {
        group: what.group.to_owned(),
        kind: what.resource.to_owned(),
        ..Details::default()
    })
}

/// What clients of old resources are told with every answer.
fn deprecation(row: &Resource) -> Vec<String> {
    row.deprecation.iter().map(ToString::to_string).collect()
}

async fn dispatch(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    match &routed.call.info.deed {
        Deed::Get => get(routed).await,
        Deed::List => Box::pin(list(routed)).await,
        Deed::Watch => Box::pin(watch::watch(routed)).await,
        Deed::Create => Box::pin(create(routed, body)).await,
        Deed::Update => Box::pin(update(routed, body)).await,
        Deed::Patch => Box::pin(patch(routed, body)).await,
        Deed::Delete => Box::pin(delete(routed, body)).await,
        Deed::DeleteCollection => Box::pin(delete_collection(routed, body)).await,
        Deed::Connect(_) | Deed::Visit(_) | Deed::Nothing(_) => Err(not_supported(routed.call, &routed.row)),
    }
}

/// A call to a stored resource or one of its subresources.
pub(crate) fn routed<'a>(call: &'a Call<'a>, row: &Arc<Resource>) -> Result<Routed<'a>, ApiError> {
    let registry = &call.core.registry;
    let cache = registry.resource(registry.catalog().storage_row(row))?;
    Ok(Routed { call, row: row.clone(), cache, accept: call.accept(row)? })
}

/// Whether objects of this resource lie in the store.
pub(crate) fn is_stored(row: &Resource) -> bool {
    row.allows(Verb::Watch)
}

/// Refuses paths that mix scopes: an object of a namespaced resource without a namespace, and the reverse.
fn check_place(call: &Call<'_>, row: &Resource) -> Result<(), ApiError> {
    let info = call.info;
    if !info.tail.is_empty() && !matches!(info.subresource.as_str(), "proxy") {
        return Err(ApiError::unknown_resource());
    }
    // Nothing below an object is watched, and what is answered at once neither.
    if info.by_prefix && (!info.subresource.is_empty() || !is_stored(row)) {
        return Err(ApiError::unknown_resource());
    }
    // A slash within a part would make it another key of the store.
    let parts = [&info.namespace, &info.resource, &info.name, &info.subresource];
    if info.has_gaps || parts.iter().any(|part| part.contains('/')) {
        return Err(ApiError::unknown_resource());
    }
    if row.namespaced {
        if info.namespace.is_empty() {
            if info.in_any_namespace && (info.is_item || info.deed == Deed::Create) {
                let when = if info.is_item { "when a resource name is provided" } else { "during creation" };
                return Err(ApiError::bad_request(format!("an empty namespace may not be set {when}")));
            }
            if info.is_item || !info.subresource.is_empty() {
                return Err(ApiError::unknown_resource());
            }
            if !matches!(info.deed, Deed::List | Deed::Watch) {
                return Err(method_not_allowed());
            }
        }
    } else if info.in_namespace || info.in_any_namespace {
        return Err(ApiError::unknown_resource());
    }
    Ok(())
}

pub(crate) async fn get(routed: &Routed<'_>) -> Result<Answer, ApiError> {
    let version = routed.call.query.get("resourceVersion").unwrap_or("");
    let cached = routed.registry().get(&routed.target(), version).await?;
    zipped(routed, encode::cached(routed, StatusCode::OK, &cached).await?).await
}

/// The answer to a read, compressed if it is large and the client can take it.
async fn zipped(routed: &Routed<'_>, answer: Answer) -> Result<Answer, ApiError> {
    Ok(if accepts_gzip(routed.call.headers()) { response::compressed(answer).await } else { answer })
}

async fn list(routed: &Routed<'_>) -> Result<Answer, ApiError> {
    let options = ListOptions::read(routed.call.query, false)?;
    let list = listed(routed, &options).await?;
    list::answer(routed, list).await
}

/// The objects that a request selects.
async fn listed(routed: &Routed<'_>, options: &ListOptions) -> Result<List, ApiError> {
    let mut selection = selection(routed)?;
    let late = LateFields::take(routed, &mut selection);
    let list = routed.registry().list(&routed.cache, &selection, options).await?;
    match late {
        Some(late) => late.narrow(list).await,
        None => Ok(list),
    }
}

async fn create(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    let options = routed.call.write_options(Write::Create)?;
    let mut warnings = Vec::new();
    let object = decode_body(routed, &body, &options, &mut warnings)?;
    let written = routed.registry().create(&routed.target(), object, &options, &mut warnings).await;
    let answer = match written {
        Ok(written) => encode::written(routed, StatusCode::CREATED, &written).await,
        Err(err) => Err(err),
    };
    Ok(with_warnings(routed.accept, answer, &warnings))
}

pub(crate) async fn update(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    let options = routed.call.write_options(Write::Update)?;
    let mut warnings = Vec::new();
    let mut object = decode_body(routed, &body, &options, &mut warnings)?;
    crate::registry::check_named(&routed.call.info.name, &mut object)?;
    let updated = routed.registry().update(&routed.target(), object, &options, &mut warnings).await;
    Ok(finish_update(routed, updated, &warnings).await)
}

async fn finish_update(routed: &Routed<'_>, updated: Result<Updated, ApiError>, warnings: &[String]) -> Answer {
    let answer = match updated {
        Ok(updated) => {
            let status = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
            encode::written(routed, status, &updated.written).await
        }
        Err(err) => Err(err),
    };
    with_warnings(routed.accept, answer, warnings)
}

/// Clients are warned whether or not the request succeeds.
pub(crate) fn with_warnings(accept: Accept, answer: Result<Answer, ApiError>, warnings: &[String]) -> Answer {
    let mut answer = answer.unwrap_or_else(|err| response::error(&err, accept));
    response::add_warnings(answer.headers_mut(), warnings);
    answer
}

pub(crate) async fn patch(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    let kind = patch_type(routed.call.headers(), routed.row.is_custom())?;
    let options = routed.call.write_options(Write::Patch { apply: kind == PatchType::Apply })?;
    let mut warnings = Vec::new();
    let patch = Patch { kind, body };
    let updated = routed.registry().patch(&routed.target(), &patch, &options, &mut warnings).await;
    Ok(finish_update(routed, updated, &warnings).await)
}

async fn delete(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    let options = delete_options(routed.call, &body)?;
    let mut warnings = silent_deletion(routed, &options);
    let deleted = routed.registry().delete(&routed.target(), &options, &mut warnings).await;
    let answer = match deleted {
        Ok(deleted) => encode::deleted(routed, &options, &deleted).await,
        Err(err) => Err(err),
    };
    Ok(with_warnings(routed.accept, answer, &warnings))
}

async fn delete_collection(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    let list_options = ListOptions::read(routed.call.query, false)?;
    let options = delete_options(routed.call, &body)?;
    let mut warnings = silent_deletion(routed, &options);
    let list = listed(routed, &list_options).await?;
    let list = routed.registry().delete_collection(&routed.target(), list, &options, &mut warnings).await;
    let answer = match list {
        Ok(list) => list::answer(routed, list).await,
        Err(err) => Err(err),
    };
    Ok(with_warnings(routed.accept, answer, &warnings))
}

/// What a client is told that does not say what shall happen to dependents.
fn silent_deletion(routed: &Routed<'_>, options: &DeleteOptions) -> Vec<String> {
    let silent = options.propagation.is_none() && options.orphan_dependents.is_none();
    let warning = routed.row.strategy.silent_deletion_warning().filter(|_| silent);
    warning.map(str::to_owned).into_iter().collect()
}

/// The format of a patch, by its content type. Strategic merge patches need Go structs, which custom resources lack.
pub(crate) fn patch_type(headers: &HeaderMap, custom: bool) -> Result<PatchType, ApiError> {
    match content_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ if custom => Err(ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(ApiError::unsupported_media_type("415: Unsupported Media Type").with_details(Details::default())),
    }
}

fn delete_options(call: &Call<'_>, bytes: &Bytes) -> Result<DeleteOptions, ApiError> {
    let object = if bytes.is_empty() { None } else { Some(decode::delete_options(call.headers(), bytes)?) };
    DeleteOptions::read(call.query, object)
}

/// Decodes a body of the resource's kind, in the version that the registry works with, with defaults.
pub(crate) fn decode_body(
    routed: &Routed<'_>,
    body: &Bytes,
    options: &WriteOptions,
    warnings: &mut Vec<String>,
) -> Result<api::Object, ApiError> {
    let object = decode::body(&routed.row, routed.call.headers(), body, options.field_validation, warnings)?;
    let target = routed.target();
    let mut object = routed.registry().catalog().convert(&routed.row, target.row(), object)?;
    target.row().strategy.default(&mut object);
    Ok(object)
}
