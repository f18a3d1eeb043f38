//! Connections to the server of an APIService: its Service is found, TLS spoken, and connections kept for a while.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ETAG, HOST, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::identity::{Error, Identity};
use super::service::Place;
use crate::config::Config;
use crate::outbound::dial::{self, DialError, Reach, host_port};
use crate::outbound::services::{Routing, Services, Unreachable};
use crate::watch_cache::WatchCache;

/// Connections to one server that wait for the next request.
const MAX_IDLE: usize = 16;
/// Which of them are not used any more: the server is about to close them.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// A document of a server is there by then, or not at all (upstream's timeout of discovery).
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What all connections to aggregated servers share.
pub(crate) struct Dialer {
    services: Services,
    routing: Routing,
    reach: Reach,
    identity: Identity,
    unverified: Arc<ClientConfig>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialer({:?}, {:?})", self.routing, self.reach)
    }
}

impl Dialer {
    pub(super) fn new(
        config: &Config,
        cache: &WatchCache,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let identity = Identity::read(config)?;
        let unverified = Arc::new(identity.unverified().map_err(Error::Pair)?);
        let routing = if config.aggregator_routing { Routing::Endpoints } else { Routing::ClusterAddress };
        // Who may write Services and endpoints must not choose that this server connects to what only it can see.
        let reach = if config.aggregator_reaches_loopback { Reach::Anywhere } else { Reach::Proxyable };
        Ok(Self { services: Services::new(cache), routing, reach, identity, unverified, tasks, shutdown })
    }

    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    /// Whether a certificate (DER) is the one that this server shows.
    pub(crate) fn is_own(&self, certificate: &[u8]) -> bool {
        self.identity.certificate().is_some_and(|own| own.as_ref() == certificate)
    }
}

/// The server of an APIService.
#[derive(Debug)]
pub(crate) struct Backend {
    dialer: Arc<Dialer>,
    pub(super) place: Place,
    /// How it is known, or why it cannot be.
    tls: Result<(Arc<ClientConfig>, ServerName<'static>), String>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    host: String,
    sender: SendRequest<Body>,
    since: Instant,
}

/// Whether the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Certificate,
    /// Nothing is told to the server that it may not know, and nothing of what it says is told to others.
    Nothing,
}

/// A request that has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The Service leads nowhere.
    #[error(transparent)]
    Nowhere(#[from] Unreachable),
    /// The APIService does not say whom to trust.
    #[error("{0}")]
    Trust(String),
    #[error("dial tcp {place}: {why}")]
    Dial { place: String, why: DialError },
    #[error("{}", crate::error::with_causes(.0))]
    Http(#[from] hyper::Error),
    #[error("context deadline exceeded")]
    Timeout,
    #[error("read the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) status: StatusCode,
    pub(super) etag: Option<HeaderValue>,
    pub(super) body: Bytes,
}

impl Backend {
    /// Nothing is connected yet.
    pub(super) fn new(dialer: Arc<Dialer>, place: Place) -> Self {
        let tls = known_by(&dialer, &place);
        Self { dialer, place, tls, idle: Mutex::default() }
    }

    /// Why no request can be sent to it, whatever happens, if so.
    pub(crate) fn is_unusable(&self) -> Option<&str> {
        self.tls.as_ref().err().map(String::as_str)
    }

    pub(crate) fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Where the next request goes: `host:port`.
    pub(crate) fn address(&self) -> Result<(String, u16), Unreachable> {
        let Place { namespace, name, port, .. } = &self.place;
        self.dialer.services.address((namespace, name), *port, self.dialer.routing)
    }

    /// Sends a request to an address of the server, and returns the answer when its head is there.
    pub(crate) async fn send(
        &self,
        (host, port): &(String, u16),
        mut request: Request<Body>,
        check: Check,
    ) -> Result<Response<Incoming>, SendError> {
        let place = host_port(host, *port);
        if let Ok(name) = HeaderValue::from_str(&place) {
            request.headers_mut().insert(HOST, name);
        }
        while let Some(mut sender) = self.idle_connection(&place, check) {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(place, sender);
                    return Ok(response);
                }
                // Closed before it took anything: that says nothing about the server.
                Err(mut err) => match err.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(err.into_error().into()),
                },
            }
        }
        let mut sender = self.dial(host, *port, check).await?;
        let response = sender.send_request(request).await?;
        if check == Check::Certificate {
            self.keep(place, sender);
        }
        Ok(response)
    }

    /// Fetches a whole document of at most so many bytes, in time.
    pub(super) async fn fetch(
        &self,
        address: &(String, u16),
        request: Request<Body>,
        check: Check,
        most: usize,
    ) -> Result<Document, SendError> {
        let fetch = async {
            let (head, body) = self.send(address, request, check).await?.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(SendError::Body)?.to_bytes();
            Ok(Document { status: head.status, etag: head.headers.get(ETAG).cloned(), body })
        };
        tokio::time::timeout(PATIENCE, fetch).await.unwrap_or(Err(SendError::Timeout))
    }

    async fn dial(&self, host: &str, port: u16, check: Check) -> Result<SendRequest<Body>, SendError> {
        let (verified, name) = self.tls.clone().map_err(SendError::Trust)?;
        let tls = if check == Check::Certificate { verified } else { self.dialer.unverified.clone() };
        let Dialer { reach, tasks, shutdown, .. } = &*self.dialer;
        let dialled = dial::connect(host, port, Some((tls, name)), *reach, tasks, shutdown).await;
        dialled.map_err(|why| SendError::Dial { place: host_port(host, port), why })
    }

    /// A connection that waits, and that has shown the right certificate.
    fn idle_connection(&self, host: &str, check: Check) -> Option<SendRequest<Body>> {
        if check == Check::Nothing {
            return None;
        }
        let mut idle = self.idle();
        idle.retain(|one| !one.sender.is_closed() && one.since.elapsed() < IDLE_FOR);
        let at = idle.iter().position(|one| one.host == host && one.sender.is_ready())?;
        Some(idle.swap_remove(at).sender)
    }

    /// Keeps a connection, which is ready again when its answer has been read.
    fn keep(&self, host: String, sender: SendRequest<Body>) {
        let mut idle = self.idle();
        idle.retain(|one| !one.sender.is_closed() && one.since.elapsed() < IDLE_FOR);
        if idle.len() >= MAX_IDLE
            && let Some(busy) = idle.iter().position(|one| !one.sender.is_ready())
        {
            idle.swap_remove(busy);
        }
        if idle.len() < MAX_IDLE {
            idle.push(Idle { host, sender, since: Instant::now() });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known_by(dialer: &Dialer, place: &Place) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let tls = Arc::new(dialer.identity.tls(&place.trust)?);
    let name = place.server_name();
    let parsed = ServerName::try_from(name.clone());
    Ok((tls, parsed.map_err(|_| format!("{name:?} is no name that a certificate can have"))?))
}
