//! The ways to kubelets, over TLS with our client certificate, and to pods, over plain HTTP or TLS (upstream:
//! `pkg/kubelet/client.ConnectionInfoGetter`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Object;
use axum::body::Body;
use hyper::client::conn::http1::SendRequest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::{DialError, Reach, connect, host_port};
use crate::http::{TlsError, certificates};

/// Why kubelets cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
    pub(crate) reach: Reach,
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

impl Backend {
    /// The kubelet of a node, at the first address of the first of these types that the node has; or why there is none.
    pub(crate) fn of_node(node: &Object, types: &[String]) -> Result<Self, String> {
        let addresses = node.get(&["status", "addresses"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let host = types.iter().find_map(|kind| {
            let address = addresses.iter().find(|address| address["type"] == kind.as_str())?;
            address["address"].as_str()
        });
        let missing = || {
            let types = types.join(" ");
            format!("no preferred addresses found; known addresses: {addresses:?}, wanted: [{types}]")
        };
        let host = host.ok_or_else(missing)?.to_owned();
        let port = node.integer(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(10250);
        Ok(Self { host, port, tls: Tls::Kubelet, reach: Reach::Anywhere })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&host_port(&self.host, self.port))
    }
}

/// The client side of kubelet connections.
pub(crate) struct Kubelets {
    tls: Option<Arc<ClientConfig>>,
}

impl Kubelets {
    /// Reads the CA of kubelets, and our certificate with its key. Without a CA, no kubelet is trusted, and none reached.
    pub(crate) fn new(ca: Option<&Path>, identity: (Option<&Path>, Option<&Path>)) -> Result<Self, Error> {
        let Some(ca) = ca else { return Ok(Self { tls: None }) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|source| TlsError::Ca { path: ca.to_owned(), source })?;
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let tls = match identity {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(path)) => {
                let key = PrivateKeyDer::from_pem_file(path)
                    .map_err(|source| Error::Key { path: path.to_owned(), source })?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
