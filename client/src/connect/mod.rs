//! Builds the API client of a process from its kubeconfig.
//!
//! All requests of a client, watches included, share one HTTP/2 connection, as client-go's do. A connection on which
//! nothing arrives is probed with pings: one that leads nowhere (a lost network, a proxy that hangs) fails everything
//! on it soon, and the next request makes another.

mod transport;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::LiveIdentity;
use http::{HeaderValue, Uri, header};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use transport::Patience;

/// Why no client could be built; the message says which file to look at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or is not a kubeconfig.
    #[error("read kubeconfig {path}")]
    Read {
        /// The file that was named.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// The file is well-formed, but its current context cannot be used.
    #[error("use kubeconfig {path}")]
    Use {
        /// The file that was named.
        path: PathBuf,
        /// The part that is missing or broken.
        #[source]
        source: KubeconfigError,
    },
    /// No file was named, and neither `$KUBECONFIG`, `~/.kube/config` nor a pod's service account helped.
    #[error("no --kubeconfig given and none found")]
    Infer(#[source] Box<InferConfigError>),
    /// The user agent cannot be sent as a header.
    #[error("user agent {0:?} is not a valid header value")]
    UserAgent(String),
    /// The TLS material of the kubeconfig cannot be used.
    #[error("build the API client")]
    Client(#[source] Box<kube::Error>),
}

/// Builds a client from the kubeconfig file at `kubeconfig`, or from the environment as kubectl does when `None`.
///
/// Does not contact the server: a client for a server that is not up yet is fine. It makes plain requests and watches;
/// `exec` and its like need an upgrade, which HTTP/2 has not.
pub async fn connect(kubeconfig: Option<&Path>, user_agent: &str) -> Result<kube::Client, Error> {
    let mut config = config(kubeconfig).await?;
    config.headers.push((header::USER_AGENT, agent(user_agent)?));
    transport::client(config, Patience::default(), None).map_err(|err| Error::Client(Box::new(err)))
}

/// An API server that no file tells of.
#[derive(Clone, Debug)]
pub struct Server {
    /// Such as `https://10.0.0.1:6443`.
    pub url: Uri,
    /// The authorities (DER) by which it is believed; `None` believes whoever answers.
    pub authorities: Option<Vec<Vec<u8>>>,
}

impl Server {
    /// A client that shows a token, or nothing.
    pub fn connect(self, token: Option<&str>, user_agent: &str) -> Result<kube::Client, Error> {
        let mut config = self.config(user_agent)?;
        config.auth_info.token = token.map(|token| token.to_owned().into());
        transport::client(config, Patience::default(), None).map_err(|err| Error::Client(Box::new(err)))
    }

    /// A client that shows a certificate, and another one as soon as that has changed.
    pub fn connect_as(self, identity: Arc<LiveIdentity>, user_agent: &str) -> Result<kube::Client, Error> {
        let config = self.config(user_agent)?;
        transport::client(config, Patience::default(), Some(identity)).map_err(|err| Error::Client(Box::new(err)))
    }

    fn config(self, user_agent: &str) -> Result<kube::Config, Error> {
        let mut config = kube::Config::new(self.url);
        config.accept_invalid_certs = self.authorities.is_none();
        config.root_cert = self.authorities;
        config.headers.push((header::USER_AGENT, agent(user_agent)?));
        Ok(config)
    }
}

/// The same as [`connect`], but shows a certificate that may change, instead of what the file says of users.
pub async fn connect_as(
    kubeconfig: &Path,
    identity: Arc<LiveIdentity>,
    user_agent: &str,
) -> Result<kube::Client, Error> {
    let mut config = config(Some(kubeconfig)).await?;
    config.auth_info = kube::config::AuthInfo::default();
    config.headers.push((header::USER_AGENT, agent(user_agent)?));
    transport::client(config, Patience::default(), Some(identity)).map_err(|err| Error::Client(Box::new(err)))
}

fn agent(user_agent: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(user_agent).map_err(|_| Error::UserAgent(user_agent.to_owned()))
}

/// The certificates (DER) by which the client that [`connect`] builds from the same file trusts the API server; none when
/// the file names none.
pub async fn authorities(kubeconfig: Option<&Path>) -> Result<Vec<Vec<u8>>, Error> {
    Ok(config(kubeconfig).await?.root_cert.unwrap_or_default())
}

async fn config(kubeconfig: Option<&Path>) -> Result<kube::Config, Error> {
    match kubeconfig {
        Some(path) => from_file(path).await,
        None => kube::Config::infer().await.map_err(|err| Error::Infer(Box::new(err))),
    }
}

async fn from_file(path: &Path) -> Result<kube::Config, Error> {
    let named = |path: &Path| path.to_owned();
    let file = Kubeconfig::read_from(path).map_err(|source| Error::Read { path: named(path), source })?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|source| Error::Use { path: named(path), source })
}

#[cfg(test)]
mod tests;
