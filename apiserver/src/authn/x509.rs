//! Client certificates: the common name is the user, the organisations are the groups.
//!
//! The TLS layer has verified the chain against the client CA before a certificate gets into a request.

use std::sync::{Arc, OnceLock};

use api::strategy::User;
use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use x509_parser::prelude::{FromDer as _, Validity, X509Certificate};

use super::{Authenticator, Rejected};

/// The verified certificate of the peer, in DER: a request extension set by whoever accepted the connection.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    der: Bytes,
    vouched: Vouched,
    /// Read by the first request of the connection.
    known: Arc<OnceLock<Known>>,
}

/// Whom a certificate is for, and when.
#[derive(Debug)]
struct Known {
    user: User,
    validity: Validity,
}

/// Whose certificate it is, by the CAs that signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouched {
    pub user: bool,
    pub front_proxy: bool,
}

impl Vouched {
    /// Signed by the CA of users only.
    pub const FOR_USER: Self = Self { user: true, front_proxy: false };
}

impl PeerCertificate {
    /// A certificate in DER, and who vouches for it.
    pub fn new(der: Bytes, vouched: Vouched) -> Self {
        Self { der, vouched, known: Arc::default() }
    }

    /// The certificate itself, in DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The common name, when it is the certificate of a front proxy.
    pub(super) fn front_proxy(&self) -> Result<Option<String>, Rejected> {
        if !self.vouched.front_proxy {
            return Ok(None);
        }
        self.user().map(|user| Some(user.name))
    }

    fn known(&self) -> Result<&Known, Rejected> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let known = read(&self.der)?;
        Ok(self.known.get_or_init(|| known))
    }

    /// The user that it is for, while it is valid.
    pub(crate) fn user(&self) -> Result<User, Rejected> {
        let known = self.known()?;
        if !known.validity.is_valid() {
            return Err(Rejected::because("the client certificate has expired or is not yet valid"));
        }
        Ok(known.user.clone())
    }
}

/// Recognises users by their client certificate.
#[derive(Debug, Default)]
pub struct X509;

#[async_trait]
impl Authenticator for X509 {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        let Some(peer) = request.extensions.get::<PeerCertificate>() else { return Ok(None) };
        if !peer.vouched.user {
            return Err(Rejected::because("the client certificate is not signed by the CA of users"));
        }
        peer.user().map(Some)
    }
}

fn read(der: &[u8]) -> Result<Known, Rejected> {
    let unreadable = |err: &dyn std::fmt::Display| Rejected::because(format!("unreadable client certificate: {err}"));
    let (_, certificate) = X509Certificate::from_der(der).map_err(|err| unreadable(&err))?;
    let names = daemon::names_of(certificate.subject())
        .ok_or_else(|| Rejected::because("the client certificate has no common name that can be read"))?;
    let fingerprint = sha2::Digest::finalize(sha2::Digest::chain_update(<sha2::Sha256 as sha2::Digest>::new(), der));
    let hex = fingerprint.iter().fold(String::from("X509SHA256="), |mut text, byte| {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    });
    let extra = vec![("authentication.kubernetes.io/credential-id".to_owned(), vec![hex])];
    let user = User { name: names.common, groups: names.organizations, extra, ..User::default() };
    Ok(Known { user, validity: certificate.validity().clone() })
}
