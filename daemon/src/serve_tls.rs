//! Serving HTTPS on a connection that [`crate::listen`] accepted: certificates given, kept or made on the spot, and those
//! of clients.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::listen::Seated;
use crate::{LiveIdentity, Names, TlsOptions, names_of, serve_http};

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A server has no sound certificate, key or authority of clients.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    #[error("read {what} from {path}")]
    Pem {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("keep a certificate in {path} (give --tls-cert-file, or another --cert-dir)")]
    Keep {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{what}")]
    Unfit {
        what: &'static str,
        #[source]
        source: rustls::Error,
    },
    #[error("the authority of client certificates")]
    Authority(#[source] rustls::server::VerifierBuilderError),
}

/// A server's certificate and key.
pub struct Identity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// A certificate, with those that lead to its authority, and its key.
    pub fn new(certificates: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { certificates, key }
    }

    /// Reads PEM files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, ServerTlsError> {
        let read = PrivateKeyDer::from_pem_file(key);
        let failed = |source| ServerTlsError::Pem { what: "a private key", path: key.to_owned(), source };
        Ok(Self { certificates: certificates_from(certificate)?, key: read.map_err(failed)? })
    }

    /// The certificate, and those that lead to its authority.
    #[cfg(test)]
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The self-signed certificate `<name>.crt` in a directory, made when it is not there.
    pub fn kept(directory: &Path, name: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Self, ServerTlsError> {
        let (certificate, key) = keep_self_signed(directory, name, names, addresses)?;
        Self::read(&certificate, &key)
    }

    /// A self-signed certificate that nobody else sees the key of.
    pub(crate) fn made(names: &[&str], addresses: &[IpAddr]) -> Result<Self, ServerTlsError> {
        let (certificate, pair) = self_signed(names, addresses)?;
        let key = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        Ok(Self { certificates: vec![certificate.der().clone()], key })
    }
}

/// Reads a PEM file of certificates.
pub fn certificates_from(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|source| ServerTlsError::Pem { what: "certificates", path: path.to_owned(), source })
}

/// The paths of the self-signed certificate and key `<name>.crt` and `<name>.key` in a directory, made when they are not
/// there, as upstream's `--cert-dir`.
pub fn keep_self_signed(
    directory: &Path,
    name: &str,
    names: &[&str],
    addresses: &[IpAddr],
) -> Result<(PathBuf, PathBuf), ServerTlsError> {
    let (certificate, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    if !(certificate.exists() && key.exists()) {
        let (signed, pair) = self_signed(names, addresses)?;
        let kept = keep(directory, (&certificate, &signed.pem()), (&key, &pair.serialize_pem()));
        kept.map_err(|source| ServerTlsError::Keep { path: directory.to_owned(), source })?;
    }
    Ok((certificate, key))
}

fn self_signed(names: &[&str], addresses: &[IpAddr]) -> Result<(rcgen::Certificate, KeyPair), ServerTlsError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let common = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    let pair = KeyPair::generate()?;
    Ok((params.self_signed(&pair)?, pair))
}

fn keep(directory: &Path, certificate: (&Path, &str), key: (&Path, &str)) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(key.0)?;
    file.write_all(key.1.as_bytes())?;
    file.sync_all()?;
    std::fs::write(certificate.0, certificate.1)
}

/// A server that asks clients for a certificate of `client_ca`, when there is one, and lets those without connect.
pub fn server_config(
    identity: Identity,
    client_ca: Vec<CertificateDer<'static>>,
    options: &TlsOptions,
) -> Result<ServerConfig, ServerTlsError> {
    let config = builder(client_ca, options)?.with_single_cert(identity.certificates, identity.key);
    Ok(with_upgrades(config.map_err(unfit("the server's certificate and key"))?))
}

/// The same with a certificate that changes: while there is none, nobody can connect.
pub fn live_server_config(
    identity: Arc<LiveIdentity>,
    client_ca: Vec<CertificateDer<'static>>,
    options: &TlsOptions,
) -> Result<ServerConfig, ServerTlsError> {
    Ok(with_upgrades(builder(client_ca, options)?.with_cert_resolver(identity)))
}

fn unfit(what: &'static str) -> impl FnOnce(rustls::Error) -> ServerTlsError {
    move |source| ServerTlsError::Unfit { what, source }
}

fn builder(
    client_ca: Vec<CertificateDer<'static>>,
    options: &TlsOptions,
) -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, ServerTlsError> {
    let builder = options.builder().map_err(unfit("TLS versions and cipher suites"))?;
    if client_ca.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    for certificate in client_ca {
        roots.add(certificate).map_err(unfit("the authority of client certificates"))?;
    }
    let provider = Arc::clone(builder.crypto_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.allow_unauthenticated().build().map_err(ServerTlsError::Authority)?;
    Ok(builder.with_client_cert_verifier(verifier))
}

/// Upgrades (exec, attach, port-forward) need HTTP/1.1.
fn with_upgrades(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The certificate that a client has shown, which TLS has verified; an extension of its requests.
#[derive(Clone, Debug)]
pub struct PeerCertificate(Option<CertificateDer<'static>>);

impl PeerCertificate {
    /// Whom it names. `None` without a certificate, and when its name cannot be read.
    pub fn names(&self) -> Option<Names> {
        let (_, certificate) = X509Certificate::from_der(self.0.as_ref()?).ok()?;
        names_of(certificate.subject())
    }
}

/// Does the handshake, and then as [`serve_http`]; requests have a [`PeerCertificate`].
pub async fn serve_tls(stream: Seated, tls: TlsAcceptor, router: Router, idle: Duration, shutdown: CancellationToken) {
    let seat = stream.seat();
    if let Err(err) = stream.set_nodelay() {
        tracing::debug!(error = &err as &dyn std::error::Error, "TCP_NODELAY");
    }
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
    let peer = PeerCertificate(certificate.map(CertificateDer::into_owned));
    serve_http(stream, seat, router.layer(axum::Extension(peer)), idle, shutdown).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("pki");
        let (certificate, key) = keep_self_signed(&at, "kubelet", &["n1"], &[[127, 0, 0, 1].into()]).unwrap();
        let first = std::fs::read(&certificate).unwrap();
        keep_self_signed(&at, "kubelet", &["n1"], &[]).unwrap();
        assert_eq!(std::fs::read(&certificate).unwrap(), first);
        assert!(Identity::read(&certificate, &key).is_ok());
        let err = keep_self_signed(Path::new("/proc/nowhere"), "kubelet", &["n1"], &[]).unwrap_err();
        assert!(err.to_string().contains("--cert-dir"), "{err:#}");
    }
}
