//! Aggregated APIs (upstream's kube-aggregator): groups and versions that other API servers serve behind this one, where
//! an APIService names their Service.
//!
//! ```text
//! APIServices (watch cache) -> table: which versions go where          <- every request and discovery look here
//!                         \-> a follower of each server: look, condition, discovery, OpenAPI index
//! catalog -> registration: the APIServices of what this server serves itself
//! ```
//!
//! As upstream's, an APIService with a Service has the version it names, be that a custom or a built-in one; only the
//! group of APIServices itself cannot be given away.

mod availability;
pub(crate) mod backend;
mod documents;
mod follow;
mod found;
pub(crate) mod identity;
mod look;
mod metrics;
mod openapi;
mod priorities;
mod registration;
mod service;
pub(crate) mod table;
mod whole;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::ApiError;
use daemon::Process;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::availability::Verdict;
use self::backend::{Backend, Dialer};
use self::follow::{Follower, Looks};
use self::found::Shown;
use self::look::Version;
use self::metrics::Unavailable;
use self::priorities::REGISTRATION;
use self::registration::Registrar;
use self::service::Spec;
use self::whole::Memory;
use crate::config::Config;
use crate::registry::Registry;
use crate::request::info::RequestInfo;
use crate::watch_cache::{Cached, Interest, ResourceCache, WatchCache};

use self::identity::Error;
pub(crate) use self::openapi::{of_document, parts, places};
pub(crate) use self::registration::{complete, objects};
pub(crate) use self::table::{Claim, Table, groups};

const GROUP: &str = REGISTRATION;
const PLURAL: &str = "apiservices";
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Which versions go where, and the way there.
pub(crate) struct Aggregator {
    dialer: Arc<Dialer>,
    table: RwLock<Arc<Table>>,
    unavailable: Unavailable,
}

impl Aggregator {
    /// Reads the front-proxy certificate. Connections are driven by `tasks`, until shutdown.
    pub(crate) fn new(
        config: &Config,
        cache: &WatchCache,
        tasks: TaskTracker,
        process: &Process,
    ) -> Result<Self, Error> {
        let dialer = Arc::new(Dialer::new(config, cache, tasks, process.shutdown.clone())?);
        Ok(Self { dialer, table: RwLock::default(), unavailable: Unavailable::register(&process.metrics) })
    }

    /// All APIServices as they are now.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who answers a request, if not this server.
    pub(crate) fn claim(&self, info: &RequestInfo) -> Option<Arc<Claim>> {
        let table = self.table();
        if !table.has_claims() {
            return None;
        }
        if info.is_resource {
            return table.claim(&info.group, &info.version).cloned();
        }
        let parts: Vec<&str> = info.path.trim_end_matches('/').split('/').collect();
        match parts.as_slice() {
            ["", "apis", group, version] => table.claim(group, version).cloned(),
            ["", "api", version] => table.claim("", version).cloned(),
            _ => None,
        }
    }
}

/// What is known of one APIService.
struct Known {
    cached: Arc<Cached>,
    spec: Spec,
    remote: Option<Remote>,
    is_available: bool,
    /// Whether a version of this server has the condition that says so.
    is_marked: bool,
}

