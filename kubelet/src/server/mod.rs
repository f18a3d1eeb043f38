//! The kubelet's HTTPS server: what the API server and metrics collectors ask of a node (upstream: pkg/kubelet/server).
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::routing::{any, get};
use daemon::listen::{self, Limits};
use daemon::{Identity, LiveIdentity, TlsOptions};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::context::Context;
use crate::pods::Pods;
use streams::Streams;

mod auth;
mod channels;
mod handlers;
mod logs;
mod portforward;
pub(crate) mod session;
pub(crate) mod spdy;
mod stats;
mod streams;
mod upgrade;
mod websocket;

/// A client that asks nothing for so long is let go, as upstream.
const IDLE: Duration = Duration::from_secs(90);
/// Streams of `exec`, `attach`, `logs -f` and `port-forward` come through the API server, from one address.
const LIMITS: Limits = Limits {
    total: 2000,
    per_peer: 2000,
    pending: 128,
    pending_per_peer: 64,
    first_request: Duration::from_secs(20),
    lifetime: None,
    drain: Duration::from_secs(2),
};

/// Address and identity of the server.
#[derive(Clone)]
pub struct Config {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificate, key, and the authority of its clients.
    pub tls: Arc<rustls::ServerConfig>,
}

/// PEM files of the server, and how it speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authority of client certificates.
    pub client_ca: PathBuf,
    /// Versions and cipher suites.
    pub options: TlsOptions,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not of this machine.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

impl Config {
    /// Reads the PEM files.
    pub fn from_files(address: SocketAddr, tls: &Tls) -> anyhow::Result<Self> {
        let identity = Identity::read(&tls.certificate, &tls.key)?;
        Self::with(address, identity, daemon::certificates_from(&tls.client_ca)?, &tls.options)
    }

    /// A server that asks clients for a certificate of `client_ca`; those without need a token.
    pub fn new(
        address: SocketAddr,
        certificate: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_ca: Vec<CertificateDer<'static>>,
    ) -> anyhow::Result<Self> {
        Self::with(address, Identity::new(certificate, key), client_ca, &TlsOptions::default())
    }

    /// A server whose certificate changes while it runs; until there is one, nobody can connect.
    pub fn live(
        address: SocketAddr,
        identity: Arc<LiveIdentity>,
        client_ca: Vec<CertificateDer<'static>>,
    ) -> anyhow::Result<Self> {
        Self::live_with(address, identity, client_ca, &TlsOptions::default())
    }

    /// The same, with versions and cipher suites.
    pub(crate) fn live_with(
        address: SocketAddr,
        identity: Arc<LiveIdentity>,
        client_ca: Vec<CertificateDer<'static>>,
        options: &TlsOptions,
    ) -> anyhow::Result<Self> {
        ensure!(!client_ca.is_empty(), "there is no authority of client certificates");
        let tls = daemon::live_server_config(identity, client_ca, options)?;
        Ok(Self { address, tls: Arc::new(tls) })
    }

    fn with(
        address: SocketAddr,
        identity: Identity,
        client_ca: Vec<CertificateDer<'static>>,
        options: &TlsOptions,
    ) -> anyhow::Result<Self> {
        ensure!(!client_ca.is_empty(), "there is no authority of client certificates");
        Ok(Self { address, tls: Arc::new(daemon::server_config(identity, client_ca, options)?) })
    }
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    context: Arc<Context>,
    pods: Pods,
    auth: Arc<auth::Auth>,
    streams: Streams,
}

/// A bound server.
pub(crate) struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    context: Arc<Context>,
    pods: Pods,
}

impl Server {
    /// Binds the address.
    pub(crate) async fn bind(config: Config, context: Arc<Context>, pods: Pods) -> Result<Self, Error> {
        let listener = TcpListener::bind(config.address)
            .await
            .map_err(|source| Error::Listen { address: config.address, source })?;
        Ok(Self { listener, tls: TlsAcceptor::from(config.tls), context, pods })
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// Serves until `shutdown`; open streams are cut then.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let auth = Arc::new(auth::Auth::new(self.context.client.clone(), self.context.node_name.clone()));
        let streams = Streams::new(shutdown.clone());
        let router = router(Shared { context: self.context, pods: self.pods, auth, streams: streams.clone() });
        info!(port = self.listener.local_addr().map_or(0, |address| address.port()), "kubelet server listens");
        let (tls, ending) = (self.tls, shutdown.clone());
        listen::accept(self.listener, LIMITS, shutdown, move |stream| {
            daemon::serve_tls(stream, tls.clone(), router.clone(), IDLE, ending.clone())
        })
        .await;
        streams.ended().await;
    }
}

fn router(shared: Shared) -> Router {
    let guard = axum::middleware::from_fn_with_state(shared.clone(), auth::guard);
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/healthz/ping", get(|| async { "ok" }))
        .route("/pods", get(handlers::pods))
        .route("/pods/", get(handlers::pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::container_logs))
        .route("/exec/{namespace}/{pod}/{container}", any(channels::exec))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", any(channels::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(channels::attach))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", any(channels::attach))
        .route("/portForward/{namespace}/{pod}", any(portforward::port_forward))
        .route("/portForward/{namespace}/{pod}/{uid}", any(portforward::port_forward))
        .route("/run/{namespace}/{pod}/{container}", axum::routing::post(handlers::run))
        .route("/run/{namespace}/{pod}/{uid}/{container}", axum::routing::post(handlers::run))
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(stats::metrics))
        .route("/metrics/resource", get(stats::resource_metrics))
        .route("/metrics/cadvisor", get(stats::cadvisor_metrics))
        .route("/metrics/probes", get(stats::probe_metrics))
        .layer(guard)
        .with_state(shared)
}
