//! Credentials of a kubelet that begins without any (upstream: `pkg/kubelet/certificate/bootstrap`).
//!
//! ```text
//! --bootstrap-kubeconfig --request--> certificate in --cert-dir --named by--> --kubeconfig --renewed--> ...
//! ```
//! Whoever has a kubeconfig already uses that, and needs no other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use daemon::LiveIdentity;
use kube::config::{AuthInfo, Context, Kubeconfig, NamedAuthInfo, NamedContext};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::certificates::{self, Kept, Purpose};

/// Name of the file with key and certificate, as upstream has it.
pub(super) const CLIENT: &str = "kubelet-client-current.pem";
const AGENT: &str = "kubelet";
/// What user and context are called.
const NAME: &str = "default-auth";
/// How long one request may take until another is made.
const PATIENCE: Duration = Duration::from_secs(60);
/// Waits after a request that came to nothing, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Where credentials are, and are to be.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) bootstrap: Option<PathBuf>,
    /// Holds certificates.
    pub(super) directory: PathBuf,
    pub(super) node: String,
    /// Whether they are renewed.
    pub(super) rotate: bool,
}

impl Credentials {
    /// A client for the API server, once there is a certificate to show, with what is to be renewed; `None` where `shutdown`
    /// came first.
    pub(super) async fn connect(
        &self,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<(kube::Client, Option<Kept>)>> {
        let there = self.kubeconfig.as_deref().is_some_and(Path::exists);
        if let Some(bootstrap) = self.bootstrap.as_deref().filter(|_| !there) {
            let kubeconfig = self.kubeconfig.as_deref();
            let kubeconfig =
                kubeconfig.context("--bootstrap-kubeconfig needs --kubeconfig: credentials are kept there")?;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                made = self.bootstrap(bootstrap, kubeconfig) => made?,
            }
        }
        let Some(kubeconfig) = self.kubeconfig.as_deref().filter(|path| self.rotate && self.is_ours(path)) else {
            return Ok(Some((client::connect(self.kubeconfig.as_deref(), AGENT).await?, None)));
        };
        let kept = Kept { identity: Arc::new(LiveIdentity::default()), file: self.file() };
        kept.read()?;
        let client = client::connect_as(kubeconfig, Arc::clone(&kept.identity), AGENT).await?;
        Ok(Some((client, Some(kept))))
    }

    fn file(&self) -> PathBuf {
        self.directory.join(CLIENT)
    }

