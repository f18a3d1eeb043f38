//! The course of a request (upstream's `DefaultBuildHandlerChain`): one function a stretch, each around the next.
//!
//! ```text
//! handle     the deed is read; panics, metrics and the log end here; the answer goes out with its seat
//!  in_time   the deadline
//!   pipeline  who it is from; the audit stands around the rest
//!    permitted impersonation, classification, authorisation, the body, a seat
//!     routes::answer
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use api::ApiError;
use api::strategy::User;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use futures::FutureExt as _;
use http::request::Parts;
use http::{Request, StatusCode};
use prometheus_client::metrics::histogram::Histogram;
use tracing::Instrument as _;

use crate::aggregator::Claim;
use crate::audit::{self, AUDIT_ID, AuditId};
use crate::call::{Call, Incoming};
use crate::core::Core;
use crate::flow_control::{Class, FLOW_SCHEMA, PRIORITY_LEVEL, Seat};
use crate::http::Cut;
use crate::metrics::Place;
use crate::request::info::{Deed, RequestInfo};
use crate::request::intake::{Payload, drop_unread};
use crate::request::negotiate::{Accept, is_pretty};
use crate::request::query::Query;
use crate::response::{self, Answer};
use crate::watch_cache::ResourceCache;
use crate::{authz, fencing, impersonate, routes, subresources};

/// What one request has, and what it leaves behind when its answer is ready.
#[derive(Default)]
struct Course {
    /// As far as it was not read.
    body: Body,
    class: Option<Class>,
    seat: Option<Seat>,
}

/// Answers one request; a panic on the way is a 500 and a line in the log.
pub(super) async fn handle(State(core): State<Arc<Core>>, request: Request<Body>) -> Answer {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let id = AuditId::of(&parts.headers);
    parts.extensions.insert(id.clone());
    let mut course = Course { body, ..Course::default() };
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let span = tracing::debug_span!("request", verb = %info.verb(), path = %info.path, user = tracing::field::Empty);
    let in_flight = core.metrics.began(&info);
    let accept = Accept::encoding_of(&parts.headers, is_pretty(&query, &parts.headers));
    let work = in_time(&core, &parts, &mut course, &info, &query);
    let work = AssertUnwindSafe(work).catch_unwind().instrument(span.clone());
    let answer = match work.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(err)) => response::error(&err, accept),
        Err(panic) => {
            let why = panic_text(&*panic);
            tracing::error!(path = %info.path, verb = %info.verb(), %why, "a handler panicked");
            let err = ApiError::internal("this request caused apiserver to panic. Look in the logs for details");
            response::error(&err, accept)
        }
    };
    let took = began.elapsed();
    tracing::debug!(parent: &span, code = answer.status().as_u16(), ?took, "answered");
    drop(in_flight);
    let sizes = measure(&core, &parts, (&info, &query), &answer, took);
    let mut answer = sent(&core, &parts, &info, course, sizes, answer).await;
    answer.headers_mut().insert(AUDIT_ID, id.0);
    answer
}

/// Counts an answer, and says where its size is to be counted.
fn measure(
    core: &Core,
    parts: &Parts,
    (info, query): (&RequestInfo, &Query),
    answer: &Answer,
    took: Duration,
) -> Option<Histogram> {
    let code = answer.status();
    // A watch is counted when it ends.
    if info.deed == Deed::Watch && matches!(code, StatusCode::OK | StatusCode::SWITCHING_PROTOCOLS) {
        return None;
    }
    let catalog = core.registry.catalog();
    let row = catalog.resource(&info.group, &info.version, &info.resource).filter(|_| info.is_resource);
    let place = Place::of(info, row.map(AsRef::as_ref), &parts.method, &parts.headers);
    core.metrics.answered(&place, query, code.as_u16(), took);
    core.metrics.sizes(&place)
}

