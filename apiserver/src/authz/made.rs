//! Which authorisers there are: what the flags or the file say, put together. Upstream:
//! `kubeapiserver/authorizer.Config`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bootstrap_policy;
use super::configured::{self, Configured};
use super::webhook::{Webhook, WebhookConfig};
use super::{AlwaysAllow, AlwaysDeny, Authorizers, Chain, Nodes, PublicPaths, Rbac, Rule};
use crate::config::Config;
use crate::error::Error;
use crate::outbound::kubeconfig::Remote;
use crate::outbound::webhooks::Webhooks;
use crate::watch_cache::WatchCache;

/// Authorisers that are told more than their mode.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct AuthorizationConfig {
    /// Authorisers in order, with their options: an AuthorizationConfiguration, instead of --authorization-mode.
    #[arg(id = "authorization-config", long)]
    pub file: Option<PathBuf>,
    /// How often the file is looked at.
    #[arg(skip = Duration::from_secs(60))]
    pub poll: Duration,
    /// The webhook of the mode `Webhook`.
    #[command(flatten)]
    pub webhook: WebhookConfig,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        daemon::pflag::defaults()
    }
}

impl AuthorizationConfig {
    /// Refuses a file beside flags that say the same, of which `modes` is one.
    pub(crate) fn check(&self, modes: &[String]) -> Result<(), Error> {
        if self.file.is_some() && (!modes.is_empty() || self.webhook != WebhookConfig::default()) {
            let why = "can not be specified when --authorization-mode or --authorization-webhook-* flags are defined";
            return Err(Error::Flag { flag: "authorization-config", why: why.to_owned() });
        }
        Ok(())
    }
}

/// Makes authorisers; those with a memory (roles, the graph of nodes) are there once.
pub(crate) struct Maker {
    cache: Arc<WatchCache>,
    rbac: Arc<Rbac>,
    node_rules: Vec<Rule>,
    nodes: OnceLock<Arc<Nodes>>,
    webhooks: Webhooks,
}

impl Maker {
    pub(crate) fn new(cache: &Arc<WatchCache>, rbac: &Arc<Rbac>, webhooks: &Webhooks) -> Result<Self, Error> {
        let node_rules = bootstrap_policy::node_rules()?;
        let (cache, rbac, webhooks) = (cache.clone(), rbac.clone(), webhooks.clone());
        Ok(Self { cache, rbac, node_rules, nodes: OnceLock::new(), webhooks })
    }

    /// The authorisers of a configuration.
    pub(crate) fn make(&self, config: &Config) -> Result<Authorizers, Error> {
        if let Some(path) = &config.authorization.file {
            let failed = |why: String| Error::Flag { flag: "authorization-config", why };
            let text =
                std::fs::read_to_string(path).map_err(|err| failed(format!("read {}: {err}", path.display())))?;
            return self.of_file(path, &text).map_err(failed);
        }
        let refused = |why: String| Err(Error::Flag { flag: "authorization-mode", why });
        let mut chain: Authorizers = vec![Arc::new(PublicPaths)];
        for (at, mode) in config.authorization_modes.iter().enumerate() {
            if config.authorization_modes[..at].contains(mode) {
                return refused(format!("{mode:?} is given more than once"));
            }
            let made = match mode.as_str() {
                "Webhook" => self.webhook(&config.authorization.webhook),
                mode => self.mode(mode),
            };
            match made {
                Ok(authorizer) => chain.push(authorizer),
                Err(why) => return refused(why),
            }
        }
        if config.authorization.webhook.file.is_some()
            && !config.authorization_modes.iter().any(|mode| mode == "Webhook")
        {
            let why = "needs --authorization-mode=Webhook".to_owned();
            return Err(Error::Flag { flag: "authorization-webhook-config-file", why });
        }
        Ok(chain)
    }

    fn of_file(&self, path: &Path, text: &str) -> Result<Authorizers, String> {
        let mut chain: Authorizers = vec![Arc::new(PublicPaths)];
        for configured in configured::read(path, text)? {
            chain.push(match configured {
                Configured::Mode(mode) => self.mode(&mode)?,
                Configured::Webhook(config) => self.webhook(&config)?,
            });
        }
        Ok(chain)
    }

    fn mode(&self, mode: &str) -> Result<Arc<dyn super::Authorizer>, String> {
        Ok(match mode {
            "AlwaysAllow" => Arc::new(AlwaysAllow),
            "AlwaysDeny" => Arc::new(AlwaysDeny),
            "RBAC" => self.rbac.clone(),
            "Node" => self.nodes.get_or_init(|| Arc::new(Nodes::new(&self.cache, self.node_rules.clone()))).clone(),
            "ABAC" => return Err("there is no authoriser \"ABAC\" here".to_owned()),
            other => {
                return Err(format!(
                    "unknown mode {other:?}: choose from Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny"
                ));
            }
        })
    }

    fn webhook(&self, config: &WebhookConfig) -> Result<Arc<dyn super::Authorizer>, String> {
        let Some(path) = &config.file else {
            return Err("\"Webhook\" needs --authorization-webhook-config-file".to_owned());
        };
        let flat = |err: &dyn std::error::Error| format!("webhook {:?}: {err}", config.name);
        let remote = Remote::read(path).map_err(|err| flat(&err))?;
        let client = self.webhooks.reviewer(&remote).map_err(|err| flat(&err))?;
        Ok(Arc::new(Webhook::new(client, config.clone())))
    }

    /// Follows the file, if there is one, until shutdown. One that cannot be used changes nothing.
    pub(crate) async fn follow(&self, config: &AuthorizationConfig, chain: &Chain, shutdown: &CancellationToken) {
        let Some(path) = &config.file else { return };
        let mut known = tokio::fs::read_to_string(path).await.unwrap_or_default();
        // The file may have changed since the start.
        let mut settled = self.of_file(path, &known).map(|made| chain.replace(made)).is_ok();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(config.poll) => {}
            }
            let text = match tokio::fs::read_to_string(path).await {
                Ok(text) if text == known && settled => continue,
                Ok(text) => text,
                Err(err) => {
                    tracing::error!(path = %path.display(), error = &err as &dyn std::error::Error, "cannot be read");
                    continue;
                }
            };
            match self.of_file(path, &text) {
                Ok(made) => {
                    chain.replace(made);
                    tracing::info!(path = %path.display(), "the authorization configuration is a new one");
                    (known, settled) = (text, true);
                }
                Err(why) => {
                    tracing::error!(path = %path.display(), %why, "the authorization configuration before goes on");
                    settled = false;
                }
            }
        }
    }
}
