//! Lists as answers. A short one is written at once; the body of a long one is a snapshot and a place in it, and is
//! written as its client reads. Upstream: `handlers.ListResource`, `StreamingCollectionEncoding`.
//!
//! ```text
//! snapshot ─▶ cursor ─▶ form: one item in shape and encoding ─▶ chunk ─▶ gzip ─▶ HTTP
//!                                                               └─ only when HTTP has room for it
//! ```

mod body;
mod envelope;
mod form;

use api::{ApiError, Object};
use http::header::{CONTENT_ENCODING, HeaderValue};
use http::{Response, StatusCode};

use self::body::{ListBody, Pieces};
use self::envelope::Envelope;
use self::form::Form;
use super::encode::Shaper;
use crate::call::Routed;
use crate::registry::{Cursor, Items, List};
use crate::request::negotiate::{Encoding, accepts_gzip};
use crate::response::{self, Answer};

/// About so many bytes are written at a time.
const CHUNK: usize = 32 * 1024;
/// Objects of so many bytes are not copied into chunks.
const LARGE: usize = 2 * CHUNK;
/// No more of the store's bytes are looked into for one chunk, and no more objects. Who reads on, comes again.
const SOURCE: usize = 1 << 20;
const LOOKED: usize = 20_000;
/// So many objects are sent to a conversion webhook at a time.
const BATCH: usize = 500;
/// What must be made before it is sent, because it may fail, has no more bytes.
const GATHERED: usize = 256 << 20;

/// Answers with a list.
pub(super) async fn answer(routed: &Routed<'_>, list: List) -> Result<Answer, ApiError> {
    let zips = accepts_gzip(routed.call.headers());
    let custom = routed.client_row.is_custom();
    let form = Form::of(routed, Shaper::of(routed)?, &list)?;
    if custom && !form::is_metadata(routed.accept.shape) && needs_webhook(routed, &list.items) {
        let bytes = gathered(routed, form, &list).await?;
        let answer = response::with_type(StatusCode::OK, routed.accept.encoding.content_type(), bytes.into());
        return Ok(if zips { response::compressed(answer).await } else { answer });
    }
    let envelope = match routed.accept.encoding {
        Encoding::Protobuf => protobuf_envelope(&form, &list.items).await?,
        _ => form.envelope(None)?,
    };
    let body = ListBody::new(form, envelope, Cursor::new(list.items));
    send(routed, body, zips).await
}

/// Sends what was written up to the size from which on answers are streamed, and the rest as it is read.
async fn send(routed: &Routed<'_>, mut body: ListBody, zips: bool) -> Result<Answer, ApiError> {
    let enough = if zips { response::GZIP_FROM + 1 } else { CHUNK };
    let mut begun = Pieces::new(!zips);
    while !body.is_done() && begun.len() < enough {
        let before = begun.len();
        body.write(&mut begun, enough)?;
        if begun.len() == before {
            tokio::task::yield_now().await;
        }
    }
    let kind = routed.accept.encoding.content_type();
    if body.is_done() {
        let answer = response::with_type(StatusCode::OK, kind, begun.whole());
        return Ok(if zips { response::compressed(answer).await } else { answer });
    }
    let mut answer = response::with_type(StatusCode::OK, kind, bytes::Bytes::new());
    if zips {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let (parts, _) = answer.into_parts();
    let body = body.behind(begun, zips).map_err(ApiError::internal)?;
    Ok(Response::from_parts(parts, axum::body::Body::new(body)))
}

/// Whether a webhook must be asked before all items can be shown.
fn needs_webhook(routed: &Routed<'_>, items: &Items) -> bool {
    let elsewhere = routed.client_row.custom.as_ref().is_some_and(|custom| custom.is_converted_elsewhere());
    let wanted = routed.client_row.api_version();
    elsewhere && items.iter().any(|cached| cached.api_version() != wanted)
}

/// The whole list: a webhook that fails must not be found out in the midst of an answer.
async fn gathered(routed: &Routed<'_>, form: Form, list: &List) -> Result<Vec<u8>, ApiError> {
    let mut envelope = form.envelope(None)?;
    let mut cursor = Cursor::new(list.items.clone());
    let mut items = Vec::new();
    while !cursor.is_at_end() {
        let mut batch: Vec<Object> = Vec::new();
        cursor.read(LOOKED, |cached| {
            batch.push(cached.object());
            Ok::<_, ApiError>(batch.len() < BATCH)
        })?;
        for object in routed.registry().convert(routed.stored_row(), &routed.client_row, batch).await? {
            let is_first = items.is_empty();
            form.write_object(object, is_first, &mut items)?;
            if items.len() > GATHERED {
                let why = format!("the list has more than {GATHERED} bytes that a webhook converts: ask for pages");
                return Err(ApiError::too_large(why));
            }
        }
    }
    if items.is_empty() {
        envelope = form.empty(envelope);
    }
    Ok([envelope.head, items, envelope.tail].concat())
}

/// The head of a protobuf list says how long the items are.
async fn protobuf_envelope(form: &Form, items: &Items) -> Result<Envelope, ApiError> {
    let mut cursor = Cursor::new(items.clone());
    let mut length = 0;
    while !cursor.is_at_end() {
        let mut source = 0;
        cursor.read(LOOKED, |cached| {
            length += form.encoded_size(cached)?;
            source += cached.size();
            Ok::<_, ApiError>(source < SOURCE)
        })?;
        tokio::task::yield_now().await;
    }
    form.envelope(Some(length))
}
