//! What lies below objects: each subresource in a module of its own, found by name.

mod binding;
mod components;
mod eviction;
mod reviews;
mod scale;
mod token;
mod usage;

use std::sync::Arc;

use api::resource::Subresource;
use api::{ApiError, Resource};
use axum::body::Body;
use bytes::Bytes;

use crate::call::{Call, method_not_allowed, not_supported, routed, with_warnings};
use crate::handler;
use crate::proxy;
use crate::request::info::{Deed, RequestInfo};
use crate::response::Answer;

/// Answers a request for a subresource.
pub(crate) async fn answer(call: &Call<'_>, row: &Arc<Resource>, body: Bytes) -> Result<Answer, ApiError> {
    let info = call.info;
    let known = known(call, row)?;
    let routed = routed(call, row)?;
    let allowed = |verb: &str| known.verbs.iter().any(|known| known == verb);
    let mut warnings = Vec::new();
    let answer = match (info.subresource.as_str(), &info.deed) {
        ("binding", Deed::Create) => binding::create(&routed, body, &mut warnings).await,
        ("eviction", Deed::Create) => eviction::create(&routed, body, &mut warnings).await,
        ("scale", _) => scale::answer(&routed, body, &mut warnings).await,
        ("token", Deed::Create) => token::create(&routed, body, &mut warnings).await,
        // These take the object itself, and change only their part of it.
        ("status" | "finalize" | "approval" | "ephemeralcontainers" | "resize", deed) => match deed {
            Deed::Get if allowed("get") => handler::get(&routed).await,
            Deed::Update if allowed("update") => handler::update(&routed, body).await,
            Deed::Patch if allowed("patch") => handler::patch(&routed, body).await,
            _ => Err(not_supported(call, row)),
        },
        _ => Err(not_supported(call, row)),
    };
    Ok(with_warnings(routed.accept, answer, &warnings))
}

/// Answers a request for what lies on a node, whose body goes there as it comes.
pub(crate) async fn connect(call: &Call<'_>, row: &Arc<Resource>, body: Body) -> Result<Answer, ApiError> {
    known(call, row)?;
    proxy::answer(call, row, body).await
}

/// Whether a request is one for [`connect`].
pub(crate) fn is_connect(info: &RequestInfo) -> bool {
    info.is_resource && matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}

fn known<'a>(call: &Call<'_>, row: &'a Resource) -> Result<&'a Subresource, ApiError> {
    let info = call.info;
    row.subresources.iter().find(|sub| sub.name == info.subresource).ok_or_else(|| match row.is_custom() {
        // Whatever lies below a custom object is an object that is not there.
        true => ApiError::not_found(row.qualified(), &info.name),
        false => ApiError::unknown_resource(),
    })
}

/// Resources whose objects are not stored: they are answered at once.
pub(crate) async fn virtual_resource(call: &Call<'_>, row: &Arc<Resource>, body: Bytes) -> Result<Answer, ApiError> {
    if row.plural == "componentstatuses" {
        return components::answer(call, row).await;
    }
    if row.group == "metrics.k8s.io" {
        return usage::answer(call, row).await;
    }
    if call.info.is_item {
        return Err(ApiError::unknown_resource());
    }
    if call.info.deed != Deed::Create {
        return Err(method_not_allowed());
    }
    match row.plural.as_ref() {
        "bindings" => {
            let (accept, mut warnings) = (call.accept(row)?, Vec::new());
            let answer = binding::create_unnamed(call, row, body, &mut warnings).await;
            Ok(with_warnings(accept, answer, &warnings))
        }
        plural if plural.ends_with("reviews") => reviews::create(call, row, body).await,
        other => Err(ApiError::not_implemented(format!("{other} are not supported"))),
    }
}