/// The server of an APIService, and what follows it.
struct Remote {
    backend: Arc<Backend>,
    shown: Arc<Shown>,
    whole: Arc<Memory>,
    stop: CancellationToken,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Follows the APIServices.
pub(crate) struct Services {
    aggregator: Arc<Aggregator>,
    registry: Arc<Registry>,
    cache: Arc<ResourceCache>,
    known: HashMap<String, Known>,
    looks: Looks,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Services {
    /// Nothing is followed before the first [`Self::learn`].
    pub(crate) fn new(
        aggregator: Arc<Aggregator>,
        registry: Arc<Registry>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, ApiError> {
        let (cache, known) = (registry.named(GROUP, PLURAL)?, HashMap::new());
        Ok(Self { aggregator, registry, cache, known, looks: Looks::default(), tasks, shutdown })
    }

    /// Follows until shutdown, and keeps the APIServices of custom resources.
    pub(crate) fn start(self) {
        let (tasks, shutdown) = (self.tasks.clone(), self.shutdown.clone());
        match Registrar::new(self.registry.clone()) {
            Ok(registrar) => drop(tasks.spawn(registrar.run(shutdown.clone()))),
            Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "custom versions get no APIServices"),
        }
        tasks.spawn(async move { shutdown.run_until_cancelled(self.follow()).await });
    }

    async fn follow(mut self) {
        loop {
            let (_, mut changes) = self.cache.watch_from_now(Interest::Everything);
            loop {
                self.learn();
                if let Err(err) = self.mark_own().await {
                    tracing::debug!(error = &err as &dyn std::error::Error, "condition not written yet");
                    sleep(RETRY).await;
                    break;
                }
                if changes.next().await.is_none() {
                    break;
                }
                while let Ok(Some(_)) = changes.try_next() {}
            }
        }
    }

    /// Reads the APIServices that have changed, and makes the table of all.
    pub(crate) fn learn(&mut self) {
        let all = self.cache.snapshot();
        let current: HashMap<&str, &Arc<Cached>> = all.objects.values().map(|cached| (cached.name(), cached)).collect();
        self.known.retain(|name, _| current.contains_key(name.as_str()));
        for (name, cached) in current {
            let before = self.known.remove(name);
            let known = match before {
                Some(known) if known.cached.revision == cached.revision => known,
                before => self.read(name, cached, before),
            };
            self.known.insert(name.to_owned(), known);
        }
        let table = Arc::new(self.table());
        *self.aggregator.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    fn read(&self, name: &str, cached: &Arc<Cached>, before: Option<Known>) -> Known {
        let object = cached.object();
        let spec = Spec::read(&object);
        let is_same = |known: &Known| known.spec.is_served_alike(&spec) && known.cached.object().uid() == object.uid();
        let kept = before.filter(is_same).and_then(|known| known.remote);
        let remote = kept.or_else(|| self.remote(name, &spec));
        let is_available = service::is_available(&object, None);
        let is_marked = service::is_available(&object, Some(Verdict::local().reason));
        Known { cached: cached.clone(), spec, remote, is_available, is_marked }
    }

    /// Begins to follow the server of an APIService, if it names one.
    fn remote(&self, name: &str, spec: &Spec) -> Option<Remote> {
        let place = spec.place.clone()?;
        let backend = Arc::new(Backend::new(self.aggregator.dialer.clone(), place));
        let stop = self.shutdown.child_token();
        let remote = Remote { backend, shown: Arc::default(), whole: Arc::default(), stop };
        let follower = Follower {
            name: name.to_owned(),
            version: Version { group: spec.group.clone(), version: spec.version.clone() },
            backend: remote.backend.clone(),
            shown: remote.shown.clone(),
            registry: self.registry.clone(),
            cache: self.cache.clone(),
            looks: self.looks.clone(),
            gauge: self.aggregator.unavailable.of(name),
        };
        self.tasks.spawn(follower.run(remote.stop.clone()));
        Some(remote)
    }

    fn table(&self) -> Table {
        let mut table = Table::default();
        for known in self.known.values() {
            let claim = known.remote.as_ref().filter(|_| known.spec.group != REGISTRATION).map(|remote| Claim {
                backend: remote.backend.clone(),
                shown: remote.shown.clone(),
                whole: remote.whole.clone(),
                is_available: known.is_available,
            });
            table.add((&known.spec.group, &known.spec.version), known.spec.priority, claim);
        }
        table
    }

    /// Says of the versions of this server that they are available.
    async fn mark_own(&self) -> Result<(), ApiError> {
        let unmarked = self.known.iter().filter(|(_, known)| known.spec.place.is_none() && !known.is_marked);
        for (name, _) in unmarked {
            follow::write(&self.registry, &self.cache, name, &Verdict::local()).await?;
        }
        Ok(())
    }
}
