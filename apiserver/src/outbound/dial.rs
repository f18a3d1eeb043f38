//! How backends are reached: kubelets over TLS with our client certificate, pods over plain HTTP or TLS.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::http::{TlsError, certificates};

const CONNECT: Duration = Duration::from_secs(10);

/// Why kubelets cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--kubelet-certificate-authority or --kubelet-client-certificate")]
    Certificate(#[from] TlsError),
    #[error("read {path} (--kubelet-client-key)")]
    Key {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("--kubelet-client-certificate needs --kubelet-client-key, and the reverse")]
    Half,
    #[error("use the kubelet client certificate")]
    Pair(#[source] rustls::Error),
}

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no kubelet CA is configured (--kubelet-certificate-authority)")]
    NoCa,
    #[error("{0:?} is no name that a certificate can have")]
    Name(String),
    #[error("connect: {}", in_gos_words(.0))]
    Connect(std::io::Error),
    #[error("address not allowed")]
    NotAllowed,
    #[error("tls: {0}")]
    Tls(std::io::Error),
    #[error("i/o timeout")]
    Timeout,
    #[error("http: {0}")]
    Http(hyper::Error),
}

/// What Go's programs say of a connection that was not made.
fn in_gos_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        ErrorKind::HostUnreachable => "no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
    pub(crate) reach: Reach,
}

/// Where a connection may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To whatever an administrator named: a kubelet, a webhook.
    Anywhere,
    /// Not to this machine itself or to what only it can see: the address is one that users of the API choose.
    Proxyable,
}

/// How a backend is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Plain,
    /// A kubelet: its certificate is checked, and ours is shown.
    Kubelet,
    /// A pod: nobody vouches for its certificate.
    Unverified,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&host_port(&self.host, self.port))
    }
}

/// `host:port`, with brackets around IPv6 addresses.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// The client side of kubelet connections.
pub struct Kubelets {
    tls: Option<Arc<ClientConfig>>,
}

impl Kubelets {
    /// Reads CA and client certificate. Without a CA, no kubelet is trusted, and none reached.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let Some(ca) = &config.kubelet_certificate_authority else { return Ok(Self { tls: None }) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|source| TlsError::Ca { path: ca.clone(), source })?;
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let tls = match (&config.kubelet_client_certificate, &config.kubelet_client_key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(path)) => {
                let key =
                    PrivateKeyDer::from_pem_file(path).map_err(|source| Error::Key { path: path.clone(), source })?;
                builder.with_client_auth_cert(certificates(certificate)?, key).map_err(Error::Pair)?
            }
            _ => return Err(Error::Half),
        };
        Ok(Self { tls: Some(Arc::new(tls)) })
    }

    /// Connects to a backend. The connection is driven by a task of `tasks`.
    pub(crate) async fn connect(
        &self,
        backend: &Backend,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<SendRequest<Body>, DialError> {
        let name = || ServerName::try_from(backend.host.clone()).map_err(|_| DialError::Name(backend.host.clone()));
        let tls = match backend.tls {
            Tls::Plain => None,
            Tls::Kubelet => Some((self.tls.clone().ok_or(DialError::NoCa)?, name()?)),
            Tls::Unverified => Some((daemon::unverified_tls(), name()?)),
        };
        connect(&backend.host, backend.port, tls, backend.reach, tasks, shutdown).await
    }
}

/// Connects to a host, over TLS if the server's name is given. The connection is driven by a task of `tasks`.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    reach: Reach,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<SendRequest<Body>, DialError> {
    let dial = dial(host, port, reach);
    let socket = tokio::time::timeout(CONNECT, dial).await.map_err(|_| DialError::Timeout)??;
    // Without it a keystroke waits for the next one.
    socket.set_nodelay(true).map_err(DialError::Connect)?;
    let Some((tls, name)) = tls else { return start(socket, tasks, shutdown).await };
    let connect = TlsConnector::from(tls).connect(name, socket);
    let stream = tokio::time::timeout(CONNECT, connect).await.map_err(|_| DialError::Timeout)?;
    start(stream.map_err(DialError::Tls)?, tasks, shutdown).await
}

/// Connects to the very addresses that were looked at: a name may mean something else a moment later.
async fn dial(host: &str, port: u16, reach: Reach) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(DialError::Connect)?.collect();
    if reach == Reach::Proxyable && !addresses.iter().all(|address| host::is_elsewhere(address.ip())) {
        return Err(DialError::NotAllowed);
    }
    TcpStream::connect(addresses.as_slice()).await.map_err(DialError::Connect)
}

async fn start<S>(stream: S, tasks: &TaskTracker, shutdown: &CancellationToken) -> Result<SendRequest<Body>, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(DialError::Http)?;
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = connection.with_upgrades() => if let Err(err) = ended {
                tracing::debug!(error = &err as &dyn std::error::Error, "backend connection ended");
            }
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_means_when_it_is_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1", "0.0.0.0"] {
            let refused = dial(host, port, Reach::Proxyable).await;
            assert!(matches!(refused, Err(DialError::NotAllowed)), "{host}: {refused:?}");
        }
        assert!(dial("localhost", port, Reach::Anywhere).await.is_ok());
    }

    #[tokio::test]
    async fn a_pod_may_speak_tls_with_a_certificate_of_its_own() {
        daemon::install_crypto_provider();
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(tls)).accept(socket).await.unwrap()
        };
        let kubelets = Kubelets { tls: None };
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let backend = Backend { host: "127.0.0.1".into(), port, tls: Tls::Unverified, reach: Reach::Anywhere };
        let (connected, _accepted) = tokio::join!(kubelets.connect(&backend, &tasks, &shutdown), accept);
        assert!(connected.is_ok());
    }
}
