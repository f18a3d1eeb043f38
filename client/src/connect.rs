//! Builds the API client of a process from its kubeconfig.

use std::path::{Path, PathBuf};

use http::{HeaderValue, header};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

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
/// Does not contact the server: a client for a server that is not up yet is fine.
pub async fn connect(kubeconfig: Option<&Path>, user_agent: &str) -> Result<kube::Client, Error> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => kube::Config::infer().await.map_err(|err| Error::Infer(Box::new(err)))?,
    };
    let agent = HeaderValue::from_str(user_agent).map_err(|_| Error::UserAgent(user_agent.to_owned()))?;
    config.headers.push((header::USER_AGENT, agent));
    kube::Client::try_from(config).map_err(|err| Error::Client(Box::new(err)))
}

async fn from_file(path: &Path) -> Result<kube::Config, Error> {
    let named = |path: &Path| path.to_owned();
    let file = Kubeconfig::read_from(path).map_err(|source| Error::Read { path: named(path), source })?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|source| Error::Use { path: named(path), source })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    async fn refusal(content: Option<&str>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let err = connect(Some(&path), "test").await.err().expect("refused");
        format!("{err}: {}", err.source().unwrap())
    }

    #[tokio::test]
    async fn a_missing_or_broken_kubeconfig_is_named() {
        let missing = refusal(None).await;
        assert!(missing.contains("/config") && missing.contains("No such file"), "{missing}");
        let garbage = refusal(Some("{{{")).await;
        assert!(garbage.contains("parse"), "{garbage}");
        let empty = refusal(Some("apiVersion: v1\nkind: Config\n")).await;
        assert!(empty.contains("use kubeconfig") && empty.contains("context"), "{empty}");
    }

    #[tokio::test]
    async fn a_plain_kubeconfig_makes_a_client_without_contacting_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
             clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n",
        )
        .unwrap();
        assert_eq!(connect(Some(&path), "coracle-test/1").await.unwrap().default_namespace(), "default");
        assert!(matches!(connect(Some(&path), "bad\nagent").await, Err(Error::UserAgent(_))));
    }
}
