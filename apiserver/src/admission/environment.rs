//! What the plugins of a server have to work with (upstream's `PluginInitializer`).

use std::sync::Arc;

use api::{ApiError, Object};
use futures::future::BoxFuture;
use store::Store;

use super::config::AdmissionConfig;
use super::configuration::Configuration;
use super::metrics::Metrics;
use super::namespaces::Namespaces;
use super::plugins::DefaultTolerationSeconds;
use crate::authz::{self, Rbac};
use crate::conversion::Converters;
use crate::outbound::webhooks::Webhooks;
use crate::watch_cache::WatchCache;

/// Replaces the object at a key if it is still at a revision; `false` when somebody else was faster. Given by the
/// registry, which alone writes to the store.
pub(crate) type Swap = Arc<dyn Fn(String, &Object, u64) -> BoxFuture<'static, Result<bool, ApiError>> + Send + Sync>;

/// The parts of the server that plugins may use, and what its flags tell them. Plugins take of it what they need when
/// they are made.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) config: AdmissionConfig,
    pub(crate) toleration_seconds: DefaultTolerationSeconds,
    /// What `--admission-control-config-file` says.
    pub(crate) configuration: Configuration,
    pub(crate) cache: Arc<WatchCache>,
    pub(crate) store: Arc<dyn Store>,
    /// Books what is used of a quota.
    pub(crate) swap: Swap,
    pub(crate) namespaces: Namespaces,
    pub(crate) rbac: Arc<Rbac>,
    pub(crate) authz: Arc<authz::Chain>,
    pub(crate) webhooks: Webhooks,
    pub(crate) converters: Arc<Converters>,
    pub(crate) metrics: Metrics,
}
