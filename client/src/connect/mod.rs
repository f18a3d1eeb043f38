//! Builds the API client of a process from its kubeconfig.
//!
//! All requests of a client, watches included, share one HTTP/2 connection, as client-go's do. A connection on which
//! nothing arrives is probed with pings: one that leads nowhere (a lost network, a proxy that hangs) fails everything
//! on it soon, and the next request makes another.

mod transport;

use std::path::{Path, PathBuf};

use http::{HeaderValue, header};
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
    let agent = HeaderValue::from_str(user_agent).map_err(|_| Error::UserAgent(user_agent.to_owned()))?;
    config.headers.push((header::USER_AGENT, agent));
    transport::client(config, Patience::default()).map_err(|err| Error::Client(Box::new(err)))
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
