//! Answers: bytes with their headers, and the one place where errors become HTTP. Upstream: `handlers/responsewriters`.

mod order;

use std::collections::HashSet;
use std::io::Write as _;

use api::codec::protobuf;
use api::{ApiError, Object};
use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use crate::request::negotiate::{Accept, Encoding};
use order::InOrder;

/// Answers larger than this are compressed for clients that can take it (upstream's threshold).
pub(crate) const GZIP_FROM: usize = 128 * 1024;

/// An answer of this server.
pub(crate) type Answer = Response<Body>;

/// JSON bytes that were made before.
pub(crate) fn json_bytes(status: StatusCode, bytes: Bytes) -> Answer {
    with_type(status, Encoding::Json.content_type(), bytes)
}

/// A tree in the encoding that the client accepts.
pub(crate) fn value(status: StatusCode, accept: Accept, tree: &Value) -> Answer {
    let bytes = match accept.encoding {
        Encoding::Json if accept.pretty => serde_json::to_vec_pretty(&InOrder(tree)).map_err(|err| err.to_string()),
        // Go's encoder ends what is not for people with a new line.
        Encoding::Json => serde_json::to_vec(&InOrder(tree)).map_err(|err| err.to_string()).map(|mut bytes| {
            bytes.push(b'\n');
            bytes
        }),
        Encoding::Yaml => yaml(tree),
        Encoding::Protobuf => match protobuf::encode(tree) {
            // What has no message is sent as JSON, whatever was asked for: `/version`, the list of paths.
            Err(protobuf::Error::UnknownKind { .. }) => {
                return value(status, Accept { encoding: Encoding::Json, ..accept }, tree);
            }
            encoded => encoded.map_err(|err| err.to_string()),
        },
    };
    match bytes {
        Ok(bytes) => with_type(status, accept.encoding.content_type(), bytes.into()),
        Err(err) => error(&ApiError::internal(err), Accept::default()),
    }
}

/// Writes YAML as Go's `sigs.k8s.io/yaml` does: keys sorted, block style.
fn yaml(tree: &Value) -> Result<Vec<u8>, String> {
    api::codec::to_yaml(tree).map(String::into_bytes).map_err(|err| err.to_string())
}

/// An error as its `Status`.
pub(crate) fn error(err: &ApiError, accept: Accept) -> Answer {
    let code = StatusCode::from_u16(err.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = value(code, accept, &err.to_value());
    let retry = err.status().details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry));
    }
    answer
}

/// `Status` of success, as DELETE answers.
pub(crate) fn success(details: Value) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

/// A status with nothing else.
pub(crate) fn nothing(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// The answer for a document that there is not.
pub(crate) fn no_document() -> Answer {
    nothing(StatusCode::NOT_FOUND)
}

/// The answer for a path that nothing serves.
pub(crate) fn page_not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// A body of any type.
pub(crate) fn with_type(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Body::from(bytes));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// The bytes of an object.
pub(crate) fn object_bytes(object: &Object) -> Bytes {
    serde_json::to_vec(object.root()).expect("JSON trees with string keys always serialise").into()
}

/// Adds `Warning: 299 - "text"` headers, each text once. When they are long, each is cut, and then those that come last
/// are left out, as by the reference: clients refuse answers whose headers are too large.
pub(crate) fn add_warnings(headers: &mut HeaderMap, warnings: &[String]) {
    const ALL: usize = 4 * 1024;
    const ONE: usize = 256;
    let mut seen = HashSet::new();
    let texts: Vec<&str> = warnings.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
    let total: usize = texts.iter().map(|text| text.chars().count()).sum();
    let mut written = 0;
    for text in texts {
        let end = text.char_indices().nth(ONE).filter(|_| total > ALL).map_or(text.len(), |(end, _)| end);
        let text = &text[..end];
        if written >= ALL {
            break;
        }
        written += text.chars().count();
        let escaped: String = text.chars().filter(|c| !c.is_control()).collect();
        let escaped = escaped.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            headers.append(WARNING, header);
        }
    }
}

/// Compresses a large body that is at hand as a whole.
pub(crate) async fn compressed(answer: Answer) -> Answer {
    use http_body::Body as _;
    let large = answer.body().size_hint().exact().is_some_and(|size| size as usize > GZIP_FROM);
    if !large || answer.headers().contains_key(CONTENT_ENCODING) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return error(&ApiError::internal("the answer could not be read"), Accept::default());
    };
    let zipped = tokio::task::spawn_blocking(move || gzip(&bytes)).await;
    match zipped {
        Ok(Ok(zipped)) => {
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Response::from_parts(parts, Body::from(zipped))
        }
        _ => error(&ApiError::internal("the answer could not be compressed"), Accept::default()),
    }
}

/// Compresses bytes.
pub(crate) fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}
