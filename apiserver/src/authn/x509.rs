//! Users by their client certificate (upstream's `authentication/request/x509`).

use api::strategy::User;
use async_trait::async_trait;
use http::request::Parts;

use super::{Authenticator, Rejected};
use crate::http::PeerCertificate;

/// Recognises users by their client certificate.
#[derive(Debug, Default)]
pub struct X509;

#[async_trait]
impl Authenticator for X509 {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        let Some(peer) = request.extensions.get::<PeerCertificate>() else { return Ok(None) };
        if !peer.vouched().user {
            return Err(Rejected::because("the client certificate is not signed by the CA of users"));
        }
        peer.user().map(Some).map_err(Rejected::because)
    }
}
