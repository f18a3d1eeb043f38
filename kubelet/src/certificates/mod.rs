//! The certificates of a node: asked for, kept in a file, and asked for again in time (upstream: pkg/kubelet/certificate).
//!
//! ```text
//! key + request --create--> CertificateSigningRequest --approved, signed--> file, LiveIdentity --70 to 90 % of its life--+
//!      ^                                                                                                                 |
//!      +-----------------------------------------------------------------------------------------------------------------+
//! ```

mod request;

pub use request::{Error, request};

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daemon::LiveIdentity;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Waits after a request that came to nothing, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));
/// How long one request may take until it is asked again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The node shows it to the API server.
    Client,
    /// The kubelet's server shows it at these addresses, and under the node's name.
    Serving(Vec<IpAddr>),
}

/// A certificate that is renewed while it is used.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Gets each new one.
    pub identity: Arc<LiveIdentity>,
    /// Where it is kept, with its key.
    pub file: PathBuf,
}

/// The certificates that a kubelet renews.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// The one that it shows to the API server.
    pub client: Option<Kept>,
    /// That of its server.
    pub serving: Option<Kept>,
}

impl Kept {
    /// Takes what the file holds, if it is there.
    pub fn read(&self) -> Result<(), Error> {
        match std::fs::read_to_string(&self.file) {
            Ok(pem) => self.identity.set(&pem).map_err(Error::Unfit),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Read { path: self.file.clone(), source }),
        }
    }
}

impl Certificates {
    /// What renews them.
    pub(crate) fn keepers(
        &self,
        client: &kube::Client,
        node: &str,
        addresses: &[IpAddr],
    ) -> Vec<(&'static str, Keeper)> {
        let keeper = |purpose: Purpose, kept: &Kept| {
            let Kept { identity, file } = kept.clone();
            Keeper { client: client.clone(), node: node.to_owned(), purpose, file, identity }
        };
        let of_client = self.client.iter().map(|kept| ("client certificate", keeper(Purpose::Client, kept)));
        let serving = || Purpose::Serving(addresses.to_vec());
        of_client.chain(self.serving.iter().map(|kept| ("serving certificate", keeper(serving(), kept)))).collect()
    }
}

/// Keeps one certificate of a node.
pub(crate) struct Keeper {
    /// Shows the node's client certificate.
    pub(crate) client: kube::Client,
    /// The node's name.
    pub(crate) node: String,
    /// What the certificate is for.
    pub(crate) purpose: Purpose,
    /// Where it is kept, with its key.
    pub(crate) file: PathBuf,
    /// Gets each new one.
    pub(crate) identity: Arc<LiveIdentity>,
}

impl Keeper {
    /// Asks for the certificate if there is none, and again before it ends, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let mut wait = RETRY.0;
        // Where between 70 and 90 % of its life it is renewed: nodes that began together do not ask together.
        let share = rand::random_range(0.7..0.9);
        loop {
            let left = self.identity.validity().map_or(Duration::ZERO, |life| until(life, share, SystemTime::now()));
            let renewed = async {
                tokio::time::sleep(left).await;
                self.renew().await
            };
            let result = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                result = renewed => result,
            };
            let Err(err) = result else {
                info!(purpose = ?self.purpose, "the node has a new certificate");
                wait = RETRY.0;
                continue;
            };
            warn!(purpose = ?self.purpose, error = &err as &dyn std::error::Error, retry_in = ?wait, "no certificate yet");
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn renew(&self) -> Result<(), Error> {
        let pem = request(&self.client, &self.node, &self.purpose, PATIENCE).await?;
        crate::files::write_private(&self.file, &pem)
            .map_err(|source| Error::Keep { path: self.file.clone(), source })?;
        self.identity.set(&pem).map_err(Error::Unfit)
    }
}

/// How long until that share of a life is over.
fn until((from, until): (SystemTime, SystemTime), share: f64, now: SystemTime) -> Duration {
    let life = until.duration_since(from).unwrap_or_default();
    (from + life.mul_f64(share)).duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_before_its_end_and_at_once_after_that() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(until((at(1000), at(2000)), 0.8, at(1000)), Duration::from_secs(800));
        assert_eq!(until((at(1000), at(2000)), 0.8, at(1900)), Duration::ZERO);
        assert_eq!(until((at(2000), at(1000)), 0.8, at(3000)), Duration::ZERO);
    }
}
