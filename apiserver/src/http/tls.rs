//! The TLS configuration of the server: its certificates, and the CAs that client certificates must come from.
//! Upstream: `server/dynamiccertificates`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use daemon::TlsOptions;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::named::{NamedCertificate, Shown};
use super::peer::{PeerCertificate, Vouched};

/// Why the server cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {path} (it must hold PEM)")]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{path} holds no certificate")]
    Empty { path: PathBuf },
    #[error("{path} holds a certificate that cannot be a CA")]
    Ca {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("use the CAs of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("use the certificate {certificate} with the key {key} (do they belong together?)")]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("--tls-min-version, --tls-cipher-suites")]
    Options(#[source] rustls::Error),
}

/// What the server shows in a handshake, and whom it asks to show something.
#[derive(Debug)]
pub struct Handshake<'a> {
    pub certificate: &'a Path,
    pub key: &'a Path,
    /// Shown instead to clients that ask for one of their names.
    pub named: &'a [NamedCertificate],
    pub options: &'a TlsOptions,
    /// Signs the certificates of users.
    pub client_ca: Option<&'a Path>,
    /// Signs the certificates of front proxies.
    pub front_proxy_ca: Option<&'a Path>,
}

impl Handshake<'_> {
    /// Reads all files. Without any CA no client certificate is asked for.
    pub fn read(&self) -> Result<(rustls::ServerConfig, Authorities), TlsError> {
        let authorities = Authorities {
            users: self.client_ca.map(|path| verifier(&[path])).transpose()?,
            front_proxies: self.front_proxy_ca.map(|path| verifier(&[path])).transpose()?,
        };
        let builder = self.options.builder().map_err(TlsError::Options)?;
        let provider = builder.crypto_provider().clone();
        let all: Vec<&Path> = self.client_ca.into_iter().chain(self.front_proxy_ca).collect();
        let builder = match all.as_slice() {
            [] => builder.with_no_client_auth(),
            paths => builder.with_client_cert_verifier(verifier(paths)?),
        };
        let load = |certificate: &Path, key: &Path| pair(certificate, key, &provider);
        let shown = Shown::new(load(self.certificate, self.key)?, self.named, load)?;
        let mut config = builder.with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((config, authorities))
    }
}

/// Who can vouch for client certificates. The handshake has found that one of them does.
#[derive(Debug, Default)]
pub struct Authorities {
    users: Option<Arc<dyn ClientCertVerifier>>,
    front_proxies: Option<Arc<dyn ClientCertVerifier>>,
}

impl Authorities {
    /// The certificate of a chain, and who vouches for it.
    pub(super) fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
        let (certificate, intermediates) = chain.split_first()?;
        let vouches = |verifier: &Option<Arc<dyn ClientCertVerifier>>| {
            let verified = |verifier: &Arc<dyn ClientCertVerifier>| {
                verifier.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok()
            };
            verifier.as_ref().is_some_and(verified)
        };
        let vouched = match self.front_proxies {
            // Then it was the CA of users that the handshake asked.
            None => Vouched::FOR_USER,
            Some(_) => Vouched { user: vouches(&self.users), front_proxy: vouches(&self.front_proxies) },
        };
        Some(PeerCertificate::new(Bytes::copy_from_slice(certificate), vouched))
    }
}

fn pair(
    certificate: &Path,
    key: &Path,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem { path: key.to_owned(), source })?;
    let failed = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    CertifiedKey::from_der(chain, private, provider).map(Arc::new).map_err(failed)
}

fn verifier(paths: &[&Path]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|source| TlsError::Ca { path: (*path).to_owned(), source })?;
        }
    }
    WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().map_err(TlsError::Verifier)
}

/// The certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { path: path.to_owned(), source };
    let read = CertificateDer::pem_file_iter(path).map_err(pem)?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if all.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    Ok(all)
}
