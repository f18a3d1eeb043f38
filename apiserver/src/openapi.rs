//! OpenAPI: v3 as an index and one document a group and version, v2 as one document of everything, in JSON and as the
//! protobuf message that `kubectl` asks for. Documents are made when first asked for, and kept compressed.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use api::ApiError;
use api::catalog::Catalog;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};
use jiff::{Timestamp, ToSpan as _, fmt::rfc2822, tz::TimeZone};
use sha2::{Digest as _, Sha256};

use crate::handler::Call;
use crate::negotiate::accepts_gzip;
use crate::response::{self, Answer};

/// The type of the v2 message; the first is how clients from before v1.28 write it.
const V2_MESSAGE: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    V2,
    V2Message,
    V3 { group: String, version: String },
}

impl Which {
    /// A hash of what the document is made of.
    fn hash(&self, catalog: &Catalog) -> String {
        match self {
            Self::V2 | Self::V2Message => {
                let all = Sha256::digest(api::openapi::v2::hash_of_all(catalog));
                all.iter().map(|byte| format!("{byte:02X}")).collect()
            }
            Self::V3 { group, version } => api::openapi::hash(catalog, group, version),
        }
    }

    fn make(&self, catalog: &Catalog) -> Option<Vec<u8>> {
        let document = match self {
            Self::V2 => api::openapi::v2::document(catalog),
            Self::V2Message => {
                return Some(api::openapi::message::encode(&api::openapi::v2::document(catalog)));
            }
            Self::V3 { group, version } => api::openapi::document(catalog, group, version)?,
        };
        Some(serde_json::to_vec(&document).expect("JSON trees with string keys always serialise"))
    }

    fn content_type(&self) -> &'static str {
        match self {
            Self::V2Message => V2_MESSAGE[1],
            Self::V2 | Self::V3 { .. } => "application/json",
        }
    }
}

/// A document, and the hash of what it was made of.
#[derive(Clone, Debug)]
struct Document {
    hash: String,
    zipped: Bytes,
}

/// The documents that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Documents(Mutex<HashMap<Which, Document>>);

impl Documents {
    /// The document for the catalog as it is now; `None` when there is none. Takes its time when it is new.
    fn get(&self, catalog: &Catalog, which: &Which) -> Result<Option<Document>, ApiError> {
        let hash = which.hash(catalog);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(which).cloned();
        if let Some(document) = known.filter(|document| document.hash == hash) {
            return Ok(Some(document));
        }
        let Some(bytes) = which.make(catalog) else { return Ok(None) };
        let zipped = response::gzip(&bytes).map_err(ApiError::internal)?.into();
        let document = Document { hash, zipped };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(which.clone(), document.clone());
        Ok(Some(document))
    }
}

/// Answers a path below `/openapi/`.
pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let path = call.info.path.trim_end_matches('/');
    let catalog = call.core.registry.catalog();
    let parts: Vec<&str> = path.trim_start_matches("/openapi/").split('/').collect();
    let v3 = |group: &str, version: &str| Which::V3 { group: group.to_owned(), version: version.to_owned() };
    let which = match parts.as_slice() {
        ["v2"] => v2_form(call.headers())?,
        ["v3"] => {
            let bytes = serde_json::to_vec(&api::openapi::index(&catalog)).map_err(ApiError::internal)?;
            return Ok(response::with_type(StatusCode::OK, "text/plain; charset=utf-8", bytes.into()));
        }
        ["v3", "api", version] => v3("", version),
        ["v3", "apis", group, version] => v3(group, version),
        ["v3", ..] => return Ok(response::no_document()),
        _ => return Ok(response::page_not_found()),
    };
    let (core, wanted) = (call.core.clone(), which.clone());
    let made = tokio::task::spawn_blocking(move || core.documents.get(&catalog, &wanted));
    let document = made.await.map_err(ApiError::internal)??;
    document.map_or_else(|| Ok(response::no_document()), |document| send(call, &which, document))
}

/// The form of the v2 document that the client accepts.
fn v2_form(headers: &HeaderMap) -> Result<Which, ApiError> {
    let header = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    for clause in header.split(',').map(|clause| clause.split(';').next().unwrap_or("").trim()) {
        match clause {
            "" | "*/*" | "application/*" | "application/json" => return Ok(Which::V2),
            clause if V2_MESSAGE.contains(&clause) => return Ok(Which::V2Message),
            _ => {}
        }
    }
    let forms = format!("application/json, {}", V2_MESSAGE[1]);
    Err(ApiError::not_acceptable(format!("only the following media types are accepted: {forms}")))
}

fn send(call: &Call<'_>, which: &Which, document: Document) -> Result<Answer, ApiError> {
    let tag = HeaderValue::try_from(format!("\"{}\"", document.hash)).map_err(ApiError::internal)?;
    let unchanged = call.headers().get_all(IF_NONE_MATCH).iter().any(|known| known == tag);
    let mut answer = if unchanged {
        response::nothing(StatusCode::NOT_MODIFIED)
    } else if accepts_gzip(call.headers()) {
        let mut answer = response::with_type(StatusCode::OK, which.content_type(), document.zipped);
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        let mut bytes = Vec::new();
        GzDecoder::new(document.zipped.as_ref()).read_to_end(&mut bytes).map_err(ApiError::internal)?;
        response::with_type(StatusCode::OK, which.content_type(), bytes.into())
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    // A URL with the document's hash never means another document.
    if call.query.get("hash") == Some(document.hash.as_str()) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        headers.insert(EXPIRES, HeaderValue::try_from(in_a_year()).map_err(ApiError::internal)?);
    }
    Ok(answer)
}

fn in_a_year() -> String {
    let then = Timestamp::now().to_zoned(TimeZone::UTC).saturating_add(1.year());
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&then.timestamp()).unwrap_or_default()
}
