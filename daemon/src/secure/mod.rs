//! The HTTPS endpoint of a component that has no other HTTPS server: upstream's `--secure-port`, with health and metrics.
//!
//! Who may read what is for a [`Gate`] to say; some paths are open to everybody (`--authorization-always-allow-paths`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::endpoint::{IDLE, LIMITS, router};
use crate::pflag::duration;
use crate::serve_tls::{Identity, ServerTlsError, server_config};
use crate::{Metrics, Names, PeerCertificate, ReadyWatch, TlsOptions, listen, serve_tls};

/// What a component is called, and where upstream serves it.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// Names the certificate that is made when none is given: `kube-scheduler`.
    pub name: &'static str,
    /// The port when none is given.
    pub port: u16,
}

/// The flags of serving securely, and of asking the API server about who comes.
#[derive(Clone, Debug, clap::Args)]
pub struct SecureArgs {
    /// Address of the HTTPS endpoint.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_address: IpAddr,
    /// Port of the HTTPS endpoint; 0 turns it off [default: as upstream].
    #[arg(long)]
    pub secure_port: Option<u16>,
    /// Where a self-signed certificate is kept when none is given; without it, one is made at each start.
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// Certificate of the HTTPS endpoint, PEM.
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of that certificate, PEM.
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Authority of client certificates, PEM; by default the one that the cluster publishes, if it is asked at all.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// How to ask the API server whose a token is; without it, nobody is known by a token.
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Do not look up the authority of client certificates in the cluster.
    #[arg(long, default_value_t = false)]
    pub authentication_skip_lookup: bool,
    /// Start although that cannot be looked up: client certificates are not taken then.
    #[arg(long, default_value_t = true)]
    pub authentication_tolerate_lookup_failure: bool,
    /// How long it is remembered whose a token is.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// How to ask the API server who may do what; without it, only the group system:masters may.
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Paths that everybody may read; with a star at the end, all that begin so.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
    /// How long it is remembered that somebody may.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it is remembered that somebody may not.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
}

/// The endpoint cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    #[error("listen on {address} for HTTPS (choose another --secure-port, or 0 for none)")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] ServerTlsError),
}

/// What is asked, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whom the client's certificate names, which TLS has verified.
    pub certificate: Option<Names>,
    /// The bearer token.
    pub token: Option<String>,
    /// Kubernetes' word for the method: `get`.
    pub verb: &'static str,
    pub path: String,
}

/// Why a caller is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// A JSON document.
    pub body: String,
}

/// Says who may read what.
pub trait Gate: Send + Sync + 'static {
    /// Lets a caller through, or says why not.
    fn judge(&self, caller: Caller) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// A bound endpoint.
pub struct Secure<G> {
    listener: TcpListener,
    tls: TlsAcceptor,
    checks: Arc<Checks<G>>,
}

struct Checks<G> {
    open: Vec<String>,
    gate: G,
}

impl SecureArgs {
    /// Takes the port and reads or makes the certificate; `None` when the endpoint is turned off. Client certificates are
    /// asked for when there is an authority of them.
    pub async fn bind<G: Gate>(
        &self,
        door: Door,
        client_ca: Vec<CertificateDer<'static>>,
        gate: G,
    ) -> Result<Option<Secure<G>>, SecureError> {
        let port = self.secure_port.unwrap_or(door.port);
        if port == 0 {
            return Ok(None);
        }
        let identity = self.identity(door)?;
        let tls = server_config(identity, client_ca, &self.tls)?;
        let address = SocketAddr::new(self.bind_address, port);
        let listener = TcpListener::bind(address).await.map_err(|source| SecureError::Bind { address, source })?;
        let open = self.authorization_always_allow_paths.clone();
        Ok(Some(Secure { listener, tls: TlsAcceptor::from(Arc::new(tls)), checks: Arc::new(Checks { open, gate }) }))
    }

    fn identity(&self, door: Door) -> Result<Identity, ServerTlsError> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            return Identity::read(certificate, key);
        }
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        if !self.bind_address.is_unspecified() && !addresses.contains(&self.bind_address) {
            addresses.push(self.bind_address);
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let names: Vec<&str> = ["localhost", host.trim()].into_iter().filter(|name| !name.is_empty()).collect();
        match &self.cert_dir {
            Some(directory) => Identity::kept(directory, door.name, &names, &addresses),
            None => Identity::made(&names, &addresses),
        }
    }
}

impl<G: Gate> Secure<G> {
    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, metrics: Metrics, ready: ReadyWatch, shutdown: CancellationToken) {
        let guard = from_fn_with_state(self.checks, guard::<G>);
        let router = router(metrics, ready).fallback(|| async { StatusCode::NOT_FOUND }).layer(guard);
        let (tls, ending) = (self.tls, shutdown.clone());
        listen::accept(self.listener, LIMITS, shutdown, move |stream| {
            serve_tls(stream, tls.clone(), router.clone(), IDLE, ending.clone())
        })
        .await;
    }
}

async fn guard<G: Gate>(State(checks): State<Arc<Checks<G>>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !checks.open.iter().any(|open| is_open(open, path)) {
        let names = request.extensions().get::<PeerCertificate>().and_then(PeerCertificate::names);
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        let caller = Caller { certificate: names, token, verb: verb(request.method()), path: path.to_owned() };
        if let Err(Refusal { status, body }) = checks.gate.judge(caller).await {
            return (status, [(CONTENT_TYPE, "application/json")], body).into_response();
        }
    }
    next.run(request).await
}

/// Whether a path is one of those that everybody may read: `/healthz`, or `/healthz/*` with all below it.
fn is_open(open: &str, path: &str) -> bool {
    match open.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path.trim_matches('/') == open.trim_matches('/'),
    }
}

/// The verb of a request that is none for a resource: the method in small letters.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "get",
    }
}

#[cfg(test)]
mod tests;
