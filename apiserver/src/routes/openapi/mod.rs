//! OpenAPI: v3 as an index and one document a group and version, v2 as one document of everything, each in JSON and as
//! a protobuf message. Upstream: `kube-openapi/pkg/handler3`; KEP-2896.
//!
//! The index of v3 lists what aggregated servers have, and requests for their documents go there. The document of v2
//! has a part of theirs.

#[cfg(test)]
mod tests;

use api::ApiError;
use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};
use jiff::{Timestamp, ToSpan as _, fmt::rfc2822, tz::TimeZone};

use crate::aggregator;
use crate::call::{Call, Incoming};
use crate::documents::{Document, Elsewhere, Which};
use crate::proxy;
use crate::request::headers as header;
use crate::request::negotiate::{accepts_gzip, sorted_by_quality};
use crate::response::{self, Answer};

/// The type of the v2 message; the first is how clients from before v1.28 write it.
const V2_MESSAGE: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
/// The same of v3.
const V3_MESSAGE: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
];

fn content_type(which: &Which) -> &'static str {
    match which {
        Which::V2Message => V2_MESSAGE[1],
        Which::V3Message { .. } => V3_MESSAGE[1],
        Which::V2 | Which::V3 { .. } => "application/json",
        // As the reference, which tells no type of the index and so sends the one that its looks suggest.
        Which::V3Index => "text/plain; charset=utf-8",
    }
}

/// Answers a path below `/openapi/`.
pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let path = call.info.path.trim_end_matches('/');
    let (table, catalog) = (call.core.aggregator.table(), call.core.registry.catalog());
    if let Some(place) = path.strip_prefix("/openapi/v3/")
        && let Some(claim) = aggregator::of_document(&table, &catalog, place)
    {
        return proxy::aggregated::answer(call, &claim, Incoming::Read(Bytes::new())).await;
    }
    let message = match path {
        "/openapi/v2" => form(call.headers(), &V2_MESSAGE),
        "/openapi/v3" => Some(false),
        _ => form(call.headers(), &V3_MESSAGE),
    };
    let Some(message) = message else { return Ok(response::nothing(StatusCode::NOT_ACCEPTABLE)) };
    let which = match (path, message) {
        ("/openapi/v2", false) => Which::V2,
        ("/openapi/v2", true) => Which::V2Message,
        ("/openapi/v3", _) => Which::V3Index,
        _ => match (path.strip_prefix("/openapi/v3/").map(str::to_owned), message) {
            (None, _) => return Ok(response::page_not_found()),
            (Some(place), false) => Which::V3 { place },
            (Some(place), true) => Which::V3Message { place },
        },
    };
    if matches!(which, Which::V2 | Which::V2Message) {
        let parts = aggregator::parts(&table).await;
        if !parts.is_empty() {
            let hashes: Vec<u8> = parts.iter().flat_map(|part| part.hash).collect();
            let read = move || parts.iter().filter_map(|part| part.read()).collect();
            let document = call.core.documents.merged(&call.core.registry, &which, &hashes, read).await?;
            return send(call, &which, document);
        }
    }
    let elsewhere = if which == Which::V3Index { aggregator::places(&table, &catalog) } else { Elsewhere::new() };
    let document = match elsewhere.is_empty() {
        true => call.core.documents.get(&call.core.registry, &which).await?,
        false => Some(call.core.documents.index(&catalog, &elsewhere)?),
    };
    document.map_or_else(|| Ok(response::no_document()), |document| send(call, &which, document))
}

/// Whether the client wants the message of these types rather than JSON; `None` when it accepts neither.
fn form(headers: &HeaderMap, message: &[&str]) -> Option<bool> {
    let header = header::shown(headers, ACCEPT);
    sorted_by_quality(&header).iter().find_map(|clause| match clause.split(';').next().unwrap_or("").trim() {
        "" | "*/*" | "application/*" | "application/json" => Some(false),
        clause => message.contains(&clause).then_some(true),
    })
}

fn send(call: &Call<'_>, which: &Which, document: Document) -> Result<Answer, ApiError> {
    let hash = call.query.get("hash").filter(|hash| !hash.is_empty());
    // A URL with a document's hash never means another document.
    if let (Some(place), Some(hash)) = (which.place(), hash)
        && *hash != *document.hash
    {
        let mut moved = response::nothing(StatusCode::MOVED_PERMANENTLY);
        let now = format!("/openapi/v3/{place}?hash={}", document.hash);
        moved.headers_mut().insert(LOCATION, HeaderValue::try_from(now).map_err(ApiError::internal)?);
        return Ok(moved);
    }
    let tag = HeaderValue::try_from(format!("\"{}\"", document.hash)).map_err(ApiError::internal)?;
    let mut answer = if is_known(call.headers(), &document.hash) {
        response::nothing(StatusCode::NOT_MODIFIED)
    } else if accepts_gzip(call.headers()) {
        let mut answer = response::with_type(StatusCode::OK, content_type(which), document.text.zipped);
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        let mut answer = response::with_type(StatusCode::OK, content_type(which), Bytes::new());
        answer.headers_mut().insert(CONTENT_LENGTH, document.text.length.into());
        *answer.body_mut() = Body::from_stream(document.text.unpacked());
        answer
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    if which.place().is_some() && hash.is_some() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        headers.insert(EXPIRES, HeaderValue::try_from(in_a_year()).map_err(ApiError::internal)?);
    }
    Ok(answer)
}

/// Whether the client has the document of that hash already.
fn is_known(headers: &HeaderMap, hash: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| {
        let named = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        tag == "*" || named == Some(hash)
    })
}

fn in_a_year() -> String {
    let then = Timestamp::now().to_zoned(TimeZone::UTC).saturating_add(1.year());
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&then.timestamp()).unwrap_or_default()
}
