//! Encryption at rest (`--encryption-provider-config`): values are sealed on their way to the store and opened on their
//! way from it, in upstream's formats, so that both read what the other wrote. The store sees ciphertext only, the watch
//! cache plaintext only. Without the flag nothing of this is there.
//!
//! ```text
//! registry -> Sealed (a Store) -> store          seals what it puts, opens what it gets and lists
//! feed of the watch cache <- AtRest <- store     opens what it takes in, one value at a time
//! ```
//!
//! A value that cannot be opened is an error that names its key, for everybody who would have seen it, and never absent.

mod chain;
mod cipher;
mod config;
mod kms;
mod metrics;
mod reload;
mod resources;
mod sealed;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::catalog::Catalog;
use bytes::Bytes;
use tokio::sync::watch;

use self::chain::{Chain, Keys, Provider};
use self::cipher::Cipher;
use self::config::Configuration;
use self::kms::{Kms, KmsError};
use self::metrics::Metrics;
use self::resources::{Resources, names_of};
pub(crate) use self::sealed::Sealed;
use crate::error::Error as ServerError;

/// How every sealed value begins.
pub(crate) const ENCRYPTED: &[u8] = b"k8s:enc:";

/// How objects are kept.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct EncryptionConfig {
    /// With which keys objects are encrypted in the store: an EncryptionConfiguration.
    #[arg(id = "encryption-provider-config", long)]
    pub file: Option<PathBuf>,
    /// Whether changes of that file count without a restart.
    #[arg(id = "encryption-provider-config-automatic-reload", long)]
    pub reload: bool,
    /// How often it is looked at.
    #[arg(skip = Duration::from_secs(60))]
    pub poll: Duration,
}

impl Default for EncryptionConfig {
    fn default() -> Self {
        daemon::pflag::defaults()
    }
}

impl EncryptionConfig {
    /// Refuses to follow a file that there is not.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        if self.reload && self.file.is_none() {
            let why = "must be set with --encryption-provider-config".to_owned();
            return Err(ServerError::Flag { flag: "encryption-provider-config-automatic-reload", why });
        }
        Ok(())
    }
}

/// Why a value cannot be sealed or opened. Upstream's words, where it has some.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no matching prefix found")]
    NoPrefix,
    #[error("identity transformer tried to read encrypted data")]
    Encrypted,
    #[error("no matching key was found for the provided {0} transformer")]
    NoKey(&'static str),
    #[error("the stored data was shorter than the required size")]
    Short,
    #[error("the stored data is not a multiple of the block size")]
    Blocks,
    #[error("invalid PKCS7 data (empty or not padded)")]
    Unpadded,
    #[error("invalid padding on input")]
    Padding,
    #[error("cipher: message authentication failed")]
    Forged,
    #[error("the value cannot be sealed")]
    Seal,
    #[error("{0}")]
    Kms(#[from] KmsError),
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<Error>),
}

/// An opened value.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) value: Bytes,
    /// It would be sealed otherwise now: the next write seals it anew, even if it changes nothing.
    pub(crate) stale: bool,
}

/// How values lie in the store. One for a server; its providers change with the file.
pub(crate) struct AtRest {
    config: EncryptionConfig,
    resources: Resources,
    providers: RwLock<Arc<Providers>>,
    /// Tells of new providers.
    changes: watch::Sender<u64>,
    metrics: Metrics,
}

/// What one state of the file says.
struct Providers {
    /// By the names of the configuration: `secrets`, `*.apps`, `*.*`.
    chains: HashMap<String, Arc<Chain>>,
    services: Vec<Arc<Kms>>,
    /// SHA-256 of the file.
    hash: String,
}

impl AtRest {
    /// Reads the configuration; `None` when there is none.
    pub(crate) fn load(
        config: &EncryptionConfig,
        catalog: &Catalog,
        process: &daemon::Metrics,
    ) -> Result<Option<Self>, ServerError> {
        let Some(path) = &config.file else { return Ok(None) };
        let failed = |why| ServerError::Flag { flag: "encryption-provider-config", why };
        let opening = |err: std::io::Error| {
            format!("error opening encryption provider configuration file {:?}: {err}", path.display().to_string())
        };
        let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(|err| failed(opening(err)))?;
        let providers =
            Providers::read(path, &text).map_err(|why| failed(format!("error while parsing file: {why}")))?;
        let metrics = Metrics::new(process);
        metrics.file.applied(&providers.hash);
        Ok(Some(Self {
            config: config.clone(),
            resources: Resources::new(catalog),
            providers: RwLock::new(Arc::new(providers)),
            changes: watch::Sender::new(0),
            metrics,
        }))
    }

