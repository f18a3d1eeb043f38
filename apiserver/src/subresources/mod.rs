//! What lies below objects: each subresource in a module of its own, found by name.

mod binding;
mod eviction;
mod reviews;
mod scale;
mod token;

use std::sync::Arc;

use api::{ApiError, Resource};
use axum::body::Body;

use crate::handler::{self, Call, method_not_allowed, not_supported};
use crate::node_proxy;
use crate::request_info::Deed;
use crate::response::Answer;

pub(crate) use scale::{replicas_path, scale_of};
pub(crate) use token::discovery as token_discovery;

/// Answers a request for a subresource.
pub(crate) async fn answer(call: &Call<'_>, row: &Arc<Resource>, body: Body) -> Result<Answer, ApiError> {
    let info = call.info;
    let Some(known) = row.subresources.iter().find(|sub| sub.name == info.subresource) else {
        // Whatever lies below a custom object is an object that is not there.
        let custom = ApiError::not_found(row.qualified(), &info.name);
        return Err(if row.is_custom() { custom } else { ApiError::unknown_resource() });
    };
    if is_connect(&info.subresource) {
        return node_proxy::answer(call, row, body).await;
    }
    let routed = handler::routed(call, row)?;
    let allowed = |verb: &str| known.verbs.iter().any(|known| known == verb);
    match (info.subresource.as_str(), &info.deed) {
        ("binding", Deed::Create) => binding::create(&routed, body).await,
        ("eviction", Deed::Create) => eviction::create(&routed, body).await,
        ("scale", _) => scale::answer(&routed, body).await,
        ("token", Deed::Create) => token::create(&routed, body).await,
        // These take the object itself, and change only their part of it.
        ("status" | "finalize" | "approval" | "ephemeralcontainers" | "resize", deed) => match deed {
            Deed::Get if allowed("get") => handler::get(&routed).await,
            Deed::Update if allowed("update") => handler::update(&routed, body).await,
            Deed::Patch if allowed("patch") => handler::patch(&routed, body).await,
            _ => Err(not_supported(call, row)),
        },
        _ => Err(not_supported(call, row)),
    }
}

/// Subresources that lead to a node.
fn is_connect(subresource: &str) -> bool {
    matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// Resources whose objects are not stored: they are answered at once.
pub(crate) async fn virtual_resource(call: &Call<'_>, row: &Arc<Resource>, body: Body) -> Result<Answer, ApiError> {
    if call.info.deed != Deed::Create || call.info.is_item {
        return Err(method_not_allowed());
    }
    match row.plural.as_ref() {
        "bindings" => binding::create_unnamed(call, row, body).await,
        plural if plural.ends_with("reviews") => reviews::create(call, row, body).await,
        other => Err(ApiError::not_implemented(format!("{other} are not supported"))),
    }
}