    /// Asks for a certificate until there is one, and names it in the kubeconfig.
    async fn bootstrap(&self, bootstrap: &Path, kubeconfig: &Path) -> anyhow::Result<()> {
        let named = || format!("--bootstrap-kubeconfig {}", bootstrap.display());
        let cluster = Kubeconfig::read_from(bootstrap).with_context(named)?;
        let client = client::connect(Some(bootstrap), AGENT).await.with_context(named)?;
        let mut wait = RETRY.0;
        let pem = loop {
            match certificates::request(&client, &self.node, &Purpose::Client, PATIENCE).await {
                Ok(pem) => break pem,
                Err(err) => {
                    warn!(error = &err as &dyn std::error::Error, retry_in = ?wait, "no certificate for this node yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        };
        make_directory(&self.directory)?;
        crate::files::write_private(&self.file(), &pem).with_context(|| self.file().display().to_string())?;
        // Last: who finds it finds what it names.
        let text = self.kubeconfig_of(cluster).with_context(named)?;
        crate::files::write_private(kubeconfig, &text).with_context(|| format!("--kubeconfig {}", kubeconfig.display()))
    }

    /// The cluster of a kubeconfig, with our certificate as its user.
    fn kubeconfig_of(&self, bootstrap: Kubeconfig) -> anyhow::Result<String> {
        let current = bootstrap
            .current_context
            .as_ref()
            .and_then(|current| bootstrap.contexts.iter().find(|context| context.name == *current)?.context.as_ref());
        let cluster = current.context("it has no current context")?.cluster.clone();
        let named: Vec<_> = bootstrap.clusters.into_iter().filter(|one| one.name == cluster).collect();
        ensure!(!named.is_empty(), "its current context names no cluster");
        let file = Some(self.file().display().to_string());
        let user = AuthInfo { client_certificate: file.clone(), client_key: file, ..AuthInfo::default() };
        let context = Context { cluster, user: Some(NAME.to_owned()), ..Context::default() };
        let kubeconfig = Kubeconfig {
            clusters: named,
            auth_infos: vec![NamedAuthInfo {
                name: NAME.to_owned(),
                auth_info: Some(user),
                ..NamedAuthInfo::default()
            }],
            contexts: vec![NamedContext { name: NAME.to_owned(), context: Some(context), ..NamedContext::default() }],
            current_context: Some(NAME.to_owned()),
            api_version: Some("v1".to_owned()),
            kind: Some("Config".to_owned()),
            ..Kubeconfig::default()
        };
        Ok(serde_json::to_string_pretty(&kubeconfig)?)
    }

    /// Whether a kubeconfig names the certificate that is kept here. Others are their owners' to renew.
    fn is_ours(&self, kubeconfig: &Path) -> bool {
        let Ok(config) = Kubeconfig::read_from(kubeconfig) else { return false };
        let users = config.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
        let names_it = |path: &Option<String>| path.as_deref().is_some_and(|path| Path::new(path) == self.file());
        let mut users = users.peekable();
        users.peek().is_some() && users.all(|user| names_it(&user.client_certificate) && names_it(&user.client_key))
    }
}

pub(super) fn make_directory(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("--cert-dir {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "b",
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443"}}, {"name": "other", "cluster": {}}],
        "contexts": [{"name": "b", "context": {"cluster": "c", "user": "token"}}],
        "users": [{"name": "token", "user": {"token": "abcdef.0123456789abcdef"}}]}"#;

    fn credentials(directory: &Path) -> Credentials {
        Credentials {
            kubeconfig: Some(directory.join("kubeconfig")),
            bootstrap: None,
            directory: directory.join("pki"),
            node: "n".to_owned(),
            rotate: true,
        }
    }

    #[test]
    fn the_kubeconfig_that_is_made_names_the_certificate_and_not_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = credentials(directory.path());
        let text = credentials.kubeconfig_of(serde_json::from_str(BOOTSTRAP).unwrap()).unwrap();
        assert!(
            text.contains("https://192.0.2.1:6443") && !text.contains("abcdef") && !text.contains("other"),
            "{text}"
        );
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, text).unwrap();
        assert!(credentials.is_ours(&path));
        std::fs::write(&path, BOOTSTRAP).unwrap();
        assert!(!credentials.is_ours(&path), "a token is nothing to renew");
        let none = Kubeconfig::default();
        assert!(credentials.kubeconfig_of(none).is_err());
    }

    #[tokio::test]
    async fn a_kubelet_without_any_credentials_says_what_it_needs_and_waits_no_longer_than_it_is_to() {
        let directory = tempfile::tempdir().unwrap();
        let bootstrap = directory.path().join("bootstrap");
        // Nobody listens there.
        std::fs::write(&bootstrap, BOOTSTRAP.replace("192.0.2.1:6443", "127.0.0.1:1")).unwrap();
        let without = Credentials { kubeconfig: None, bootstrap: Some(bootstrap), ..credentials(directory.path()) };
        let shutdown = CancellationToken::new();
        let err = without.connect(&shutdown).await.err().unwrap().to_string();
        assert!(err.contains("needs --kubeconfig"), "{err}");
        let waiting = Credentials { kubeconfig: Some(directory.path().join("kubeconfig")), ..without };
        let end = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(waiting.connect(&shutdown), end);
        assert!(ended.unwrap().is_none() && !directory.path().join("kubeconfig").exists());
    }
}
