//! OpenAPI: v3 as an index and one document a group and version, v2 as one document of everything, each in JSON and as
//! a protobuf message. Documents are made when first asked for, and kept compressed.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::ApiError;
use api::catalog::Catalog;
use api::openapi::message;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};
use jiff::{Timestamp, ToSpan as _, fmt::rfc2822, tz::TimeZone};
use sha2::{Digest as _, Sha256};

use crate::handler::Call;
use crate::headers as header;
use crate::negotiate::{accepts_gzip, sorted_by_quality};
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

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    V2,
    V2Message,
    /// Where all others are.
    V3Index,
    V3 {
        place: String,
    },
    V3Message {
        place: String,
    },
}

impl Which {
    /// A hash of what the document is made of.
    fn hash(&self, catalog: &Catalog) -> String {
        match self {
            Self::V2 | Self::V2Message | Self::V3Index => {
                let all = Sha256::digest(api::openapi::v2::hash_of_all(catalog));
                all.iter().map(|byte| format!("{byte:02X}")).collect()
            }
            Self::V3 { place } | Self::V3Message { place } => api::openapi::hash(catalog, place),
        }
    }

    /// Where the document is below `/openapi/v3/`, if it is one of those.
    fn place(&self) -> Option<&str> {
        match self {
            Self::V3 { place } | Self::V3Message { place } => Some(place),
            Self::V2 | Self::V2Message | Self::V3Index => None,
        }
    }

    fn make(&self, catalog: &Catalog) -> Option<Vec<u8>> {
        let document = match self {
            Self::V2 => api::openapi::v2::document(catalog),
            Self::V2Message => return Some(message::v2::encode(&api::openapi::v2::document(catalog))),
            Self::V3Index => api::openapi::index(catalog),
            Self::V3 { place } => api::openapi::document(catalog, place)?,
            Self::V3Message { place } => return Some(message::v3::encode(&api::openapi::document(catalog, place)?)),
        };
        Some(serde_json::to_vec(&document).expect("JSON trees with string keys always serialise"))
    }

    fn content_type(&self) -> &'static str {
        match self {
            Self::V2Message => V2_MESSAGE[1],
            Self::V3Message { .. } => V3_MESSAGE[1],
            Self::V2 | Self::V3 { .. } => "application/json",
            // As the reference, which tells no type of the index and so sends the one that its looks suggest.
            Self::V3Index => "text/plain; charset=utf-8",
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
pub(crate) struct Documents(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    documents: HashMap<Which, Document>,
    /// What was served when the last document was made.
    catalog: Option<Catalog>,
}

impl Documents {
    /// The document for the catalog as it is now; `None` when there is none. Takes its time when it is new.
    fn get(&self, catalog: &Catalog, which: &Which) -> Result<Option<Document>, ApiError> {
        let hash = which.hash(catalog);
        let known = self.kept().documents.get(which).cloned();
        if let Some(document) = known.filter(|document| document.hash == hash) {
            return Ok(Some(document));
        }
        let Some(bytes) = which.make(catalog) else { return Ok(None) };
        let zipped = response::gzip(&bytes).map_err(ApiError::internal)?.into();
        let document = Document { hash, zipped };
        let mut kept = self.kept();
        if !kept.catalog.as_ref().is_some_and(|known| known.is(catalog)) {
            // Groups of custom resources come and go.
            kept.documents.retain(|which, _| which.place().is_none_or(|place| api::openapi::is_served(catalog, place)));
            kept.catalog = Some(catalog.clone());
        }
        kept.documents.insert(which.clone(), document.clone());
        Ok(Some(document))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a path below `/openapi/`.
pub(crate) async fn answer(call: &Call<'_>) -> Result<Answer, ApiError> {
    let catalog = call.core.registry.catalog();
    let path = call.info.path.trim_end_matches('/');
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
            (Some(place), _) if !api::openapi::is_served(&catalog, &place) => return Ok(response::no_document()),
            (Some(place), false) => Which::V3 { place },
            (Some(place), true) => Which::V3Message { place },
        },
    };
    let (core, wanted) = (call.core.clone(), which.clone());
    let made = tokio::task::spawn_blocking(move || core.documents.get(&catalog, &wanted));
    let document = made.await.map_err(ApiError::internal)??;
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
        && hash != document.hash
    {
        let mut moved = response::nothing(StatusCode::MOVED_PERMANENTLY);
        let now = api::openapi::url(&call.core.registry.catalog(), place);
        moved.headers_mut().insert(LOCATION, HeaderValue::try_from(now).map_err(ApiError::internal)?);
        return Ok(moved);
    }
    let tag = HeaderValue::try_from(format!("\"{}\"", document.hash)).map_err(ApiError::internal)?;
    let mut answer = if is_known(call.headers(), &document.hash) {
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