    /// Seals a value for its key.
    pub(crate) async fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, Error> {
        match self.chain(key) {
            Some(chain) => {
                let sealed = chain.seal(key, value).await;
                self.metrics.sealed(sealed.as_ref().ok());
                sealed
            }
            None => Ok(value),
        }
    }

    /// Opens a value of a key.
    pub(crate) async fn open(&self, key: &str, value: &Bytes) -> Result<Opened, Error> {
        match self.chain(key) {
            Some(chain) => {
                let opened = chain.open(key, value).await;
                self.metrics.opened(value, opened.is_ok());
                opened
            }
            None if value.starts_with(ENCRYPTED) => Err(Error::Encrypted),
            None => Ok(Opened { value: value.clone(), stale: false }),
        }
    }

    /// Whether new values of a key are sealed.
    pub(crate) fn seals(&self, key: &str) -> bool {
        self.chain(key).is_some_and(|chain| chain.seals())
    }

    /// Tells of new providers, with which what could not be opened perhaps can be.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The name of the health check, if there is anything to check.
    pub(crate) fn health_check(&self) -> Option<&'static str> {
        (self.config.reload || !self.providers().services.is_empty()).then_some("kms-providers")
    }

    /// Whether all key management services are well.
    pub(crate) async fn check(&self) -> Result<(), String> {
        self.providers().check().await
    }

    fn chain(&self, key: &str) -> Option<Arc<Chain>> {
        let resource = self.resources.of(key)?;
        let providers = self.providers.read().unwrap_or_else(PoisonError::into_inner);
        names_of(&resource).iter().find_map(|name| providers.chains.get(name.as_ref())).cloned()
    }

    fn providers(&self) -> Arc<Providers> {
        self.providers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Providers {
    fn read(path: &std::path::Path, text: &str) -> Result<Self, String> {
        let Configuration(rules) = Configuration::read(path, text)?;
        let mut lists: HashMap<String, Vec<Provider>> = HashMap::new();
        let mut services = Vec::new();
        for rule in rules {
            let providers = rule.providers.into_iter().map(|provider| made(provider, &mut services));
            let providers = providers.collect::<Option<Vec<_>>>().ok_or("a key does not fit its cipher")?;
            for resource in rule.resources {
                lists.entry(resource).or_default().extend(providers.iter().cloned());
            }
        }
        let chains = lists.into_iter().map(|(name, providers)| (name, Arc::new(Chain::new(providers))));
        Ok(Self { chains: chains.collect(), services, hash: reload::hash(text) })
    }

    /// Asks one service after the other, as upstream does.
    async fn check(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (at, service) in self.services.iter().enumerate() {
            if let Err(why) = service.check().await {
                wrong.push(format!("kms-provider-{at}: {why}"));
            }
        }
        match wrong.len() {
            0 => Ok(()),
            1 => Err(wrong.swap_remove(0)),
            _ => Err(format!("[{}]", wrong.join(", "))),
        }
    }
}

/// The provider of a configuration; `None` for a key that its cipher does not take.
fn made(provider: config::Provider, services: &mut Vec<Arc<Kms>>) -> Option<Provider> {
    let keys = |prefix, kind, keys: Vec<config::Key>, cipher: fn(&[u8]) -> Option<Cipher>| {
        let named = keys.into_iter().map(|key| Some((format!("{}:", key.name), cipher(&key.secret)?)));
        Some(Provider::Keys(Arc::new(Keys { prefix, kind, named: named.collect::<Option<_>>()? })))
    };
    match provider {
        config::Provider::Identity => Some(Provider::Identity),
        config::Provider::AesGcm(given) => keys("k8s:enc:aesgcm:v1:", "AES", given, Cipher::gcm),
        config::Provider::AesCbc(given) => keys("k8s:enc:aescbc:v1:", "AES", given, Cipher::cbc),
        config::Provider::Secretbox(given) => keys("k8s:enc:secretbox:v1:", "Secretbox", given, Cipher::secretbox),
        config::Provider::Kms { name, socket, timeout } => {
            let service = Arc::new(Kms::new(&name, &socket, timeout));
            services.push(service.clone());
            Some(Provider::Kms(service))
        }
    }
}

#[cfg(test)]
mod tests;
