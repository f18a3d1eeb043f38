//! A request that has been let in, as the doors see it; what they all answer with.

pub(crate) mod websocket;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use api::status::Details;
use api::strategy::User;
use api::{ApiError, Resource};
use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use hyper::upgrade::OnUpgrade;

use crate::core::Core;
use crate::flow_control::Seat;
use crate::http::PeerAddress;
use crate::metrics::Place;
use crate::registry::{Registry, Target};
use crate::request::headers as header;
use crate::request::info::RequestInfo;
use crate::request::negotiate::{Accept, Offer, is_pretty};
use crate::request::options::{Write, WriteOptions};
use crate::request::query::Query;
use crate::response::{self, Answer};
use crate::watch_cache::ResourceCache;

/// A request that has been authenticated and authorised.
pub(crate) struct Call<'a> {
    pub(crate) core: &'a Arc<Core>,
    /// What was authorised. Whatever this server does itself goes by nothing else of the request line.
    pub(crate) info: &'a RequestInfo,
    pub(crate) query: &'a Query,
    pub(crate) user: &'a User,
    /// The seat of a request that may give it back before it ends.
    seat: &'a Mutex<Option<Seat>>,
    parts: &'a Parts,
}

/// A request line.
pub(crate) struct Line<'a> {
    pub(crate) method: &'a Method,
    /// As the client encoded it.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

/// The body of a request.
pub(crate) enum Incoming {
    /// It was read.
    Read(Bytes),
    /// It goes on to somewhere else as it comes.
    Stream(Body),
}

/// A call to a resource that exists.
pub(crate) struct Routed<'a> {
    pub(crate) call: &'a Call<'a>,
    /// The row in the version of the path.
    pub(crate) client_row: Arc<Resource>,
    pub(crate) cache: Arc<ResourceCache>,
    pub(crate) accept: Accept,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        core: &'a Arc<Core>,
        parts: &'a Parts,
        info: &'a RequestInfo,
        query: &'a Query,
        user: &'a User,
        seat: &'a Mutex<Option<Seat>>,
    ) -> Self {
        Self { core, info, query, user, seat, parts }
    }

    pub(crate) fn headers(&self) -> &'a HeaderMap {
        &self.parts.headers
    }

    /// The request line as it came, for another server, which reads and authorises it again.
    pub(crate) fn line(&self) -> Line<'a> {
        let uri = &self.parts.uri;
        Line { method: &self.parts.method, path: uri.path(), query: uri.query() }
    }

    /// What a request for this resource is counted by.
    pub(crate) fn place(&self, row: &Resource) -> Place {
        Place::of(self.info, Some(row), &self.parts.method, &self.parts.headers)
    }

    /// What is known of the connection that the request came by.
    pub(crate) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.parts.extensions.get()
    }

    /// The path as the client encoded it.
    pub(crate) fn raw_path(&self) -> &'a str {
        self.parts.uri.path()
    }

    /// Whom the client asked: of HTTP/2, the authority.
    pub(crate) fn host(&self) -> Option<HeaderValue> {
        let authority = || HeaderValue::from_str(self.parts.uri.authority()?.as_str()).ok();
        self.headers().get(http::header::HOST).cloned().or_else(authority)
    }

    /// Where the request comes from.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.extension::<PeerAddress>().map(|peer| peer.0)
    }

    /// The query as the client encoded it.
    pub(crate) fn raw_query(&self) -> Option<&'a str> {
        self.parts.uri.query()
    }

    /// The client's side of a connection that leaves HTTP.
    pub(crate) fn upgrade(&self) -> Option<OnUpgrade> {
        self.parts.extensions.get::<OnUpgrade>().cloned()
    }

    pub(crate) fn user_agent(&self) -> Cow<'_, str> {
        header::shown(self.headers(), http::header::USER_AGENT)
    }

    /// Takes the seat out of the request's hands.
    pub(crate) fn take_seat(&self) -> Option<Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn accept(&self, row: &Resource) -> Result<Accept, ApiError> {
        Accept::for_object(self.headers(), self.is_pretty(), Offer::of(row))
    }

    pub(crate) fn is_pretty(&self) -> bool {
        is_pretty(self.query, self.headers())
    }

    pub(crate) fn write_options(&self, what: Write) -> Result<WriteOptions, ApiError> {
        WriteOptions::read(self.query, what, &self.user_agent())
    }
}

impl<'a> Routed<'a> {
    pub(crate) fn registry(&self) -> &'a Registry {
        &self.call.core.registry
    }

    /// The row in the version that is stored.
    pub(crate) fn stored_row(&self) -> &Arc<Resource> {
        self.cache.row()
    }

    pub(crate) fn target(&self) -> Target<'_> {
        let info = self.call.info;
        let namespace = if self.client_row.namespaced { info.namespace.as_str() } else { "" };
        Target {
            cache: &self.cache,
            client_row: &self.client_row,
            namespace,
            name: &info.name,
            subresource: &info.subresource,
            user: self.call.user,
        }
    }
}

/// The error for a method that a path does not take.
pub(crate) fn method_not_allowed() -> ApiError {
    ApiError::method_not_allowed("the server does not allow this method on the requested resource")
}

/// A call to a stored resource or one of its subresources.
pub(crate) fn routed<'a>(call: &'a Call<'a>, row: &Arc<Resource>) -> Result<Routed<'a>, ApiError> {
    let registry = &call.core.registry;
    let cache = registry.resource(registry.catalog().storage_row(row))?;
    Ok(Routed { call, client_row: row.clone(), cache, accept: call.accept(row)? })
}

/// The error for a method that a resource does not take.
pub(crate) fn not_supported(call: &Call<'_>, row: &Resource) -> ApiError {
    if !row.is_custom() {
        return method_not_allowed();
    }
    let what = row.qualified();
    let text = format!("{} is not supported on resources of kind \"{what}\"", call.info.verb());
    ApiError::method_not_allowed(text).with_details(Details {
        group: what.group.to_owned(),
        kind: what.resource.to_owned(),
        ..Details::default()
    })
}

/// Clients are warned whether or not the request succeeds.
pub(crate) fn with_warnings(accept: Accept, answer: Result<Answer, ApiError>, warnings: &[String]) -> Answer {
    let mut answer = answer.unwrap_or_else(|err| response::error(&err, accept));
    response::add_warnings(answer.headers_mut(), warnings);
    answer
}
