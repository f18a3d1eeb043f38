//! Users by JSON web tokens of issuers (OpenID Connect): those of `--authentication-config` (KEP-3331), or the one of
//! `--oidc-*`. The file is followed: another one counts once all its issuers have been found, and the one before goes on
//! until then.

mod config;
mod fetch;
mod file;
mod flags;
mod issuer;
mod keys;
mod mapping;
mod metrics;
mod rules;
pub(super) mod testing;
mod token;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use api::strategy::User;
use async_trait::async_trait;
use futures::future::join_all;
use http::request::Parts;
use tokio_util::sync::CancellationToken;

use self::issuer::Issuer;
use self::metrics::Metrics;
use self::token::Token;
use super::{Authenticator, Rejected, Reviewed, bearer};
use crate::error::Error;

pub(super) use config::{Settings, read};
pub(crate) use fetch::Connections;
pub(super) use file::{JwtAuthenticator, SHAPE};
pub use flags::OidcArgs;

/// A new file waits for its issuers so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file that issuers are read from.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// How often it is looked at.
    pub(super) poll: Duration,
    /// What it said at the start.
    pub(super) text: String,
    pub(super) read: Arc<Read>,
}

/// The issuers of another text of the file.
type Read = dyn Fn(&str) -> Result<Vec<Settings>, String> + Send + Sync;

/// The authenticator of all issuers.
pub(crate) struct Jwt {
    issuers: RwLock<Arc<Vec<Issuer>>>,
    /// Audiences of this server, which every token is good for.
    audiences: Vec<String>,
    source: Option<Source>,
    connections: Connections,
    metrics: Metrics,
}

impl Jwt {
    /// The issuers of flags or a file; `None` when there are none, and none can come. Nothing is asked of them before
    /// [`Self::run`].
    pub(super) fn new(
        issuers: &[Settings],
        source: Option<Source>,
        audiences: Vec<String>,
        connections: Connections,
        process: &daemon::Metrics,
    ) -> Result<Option<Self>, Error> {
        if source.is_none() && issuers.is_empty() {
            return Ok(None);
        }
        let metrics = Metrics::new(process);
        let flag = if source.is_some() { "authentication-config" } else { "oidc-issuer-url" };
        let issuers = make(issuers, &connections, &metrics).map_err(|why| Error::Flag { flag, why })?;
        if let Some(source) = &source {
            metrics.applied(&source.text);
        }
        Ok(Some(Self { issuers: RwLock::new(Arc::new(issuers)), audiences, source, connections, metrics }))
    }

    fn issuers(&self) -> Arc<Vec<Issuer>> {
        self.issuers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn user(&self, token: &str) -> Result<Option<User>, Rejected> {
        let Some(token) = Token::read(token) else { return Ok(None) };
        let issuers = self.issuers();
        let issuer = token.issuer().and_then(|url| issuers.iter().find(|issuer| issuer.url() == url));
        let Some(issuer) = issuer else { return Ok(None) };
        let began = Instant::now();
        let user = issuer.user(&token).await;
        self.metrics.judged(issuer.url(), user.is_ok(), began.elapsed());
        user.map(Some).map_err(|why| Rejected::because(format!("oidc: {why}")))
    }

    /// Finds issuers, fetches their keys and follows the file, until shutdown.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        let mut known = self.source.as_ref().map(|source| source.text.clone()).unwrap_or_default();
        loop {
            let issuers = self.issuers();
            let next = tokio::select! {
                () = shutdown.cancelled() => return,
                () = drive(&issuers) => return,
                next = self.changed(&mut known) => next,
            };
            let next = Arc::new(next);
            *self.issuers.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
            let gone = issuers.iter().filter(|before| next.iter().all(|issuer| issuer.url() != before.url()));
            gone.for_each(|issuer| self.metrics.forget(issuer.url()));
            self.metrics.applied(&known);
            self.metrics.reloaded(true);
            tracing::info!("reloaded the authentication configuration");
        }
    }

    /// Waits for a file that says something else, and whose issuers have all been found. `known` is the text of the last
    /// file that need not be looked at again.
    async fn changed(&self, known: &mut String) -> Vec<Issuer> {
        let Some(source) = &self.source else { return std::future::pending().await };
        loop {
            tokio::time::sleep(source.poll).await;
            let failed = |why: &str| {
                self.metrics.reloaded(false);
                tracing::error!(path = %source.path.display(), %why, "the authentication configuration before goes on");
            };
            let text = match tokio::fs::read_to_string(&source.path).await {
                Ok(text) if text == *known => continue,
                Ok(text) => text,
                Err(err) => {
                    failed(&format!("cannot be read: {err}"));
                    continue;
                }
            };
            let made = (source.read)(&text).and_then(|settings| make(&settings, &self.connections, &self.metrics));
            match made {
                // It will not become better by itself.
                Err(why) => {
                    *known = text;
                    failed(&why);
                }
                Ok(issuers) => match become_well(&issuers).await {
                    Ok(()) => {
                        *known = text;
                        return issuers;
                    }
                    Err(why) => failed(&why),
                },
            }
        }
    }
}

fn make(settings: &[Settings], connections: &Connections, metrics: &Metrics) -> Result<Vec<Issuer>, String> {
    let make = |settings: &Settings| {
        let url = settings.url.clone();
        Issuer::new(settings.clone(), connections.clone(), metrics.clone())
            .map_err(|why| format!("issuer {url:?}: {why}"))
    };
    settings.iter().map(make).collect()
}

/// Drives all issuers; never ends.
async fn drive(issuers: &[Issuer]) {
    join_all(issuers.iter().map(Issuer::drive)).await;
    std::future::pending().await
}

/// Waits until all issuers have been found, but not for ever.
async fn become_well(issuers: &[Issuer]) -> Result<(), String> {
    let found = join_all(issuers.iter().map(Issuer::found));
    tokio::select! {
        _all = found => Ok(()),
        () = drive(issuers) => Ok(()),
        () = tokio::time::sleep(PATIENCE) => {
            let missing: Vec<String> = issuers.iter().filter_map(Issuer::missing).collect();
            if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
        }
    }
}

#[async_trait]
impl Authenticator for Jwt {
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected> {
        let Some(token) = bearer(request)? else { return Ok(None) };
        self.user(&token).await
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<Reviewed>, Rejected> {
        // The audiences of a token are those that its issuer gave it, so that it is good for all of this server's.
        let audiences: Vec<String> =
            audiences.iter().filter(|wanted| self.audiences.contains(wanted)).cloned().collect();
        if audiences.is_empty() {
            return Ok(None);
        }
        Ok(self.user(token).await?.map(|user| Reviewed { user, audiences }))
    }
}
