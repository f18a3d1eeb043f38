//! Which authenticators there are: what the flags and the file say, put together. Upstream:
//! `kubeapiserver/authenticator.Config`.

use std::sync::Arc;

use daemon::Process;
use tokio_util::task::TaskTracker;

use super::configured::Configured;
use super::jwt::{Connections, Jwt};
use super::tokens::Tokens;
use super::webhook::TokenWebhook;
use super::{Anonymous, Authenticator, BootstrapTokens, Chain, FrontProxy, TokenFile, X509};
use crate::config::Config;
use crate::error::Error;
use crate::outbound::kubeconfig::Remote;
use crate::outbound::webhooks::Webhooks;
use crate::watch_cache::WatchCache;

/// All authenticators in order, and by itself the one that must run to find its issuers.
pub(crate) fn chain(
    config: &Config,
    cache: &WatchCache,
    tokens: Option<Arc<Tokens>>,
    webhooks: &Webhooks,
    connections: &TaskTracker,
    process: &Process,
) -> Result<(Chain, Option<Arc<Jwt>>), Error> {
    let configured = Configured::of(config)?;
    let audiences = tokens.as_ref().map_or(config.api_audiences.as_slice(), |tokens| tokens.audiences()).to_vec();
    let connections = Connections { tasks: connections.clone(), shutdown: process.shutdown.clone() };
    let jwt =
        Jwt::new(&configured.issuers, configured.source.clone(), audiences.clone(), connections, &process.metrics)?
            .map(Arc::new);
    let mut chain: Vec<Arc<dyn Authenticator>> = Vec::new();
    let proxies = &config.front_proxies;
    if proxies.ca.is_some() {
        chain.push(Arc::new(FrontProxy::new(proxies.allowed_names.clone(), proxies.headers.clone())));
    }
    chain.push(Arc::new(X509));
    if let Some(path) = &config.token_auth_file {
        chain.push(Arc::new(TokenFile::read(path).map_err(Error::part("--token-auth-file"))?));
    }
    chain.extend(tokens.map(|tokens| tokens as Arc<dyn Authenticator>));
    if config.bootstrap_tokens {
        chain.extend(BootstrapTokens::new(cache).map(|tokens| Arc::new(tokens) as Arc<dyn Authenticator>));
    }
    // After this server's own tokens, as upstream: both read JSON web tokens, and those of issuers are rarer.
    chain.extend(jwt.clone().map(|jwt| jwt as Arc<dyn Authenticator>));
    if let Some(path) = &config.token_webhook.file {
        let flag = |why: String| Error::Flag { flag: "authentication-token-webhook-config-file", why };
        let remote = Remote::read(path).map_err(|err| flag(err.to_string()))?;
        let client = webhooks.reviewer(&remote).map_err(|err| flag(err.to_string()))?;
        chain.push(Arc::new(TokenWebhook::new(client, config.token_webhook.clone(), audiences)));
    }
    Ok((Chain::new(chain, anonymous(config, &configured)), jwt))
}

/// Where requests without credentials pass: nowhere if everybody may do everything, as upstream.
fn anonymous(config: &Config, configured: &Configured) -> Anonymous {
    let to_all = config.authorization_modes.iter().any(|mode| mode == "AlwaysAllow");
    if config.anonymous_auth && to_all {
        tracing::warn!(
            "AnonymousAuth is not allowed with the AlwaysAllow authorizer. Resetting AnonymousAuth to false. You should use \
             a different authorizer"
        );
        return Anonymous::Nowhere;
    }
    configured.anonymous(config.anonymous_auth)
}
