//! Requests for resources: the row of the path, and what answers for it. Upstream: `endpoints.APIInstaller`.

use api::resource::Verb;
use api::{ApiError, Resource};
use bytes::Bytes;

use crate::call::{Call, Incoming, Routed, method_not_allowed, not_supported};
use crate::request::info::Deed;
use crate::request::negotiate::{Accept, Offer};
use crate::response::{self, Answer};
use crate::watch_cache::is_cached;
use crate::{handler, subresources};

/// Answers a request for a resource.
///
/// What is more than reading an object has a large future, which lies in a box of its own: the future of a request is moved
/// several times before it is polled.
pub(crate) async fn answer(call: &Call<'_>, body: Incoming) -> Result<Answer, ApiError> {
    let info = call.info;
    let catalog = call.core.registry.catalog();
    let Some(row) = catalog.resource(&info.group, &info.version, &info.resource) else {
        // Custom resources have no path until somebody defines them.
        let known = catalog.iter().any(|row| row.group == info.group && !row.is_custom());
        return if known { Err(ApiError::unknown_resource()) } else { Ok(response::page_not_found()) };
    };
    check_place(call, row)?;
    if row.deprecation.is_some() {
        call.core.metrics.deprecated(row, &info.subresource);
    }
    let body = match body {
        Incoming::Read(body) => body,
        // Only what leads to a node is not read here.
        Incoming::Stream(body) => return Box::pin(subresources::connect(call, row, body)).await,
    };
    if !info.subresource.is_empty() {
        let answer = Box::pin(subresources::answer(call, row, body)).await;
        // Of what is not there, nobody is warned; what lies below a custom object is all of its version.
        let is_there = row.is_custom() || row.has_subresource(&info.subresource);
        return if is_there { with_deprecation(row, answer, || call.accept(row).ok()) } else { answer };
    }
    if !is_cached(row) {
        let answer = Box::pin(subresources::virtual_resource(call, row, body)).await;
        return with_deprecation(row, answer, || call.accept(row).ok());
    }
    let cache = call.core.registry.resource(catalog.storage_row(row))?;
    if Verb::from_name(info.verb()).is_some_and(|verb| !row.allows(verb)) {
        return Err(method_not_allowed());
    }
    match (&info.deed, info.is_item) {
        (Deed::Watch, _) => {
            let accept = Accept::for_watch(call.headers(), Offer::of(row))?;
            let routed = Routed { call, client_row: row.clone(), cache, accept };
            let answer = Box::pin(handler::watch(&routed)).await;
            return with_deprecation(row, answer, || None);
        }
        (Deed::List | Deed::Create | Deed::DeleteCollection, false)
        | (Deed::Get | Deed::Update | Deed::Patch | Deed::Delete, true) => {}
        _ => return Err(not_supported(call, row)),
    }
    let routed = Routed { call, client_row: row.clone(), cache, accept: call.accept(row)? };
    let answer = dispatch(&routed, body).await;
    with_deprecation(&routed.client_row, answer, || Some(routed.accept))
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

/// What clients of old resources are told with every answer.
fn deprecation(row: &Resource) -> Vec<String> {
    row.deprecation.iter().map(ToString::to_string).collect()
}

async fn dispatch(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    match &routed.call.info.deed {
        Deed::Get => handler::get(routed).await,
        Deed::List => Box::pin(handler::list(routed)).await,
        Deed::Watch => Box::pin(handler::watch(routed)).await,
        Deed::Create => Box::pin(handler::create(routed, body)).await,
        Deed::Update => Box::pin(handler::update(routed, body)).await,
        Deed::Patch => Box::pin(handler::patch(routed, body)).await,
        Deed::Delete => Box::pin(handler::delete(routed, body)).await,
        Deed::DeleteCollection => Box::pin(handler::delete_collection(routed, body)).await,
        Deed::Connect(_) | Deed::Visit(_) | Deed::Nothing(_) => Err(not_supported(routed.call, &routed.client_row)),
    }
}

/// Refuses paths that mix scopes: an object of a namespaced resource without a namespace, and the reverse.
fn check_place(call: &Call<'_>, row: &Resource) -> Result<(), ApiError> {
    let info = call.info;
    if !info.tail.is_empty() && !matches!(info.subresource.as_str(), "proxy") {
        return Err(ApiError::unknown_resource());
    }
    // Nothing below an object is watched, and what is answered at once neither.
    if info.by_prefix && (!info.subresource.is_empty() || !is_cached(row)) {
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
