//! The verbs (upstream's `endpoints/handlers`): from a routed request to the registry, and back to an answer.

use api::ApiError;
use api::patch::PatchType;
use api::status::Details;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::call::{Call, Routed, with_warnings};
use crate::registry::{List, Patch, Updated};
use crate::request::decode;
use crate::request::negotiate::{accepts_gzip, content_type};
use crate::request::options::{DeleteOptions, ListOptions, Write, WriteOptions};
use crate::response::{self, Answer};

mod encode;
mod list;
mod selection;
mod watch;

pub(crate) use encode::{made, made_list};
pub(crate) use selection::{LateFields, selection};
pub(crate) use watch::watch;

pub(crate) async fn get(routed: &Routed<'_>) -> Result<Answer, ApiError> {
    let version = routed.call.query.get("resourceVersion").unwrap_or("");
    let cached = routed.registry().get(&routed.target(), version).await?;
    zipped(routed, encode::cached(routed, StatusCode::OK, &cached).await?).await
}

/// The answer to a read, compressed if it is large and the client can take it.
async fn zipped(routed: &Routed<'_>, answer: Answer) -> Result<Answer, ApiError> {
    Ok(if accepts_gzip(routed.call.headers()) { response::compressed(answer).await } else { answer })
}

pub(crate) async fn list(routed: &Routed<'_>) -> Result<Answer, ApiError> {
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

pub(crate) async fn create(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
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

pub(crate) async fn patch(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    let kind = patch_type(routed.call.headers(), routed.client_row.is_custom())?;
    let options = routed.call.write_options(Write::Patch { apply: kind == PatchType::Apply })?;
    let mut warnings = Vec::new();
    let patch = Patch { kind, body };
    let updated = routed.registry().patch(&routed.target(), &patch, &options, &mut warnings).await;
    Ok(finish_update(routed, updated, &warnings).await)
}

pub(crate) async fn delete(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
    let options = delete_options(routed.call, &body)?;
    let mut warnings = silent_deletion(routed, &options);
    let deleted = routed.registry().delete(&routed.target(), &options, &mut warnings).await;
    let answer = match deleted {
        Ok(deleted) => encode::deleted(routed, &options, &deleted).await,
        Err(err) => Err(err),
    };
    Ok(with_warnings(routed.accept, answer, &warnings))
}

pub(crate) async fn delete_collection(routed: &Routed<'_>, body: Bytes) -> Result<Answer, ApiError> {
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
    let warning = routed.client_row.strategy.silent_deletion_warning().filter(|_| silent);
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
    let object = decode::body(&routed.client_row, routed.call.headers(), body, options.field_validation, warnings)?;
    let target = routed.target();
    let mut object = routed.registry().catalog().convert(&routed.client_row, target.working_row(), object)?;
    target.working_row().strategy.default(&mut object);
    Ok(object)
}
