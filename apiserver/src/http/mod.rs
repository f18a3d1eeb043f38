//! The network edge: TLS, HTTP/1.1 and HTTP/2 with upgrades, limits and a graceful end.
//!
//! The accept loop is our own because a request must carry its connection's verified client certificate, and because
//! HTTP/2 needs other limits than the defaults (a client's watches are all streams of one connection).
//!
//! Upgrades (`exec`, `attach`, `port-forward`) are for HTTP/1.1, which clients that want one offer alone in their TLS
//! handshake. WebSockets over HTTP/2 (RFC 8441) are not announced, and refused, as by upstream's server.

mod gather;
mod in_process;
mod self_signed;
mod tls;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
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

use crate::authn::PeerCertificate;
use gather::Gather;

pub use in_process::InProcess;
pub(crate) use self_signed::self_signed;
pub(crate) use tls::certificates;
pub use tls::{TlsError, server_config};

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that has not sent its headers by then is dropped.
const HEADERS: Duration = Duration::from_secs(32);
/// A client that has not made its first request by then is dropped.
const FIRST_REQUEST: Duration = HEADERS;
/// Connections that are still open so long after shutdown began are cut.
const DRAIN: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection: each watch is one.
const STREAMS: u32 = 2000;
/// Header bytes of one request. As much of an answer waits in memory for a client of HTTP/1.1 that does not read.
const HEADER_BYTES: u32 = 128 * 1024;
/// Headers of one request: each group of an impersonated user is one.
const HEADER_COUNT: usize = 1000;

/// Accepts connections until shutdown, then drains them.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, router: Router, shutdown: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((socket, peer)) => {
                let peer = PeerAddress(peer.ip());
                connections.spawn(connection(socket, peer, acceptor.clone(), router.clone(), shutdown.clone()));
            }
            Err(err) => {
                // Out of file descriptors, mostly: wait for some to close.
                tracing::warn!(error = &err as &dyn std::error::Error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
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

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

async fn connection(
    socket: TcpStream,
    address: PeerAddress,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
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
    let peer = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = peer.map(|certificate| PeerCertificate::new(Bytes::copy_from_slice(certificate)));
    let began = Arc::new(AtomicBool::new(false));
    let has_begun = began.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(address);
        began.store(true, Ordering::Relaxed);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        router.clone().oneshot(request.map(Body::new))
    });
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        converse(Gather::new(stream), service, &has_begun, shutdown).await;
    } else {
        converse(stream, service, &has_begun, shutdown).await;
    }
}

/// Answers the requests of one connection.
async fn converse<S, F>(stream: S, service: F, has_begun: &AtomicBool, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    let builder = builder();
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
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = ended {
        tracing::debug!(error = &*err as &dyn std::error::Error, "connection ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
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
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