/// The answer as it is sent: with what it is classified as, and with its seat, which it keeps until it has been sent.
async fn sent(
    core: &Core,
    parts: &Parts,
    info: &RequestInfo,
    course: Course,
    sizes: Option<Histogram>,
    mut answer: Answer,
) -> Answer {
    drop_unread(&parts.headers, course.body).await;
    if let Some(class) = course.class {
        answer.headers_mut().insert(FLOW_SCHEMA, class.schema_uid);
        answer.headers_mut().insert(PRIORITY_LEVEL, class.level_uid);
    }
    // What lasts by its nature is ended in other ways.
    if info.is_long_running() {
        return answer;
    }
    core.sending.send(answer, course.seat, parts.extensions.get::<Cut>().cloned(), sizes)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// Answers a request before its deadline, which a client may set earlier.
async fn in_time(
    core: &Arc<Core>,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    query: &Query,
) -> Result<Answer, ApiError> {
    if info.is_long_running() {
        return pipeline(core, parts, course, info, query, None).await;
    }
    let asked = query.timeout()?.filter(|asked| !asked.is_zero());
    let most = core.config.request_timeout;
    let time = asked.map_or(most, |asked| asked.min(most));
    let late = |_elapsed| ApiError::timeout("Timeout: request did not complete within the allotted timeout", 0);
    let work = pipeline(core, parts, course, info, query, Some(time));
    tokio::time::timeout(time, work).await.map_err(late)?
}

async fn pipeline(
    core: &Arc<Core>,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    query: &Query,
    time: Option<Duration>,
) -> Result<Answer, ApiError> {
    if info.is_resource {
        core.filled().await;
    }
    let user = core.authn.authenticate(parts).await?;
    let Some(audit) = &core.audit else {
        let user = user.ok_or_else(ApiError::unauthorized)?;
        return permitted(core, parts, course, info, query, &user, time).await;
    };
    let Some(user) = user else {
        Box::pin(audit.unauthenticated(parts, info)).await;
        return Err(ApiError::unauthorized());
    };
    // Most requests are not recorded: their future has no room for what a record needs.
    Box::pin(audit.follow(parts, info, &user, || permitted(core, parts, course, info, query, &user, time))).await
}

/// Answers a request if its user may make it, when it has been read and there are seats for it.
async fn permitted(
    core: &Arc<Core>,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    query: &Query,
    user: &User,
    time: Option<Duration>,
) -> Result<Answer, ApiError> {
    tracing::Span::current().record("user", &user.name);
    let mut attributes = authz::Attributes::new(user, info);
    for (slot, name) in
        [(&mut attributes.field_selector, "fieldSelector"), (&mut attributes.label_selector, "labelSelector")]
    {
        query.get(name).unwrap_or("").clone_into(slot);
    }
    if let Some(wanted) = impersonate::wanted(&parts.headers)? {
        attributes.user = Box::pin(impersonate::permit(&core.authz, &attributes, wanted)).await?;
        audit::impersonated(&attributes.user);
    }
    let user = &attributes.user;
    let claim = core.aggregator.claim(info);
    let cache = cache_of(core, info).filter(|_| claim.is_none());
    course.class = core.flow_control.classify(user, info, query, cache.as_deref());
    let decision = core.authz.decide(&attributes).await;
    audit::decided(&decision);
    if let authz::Decision::Deny(why) | authz::Decision::NoOpinion(why) = &decision {
        return Err(attributes.forbidden(why));
    }
    // The body is read before a seat is taken: who sends slowly holds up nobody.
    let (incoming, _room) = read(core, parts, course, info, user, claim.as_deref()).await?;
    let seat = core.flow_control.seat(course.class.as_ref(), user, info, time).await?;
    if let Some(lease) = fencing::claimed(&parts.headers)?.filter(|_| !info.is_read()) {
        Box::pin(fencing::check(&core.registry, &lease)).await?;
    }
    let seat = Lock::new(seat);
    let call = Call::new(core, parts, info, query, user, &seat);
    let answer = routes::answer(&call, claim.as_deref(), incoming).await;
    course.seat = seat.into_inner().unwrap_or_else(PoisonError::into_inner);
    answer
}

/// The cache of the resource that a request is for.
fn cache_of(core: &Core, info: &RequestInfo) -> Option<Arc<ResourceCache>> {
    if !info.is_resource {
        return None;
    }
    let catalog = core.registry.catalog();
    let row = catalog.resource(&info.group, &info.version, &info.resource)?;
    core.registry.resource(catalog.storage_row(row)).ok()
}

/// Reads the body, if it is for this server, and returns what keeps its part of the allowance.
async fn read(
    core: &Core,
    parts: &Parts,
    course: &mut Course,
    info: &RequestInfo,
    user: &User,
    claim: Option<&Claim>,
) -> Result<(Incoming, Option<Payload>), ApiError> {
    if subresources::is_connect(info) {
        return Ok((Incoming::Stream(std::mem::take(&mut course.body)), None));
    }
    if info.is_read() || (!info.is_resource && claim.is_none()) {
        return Ok((Incoming::Read(Bytes::new()), None));
    }
    let payload = core.intake.read(&mut course.body, &user.name).await?;
    audit::received(&parts.headers, &payload.bytes);
    Ok((Incoming::Read(payload.bytes.clone()), Some(payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_request_is_small() {
        fn size<F>(_handler: impl Fn(State<Arc<Core>>, Request<Body>) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(handle);
        assert!(size <= 10 << 10, "{size} bytes are moved several times for each request");
    }
}
