//! The doors: which part answers a path (upstream's `server/routes`).

mod discovery;
mod health;
mod openapi;
mod openid;
mod pages;
mod resource;

use api::ApiError;
use http::StatusCode;

use crate::aggregator::Claim;
use crate::call::{Call, Incoming, method_not_allowed};
use crate::flow_control;
use crate::proxy;
use crate::response::{self, Answer};

/// Answers an authorised request, which `claim` says is another server's.
///
/// What is rare has a large future, which lies in a box of its own: the future of a request is moved several times before
/// it is polled.
pub(crate) async fn answer(call: &Call<'_>, claim: Option<&Claim>, incoming: Incoming) -> Result<Answer, ApiError> {
    match claim {
        Some(claim) => Box::pin(proxy::aggregated::answer(call, claim, incoming)).await,
        None if call.info.is_resource => resource::answer(call, incoming).await,
        None => Box::pin(other(call)).await,
    }
}

/// What is no resource.
async fn other(call: &Call<'_>) -> Result<Answer, ApiError> {
    let path = call.info.path.as_str();
    // What was authorised is this very path, not one that means the same.
    if path.contains("//") {
        return Ok(response::page_not_found());
    }
    if let Some(answer) = health::answer(call.core, path, call.query).await {
        return Ok(answer);
    }
    if let "/metrics" | "/metrics/slis" = path {
        if !call.info.is_read() {
            return Err(method_not_allowed());
        }
        let text = if path == "/metrics" { call.core.metrics.encode() } else { call.core.slis.encode() };
        return Ok(response::with_type(StatusCode::OK, daemon::METRICS_MEDIA_TYPE, text.into()));
    }
    if let Some(answer) = pages::answer(call) {
        return answer;
    }
    if let Some(answer) = flow_control::dumped(&call.core.flow_control, path) {
        return Ok(answer);
    }
    if let Some(answer) = openid::answer(call.core, path) {
        return Ok(answer);
    }
    if path.starts_with("/openapi/") {
        return Box::pin(openapi::answer(call)).await;
    }
    discovery::answer(call)
}
