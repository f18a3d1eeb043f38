//! The network edge: TLS, HTTP/1.1 and HTTP/2 with upgrades, limits and a graceful end.
//!
//! The accept loop is our own because a request must carry its connection's verified client certificate, and because
//! HTTP/2 needs other limits than the defaults (a client's watches are all streams of one connection).
//!
//! Upgrades (`exec`, `attach`, `port-forward`) are for HTTP/1.1, which clients that want one offer alone in their TLS
//! handshake. WebSockets over HTTP/2 (RFC 8441) are not announced, and refused, as by upstream's server.

mod gather;
mod guests;
mod in_process;
mod named;
mod peer;
mod self_signed;
mod tls;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use gather::Gather;
use guests::{Guests, Stranger};

pub use in_process::InProcess;
pub use named::NamedCertificate;
pub(crate) use peer::{Cut, PeerAddress};
pub use peer::{PeerCertificate, Vouched};
pub(crate) use self_signed::self_signed;
pub(crate) use tls::certificates;
pub use tls::{Authorities, Handshake, TlsError};

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that has not sent its headers by then is dropped.
const HEADERS: Duration = Duration::from_secs(32);
/// After a connection could not be accepted, the next one waits for so long, and longer each time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// A client that has not made its first request by then is dropped.
const FIRST_REQUEST: Duration = HEADERS;
/// Connections that are still open so long after shutdown began are cut.
const DRAIN: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection, unless told otherwise: each watch is one.
const STREAMS: u32 = 2000;
/// Header bytes of one request. As much of an answer waits in memory for a client of HTTP/1.1 that does not read.
const HEADER_BYTES: u32 = 128 * 1024;
/// As much of an answer waits in memory for one stream of a client of HTTP/2 that does not read.
const SEND_BYTES: usize = 64 * 1024;
/// Headers of one request: each group of an impersonated user is one.
const HEADER_COUNT: usize = 1000;

/// How connections are dealt with.
#[derive(Debug)]
pub struct Edge {
    pub tls: Arc<rustls::ServerConfig>,
    /// Who vouches for client certificates.
    pub authorities: Authorities,
    /// Streams of one HTTP/2 connection.
    pub streams: u32,
    /// The share of HTTP/2 requests after which a client is told to connect anew, perhaps to another server.
    pub goaway_chance: f64,
}

impl Edge {
    /// A plain edge: what client certificates there are were asked for by the CA of users.
    pub fn new(tls: rustls::ServerConfig) -> Self {
        Self { tls: Arc::new(tls), authorities: Authorities::default(), streams: STREAMS, goaway_chance: 0.0 }
    }
}

/// Accepts connections until shutdown, then drains them.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>, router: Router, shutdown: CancellationToken) {
    let acceptor = TlsAcceptor::from(edge.tls.clone());
    let guests = Guests::default();
    let most = guests::most();
    let mut pause = ACCEPT_PAUSE;
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < most || guests.make_room();
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept(), if has_room => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                pause = ACCEPT_PAUSE;
                let peer = PeerAddress(peer.ip());
                let (acceptor, edge, router) = (acceptor.clone(), edge.clone(), router.clone());
                connections.spawn(connection(socket, peer, acceptor, edge, router, guests.enter(&shutdown)));
            }
            Err(err) => {
                // Out of file descriptors, mostly: wait for some to close.
                tracing::warn!(error = &err as &dyn std::error::Error, ?pause, "accept failed");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_ACCEPT_PAUSE);
            }
        }
    }
    drop(listener);
    let drain = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drain).await.is_err() {
        tracing::warn!(open = connections.len(), "connections cut at the end of the drain");
        connections.shutdown().await;
    }
}

async fn connection(
    socket: TcpStream,
    address: PeerAddress,
    acceptor: TlsAcceptor,
    edge: Arc<Edge>,
    router: Router,
    stranger: Stranger,
) {
    let cut = stranger.cut.clone();
    let talk = talk(socket, address, acceptor, edge, router, stranger);
    tokio::select! {
        () = talk => {}
        () = cut.cancelled() => tracing::debug!(peer = %address.0, "a connection is cut"),
    }
}

/// Greets a client and answers its requests.
async fn talk(
    socket: TcpStream,
    address: PeerAddress,
    acceptor: TlsAcceptor,
    edge: Arc<Edge>,
    router: Router,
    stranger: Stranger,
) {
    if let Err(err) = socket.set_nodelay(true) {
        tracing::debug!(error = &err as &dyn std::error::Error, "TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => {
            tracing::debug!(error = &err as &dyn std::error::Error, "TLS handshake failed");
            return;
        }
        Err(_elapsed) => return,
    };
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| edge.authorities.peer(chain));
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let began = Arc::new(AtomicBool::new(false));
    let has_begun = began.clone();
    let enough = stranger.shutdown.child_token();
    let cut = Cut(stranger.cut.clone());
    let (chance, parting) = (if is_http2 { edge.goaway_chance } else { 0.0 }, enough.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(address);
        request.extensions_mut().insert(cut.clone());
        if !began.swap(true, Ordering::Relaxed) {
            stranger.is_known();
        }
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        if chance > 0.0 && rand::random_bool(chance) {
            parting.cancel();
        }
        router.clone().oneshot(request.map(Body::new))
    });
    let builder = builder(edge.streams);
    if is_http2 {
        converse(&builder, Gather::new(stream), service, &has_begun, enough).await;
    } else {
        converse(&builder, stream, service, &has_begun, enough).await;
    }
}

/// Answers the requests of one connection; no new ones after `enough`.
async fn converse<S, F>(
    builder: &auto::Builder<TokioExecutor>,
    stream: S,
    service: F,
    has_begun: &AtomicBool,
    enough: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let silent = async {
        tokio::time::sleep(FIRST_REQUEST).await;
        if has_begun.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent => return,
        () = enough.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = ended {
        tracing::debug!(error = &*err as &dyn std::error::Error, "connection ended");
    }
}

fn builder(streams: u32) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(HEADER_COUNT)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADER_BYTES)
        .max_send_buf_size(SEND_BYTES)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
