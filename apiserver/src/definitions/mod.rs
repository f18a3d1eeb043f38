//! CustomResourceDefinitions at work: a task that follows the definitions in the watch cache and keeps the catalog, the
//! caches of custom resources and the definitions' status in step with them. Upstream: `crdHandler`,
//! `NamingConditionController`, `EstablishingController`.
//!
//! ```text
//! definitions (watch cache) -> names and conditions -> caches opened -> catalog replaced -> status written
//!                                                  \-> definition being deleted: its objects deleted, finalizer removed
//! ```
//!
//! A resource is served before its definition says `Established`, so that a client which waits for that is not turned
//! away. Definitions that another server on the same store writes arrive in the same way.

mod cleanup;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::catalog::Catalog;
use api::custom::status::{self, UsedNames};
use api::custom::{Definition, priority};
use api::{ApiError, Object, Resource};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blocking::blocking;
use crate::registry::Registry;
use crate::watch_cache::{Cached, Interest, ResourceCache, Subscription};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What is known of one definition.
struct Known {
    cached: Arc<Cached>,
    /// The definition without its versions, with the status that it has or is about to get.
    object: Object,
    definition: Option<Arc<Definition>>,
}

/// A custom resource that is served now.
struct Served {
    prefix: String,
    /// Uid and generation of the definition that the cache was opened for.
    opened_for: (String, i64),
}

/// Keeps the server in step with the definitions.
pub(crate) struct Definitions {
    registry: Arc<Registry>,
    definitions: Arc<ResourceCache>,
    /// The catalog without custom resources.
    builtin: Catalog,
    known: BTreeMap<String, Known>,
    served: HashMap<String, Served>,
    cleanups: cleanup::Cleanups,
    subscription: Option<Subscription>,
}

impl Definitions {
    /// Nothing is served before the first [`Self::pass`].
    pub(crate) fn new(
        registry: Arc<Registry>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, ApiError> {
        let definitions = registry.named(GROUP, PLURAL)?;
        let builtin = registry.catalog();
        let cleanups = cleanup::Cleanups::new(registry.clone(), tasks, shutdown);
        let (known, served) = (BTreeMap::new(), HashMap::new());
        Ok(Self { registry, definitions, builtin, known, served, cleanups, subscription: None })
    }

    /// Follows the definitions until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed() => {}
            }
            if let Err(err) = self.pass().await {
                tracing::warn!(error = &err as &dyn std::error::Error, "custom resource definitions are not settled");
                self.subscription = None;
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }

    /// Waits for the next change; there may always be one when nobody watched.
    async fn changed(&mut self) {
        let Some(subscription) = &mut self.subscription else { return };
        if subscription.next().await.is_none() {
            self.subscription = None;
            return;
        }
        // What has piled up is dealt with in one pass.
        while let Ok(Some(_)) = subscription.try_next() {}
    }

    /// Brings everything in line with the definitions as they are now.
    pub(crate) async fn pass(&mut self) -> Result<(), ApiError> {
        if self.subscription.is_none() {
            self.subscription = Some(self.definitions.watch_from_now(Interest::Everything).1);
        }
        self.learn();
        let stale = self.refresh(Timestamp::now());
        self.serve().await?;
        for name in stale {
            self.write_status(&name).await?;
        }
        let terminating = self.known.values().filter(|known| known.object.is_being_deleted());
        self.cleanups.begin(terminating.map(|known| &known.object));
        Ok(())
    }

    /// Reads the definitions that have changed.
    fn learn(&mut self) {
        let snapshot = self.definitions.snapshot();
        let current: HashMap<&str, &Arc<Cached>> =
            snapshot.objects.values().map(|cached| (cached.name(), cached)).collect();
        self.known.retain(|name, _| current.contains_key(name.as_str()));
        for (name, cached) in current {
            if self.known.get(name).is_none_or(|known| known.cached.revision != cached.revision) {
                let mut object = cached.object();
                object.remove(&["spec", "versions"]);
                object.metadata_mut().remove("managedFields");
                let known = Known { cached: cached.clone(), object, definition: None };
                self.known.insert(name.to_owned(), known);
            }
        }
    }

    /// Decides on names and conditions; answers whose status has to be written. Who was first is served first.
    fn refresh(&mut self, now: Timestamp) -> Vec<String> {
        let mut order: Vec<String> = self.known.keys().cloned().collect();
        order.sort_by_key(|name| {
            let object = &self.known[name].object;
            (
                !status::is_established(object),
                object.text(&["metadata", "creationTimestamp"]).to_owned(),
                self.known[name].cached.revision,
            )
        });
        let mut stale = Vec::new();
        for name in order {
            let mut object = self.known[&name].object.clone();
            let used = UsedNames::of(
                object.text(&["spec", "group"]),
                self.known.iter().filter(|(other, _)| **other != name).map(|(_, known)| &known.object),
            );
            status::refresh(&mut object, &used, now);
            let Some(known) = self.known.get_mut(&name) else { continue };
            if object != known.object {
                stale.push(name);
                known.object = object;
                known.definition = None;
            }
            if known.definition.is_none() && status::is_established(&known.object) {
                let mut whole = known.cached.object();
                whole
                    .root_mut()
                    .insert("status".into(), known.object.root().get("status").cloned().unwrap_or_default());
                // Patterns and rules are compiled here.
                known.definition = blocking(|| Definition::read(&whole)).map(Arc::new);
            }
        }
        stale
    }

    /// Opens and closes caches, and replaces the catalog.
    async fn serve(&mut self) -> Result<(), ApiError> {
        let mut rows: Vec<Arc<Resource>> = Vec::new();
        for (name, known) in &self.known {
            let Some(definition) = &known.definition else { continue };
            rows.extend(definition.served.iter().cloned());
            let opened_for = (known.object.uid().to_owned(), known.object.generation());
            if self.served.get(name).is_some_and(|served| served.opened_for == opened_for) {
                continue;
            }
            let opened = self.registry.cache().open(definition.storage.clone()).await;
            if opened.is_none() {
                return Err(ApiError::internal(format!("the cache of {name} could not be opened")));
            }
            let prefix = definition.storage.storage_prefix.to_string();
            self.served.insert(name.clone(), Served { prefix, opened_for });
        }
        // Discovery shows groups by name, and in a group what is preferred first.
        rows.sort_by_key(|row| (row.group.clone(), Reverse(priority(&row.version)), row.plural.clone()));
        self.registry.set_catalog(self.builtin.with(rows));
        let gone: Vec<String> = self.served.keys().filter(|name| !self.is_served(name)).cloned().collect();
        for name in gone {
            if let Some(served) = self.served.remove(&name) {
                self.registry.cache().close(&served.prefix).await;
            }
        }
        self.registry.converters().retain(|name| self.known.contains_key(name));
        self.registry.gates().retain(|prefix| self.served.values().any(|served| served.prefix == prefix));
        Ok(())
    }

    fn is_served(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.definition.is_some())
    }

    /// Writes the status that a definition should have, as far as it still needs it.
    async fn write_status(&self, name: &str) -> Result<(), ApiError> {
        let known = &self.known;
        let written = self.registry.change_status(&self.definitions, name, |definition, now| {
            let others = known.iter().filter(|(other, _)| *other != name).map(|(_, known)| &known.object);
            let used = UsedNames::of(definition.text(&["spec", "group"]), others);
            status::refresh(definition, &used, now);
        });
        match written.await {
            // Deleted meanwhile: an event is on its way.
            Err(err) if err.is_not_found() => Ok(()),
            written => written,
        }
    }
}
