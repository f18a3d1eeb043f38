//! Who is at the other end of a connection, as extensions of its requests: its address, and its certificate, whose common
//! name is the user and whose organisations are the groups.
//!
//! The TLS layer has verified the chain against a client CA before a certificate gets into a request.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use api::strategy::User;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, Validity, X509Certificate};

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// Closes the connection that a request came by.
#[derive(Clone, Debug)]
pub(crate) struct Cut(pub(crate) CancellationToken);

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

    /// Whose certificate it is.
    pub(crate) fn vouched(&self) -> Vouched {
        self.vouched
    }

    fn known(&self) -> Result<&Known, String> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let known = read(&self.der)?;
        Ok(self.known.get_or_init(|| known))
    }

    /// The user that it is for, while it is valid; else why there is none.
    pub(crate) fn user(&self) -> Result<User, String> {
        let known = self.known()?;
        if !known.validity.is_valid() {
            return Err("the client certificate has expired or is not yet valid".into());
        }
        Ok(known.user.clone())
    }
}

fn read(der: &[u8]) -> Result<Known, String> {
    let unreadable = |err: &dyn std::fmt::Display| format!("unreadable client certificate: {err}");
    let (_, certificate) = X509Certificate::from_der(der).map_err(|err| unreadable(&err))?;
    let names =
        daemon::names_of(certificate.subject()).ok_or("the client certificate has no common name that can be read")?;
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
