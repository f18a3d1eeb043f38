//! A certificate that is changed while it is used: of a server, or of a client (upstream: client-go's
//! `util/certificate`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why a text is no certificate with its key.
#[derive(Debug, thiserror::Error)]
pub enum LiveIdentityError {
    #[error("it has no certificate and private key")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("its certificate cannot be read")]
    Certificate,
    #[error("certificate and private key do not belong together")]
    Unfit(#[source] rustls::Error),
}

/// A certificate and its key, or none yet. What TLS is configured with it always shows the latest.
#[derive(Debug, Default)]
pub struct LiveIdentity {
    current: RwLock<Option<Current>>,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    validity: (SystemTime, SystemTime),
}

impl LiveIdentity {
    /// Takes a private key and its certificates, as PEM in one text, from now on.
    pub fn set(&self, pem: &str) -> Result<(), LiveIdentityError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(LiveIdentityError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(LiveIdentityError::Pem)?;
        let validity = validity(certificates.first()).ok_or(LiveIdentityError::Certificate)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(certificates, key, &provider).map_err(LiveIdentityError::Unfit)?;
        let current = Current { key: Arc::new(key), validity };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// How often it was set.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// From when until when the certificate holds; `None` while there is none.
    pub fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|current| current.validity)
    }

    fn key(&self) -> Option<Arc<CertifiedKey>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|current| Arc::clone(&current.key))
    }
}

fn validity(certificate: Option<&CertificateDer<'_>>) -> Option<(SystemTime, SystemTime)> {
    let (_, certificate) = X509Certificate::from_der(certificate?).ok()?;
    let time = |seconds: i64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?));
    let validity = certificate.validity();
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

impl ResolvesServerCert for LiveIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key()
    }
}

impl ResolvesClientCert for LiveIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key()
    }

    fn has_certs(&self) -> bool {
        self.key().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(key: &rcgen::KeyPair, of: &rcgen::KeyPair) -> String {
        let certificate = rcgen::CertificateParams::new(vec!["n".to_owned()]).unwrap().self_signed(of).unwrap();
        key.serialize_pem() + &certificate.pem()
    }

    #[test]
    fn what_is_set_last_is_shown_and_what_does_not_fit_changes_nothing() {
        let (one, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let identity = LiveIdentity::default();
        assert!(identity.key().is_none() && identity.validity().is_none());
        identity.set(&pem(&one, &one)).unwrap();
        let (from, until) = identity.validity().unwrap();
        assert!(from < until);
        let first = identity.key().unwrap();
        assert!(matches!(identity.set(&pem(&one, &other)), Err(LiveIdentityError::Unfit(_))));
        for text in ["", "x", &one.serialize_pem(), &pem(&one, &one)[..300]] {
            assert!(identity.set(text).is_err());
        }
        assert_eq!((identity.generation(), Arc::ptr_eq(&first, &identity.key().unwrap())), (1, true));
        identity.set(&pem(&other, &other)).unwrap();
        assert_eq!((identity.generation(), Arc::ptr_eq(&first, &identity.key().unwrap())), (2, false));
    }
}
