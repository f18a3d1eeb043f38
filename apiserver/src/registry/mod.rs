//! The one registry: every verb, written once over [`Resource`] and its strategy (upstream:
//! `registry/generic/registry.Store`). With the addresses of Services it alone writes to the store.
//!
//! A write is a closure over the current object: compute what is wanted, mutating admission, prepare, validate,
//! validating admission, compare-and-swap; repeated when somebody else was faster. Built-in objects are worked with in
//! the version that is stored, custom ones in the client's ([`Target::working_row`]).

mod continuation;
mod convert;
mod create;
mod delete;
pub(crate) mod gates;
mod items;
mod master_leases;
mod metadata;
mod modify;
mod narrow;
mod patch;
mod read;
mod swap;
mod update;
mod watch;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::catalog::Catalog;
use api::strategy::{User, WriteContext};
use api::{ApiError, Object, Resource, codec};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use store::{Expected, Store};
use tokio::sync::watch::{Receiver, Sender};

use crate::admission::{self, Attributes, Operation};
use crate::authz;
use crate::conversion::Converters;
use crate::encryption::Sealed;
use crate::service_addresses::Allocator;
use crate::store_error::unavailable;
use crate::watch_cache::{Cached, ResourceCache, Stored, WatchCache, freshen, stored_bytes};

pub(crate) use continuation::Continue;
pub use delete::Deleted;
use gates::Gates;
pub(crate) use items::Cursor;
pub use items::{Found, Items};
pub(crate) use metadata::{check_name, check_named};
pub use patch::Patch;
pub use read::{List, PARTIAL_READ};
pub(crate) use swap::swapper;
pub use update::{Desired, Updated};
pub use watch::WatchStart;
pub(crate) use watch::too_old;

/// What a request is about.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The cache of the resource; its row is the storage version.
    pub cache: &'a Arc<ResourceCache>,
    /// The row in the version that the client speaks.
    pub client_row: &'a Arc<Resource>,
    /// `""` for cluster-scoped resources.
    pub namespace: &'a str,
    /// `""` on create.
    pub name: &'a str,
    /// `""` for the object itself.
    pub subresource: &'a str,
    pub user: &'a User,
}

impl<'a> Target<'a> {
    /// An object in the version that is stored.
    pub fn stored(cache: &'a Arc<ResourceCache>, namespace: &'a str, name: &'a str, user: &'a User) -> Self {
        Self { cache, client_row: cache.row(), namespace, name, subresource: "", user }
    }

    /// What admission is asked.
    pub(crate) fn attributes<'b>(
        &'b self,
        operation: Operation,
        catalog: &'b Catalog,
        (dry_run, options): (bool, &'b Value),
    ) -> Attributes<'b> {
        Attributes {
            operation,
            resource: self.working_row(),
            requested: self.client_row,
            catalog,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            user: self.user,
            dry_run,
            old: None,
            options: Some(options),
            reinvocation: None,
        }
    }

    /// The row in whose version objects are worked with: the storage version of built-in resources, the client's version
    /// of custom ones.
    pub fn working_row(&self) -> &Arc<Resource> {
        if self.client_row.is_custom() { self.client_row } else { self.stored_row() }
    }

    /// The row in the version that is stored.
    pub fn stored_row(&self) -> &Arc<Resource> {
        self.cache.row()
    }

    fn key(&self, name: &str) -> String {
        self.cache.key(self.namespace, name)
    }

    fn write_context(&self, now: Timestamp) -> WriteContext<'_> {
        WriteContext { now, user: self.user, subresource: self.subresource }
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(self.client_row.qualified(), self.name)
    }
}

/// The registry.
pub struct Registry {
    store: Arc<dyn Store>,
    /// The same store, if it seals values.
    sealed: Option<Arc<Sealed>>,
    cache: Arc<WatchCache>,
    catalog: Sender<Catalog>,
    admission: RwLock<Arc<admission::Chain>>,
    authz: Arc<authz::Chain>,
    allocator: Allocator,
    converters: Arc<Converters>,
    gates: Gates,
    event_ttl: Duration,
}

impl Registry {
    /// A registry over a store and its cache.
    #[expect(clippy::too_many_arguments, reason = "one call, with all that there is")]
    pub(crate) fn new(
        (store, sealed): (Arc<dyn Store>, Option<Arc<Sealed>>),
        cache: Arc<WatchCache>,
        catalog: Catalog,
        admission: admission::Chain,
        authz: Arc<authz::Chain>,
        allocator: Allocator,
        converters: Arc<Converters>,
        event_ttl: Duration,
    ) -> Self {
        let (catalog, admission) = (Sender::new(catalog), RwLock::new(Arc::new(admission)));
        let gates = Gates::default();
        Self { store, sealed, cache, catalog, admission, authz, allocator, converters, gates, event_ttl }
    }

    /// What resources there are now.
    pub fn catalog(&self) -> Catalog {
        self.catalog.borrow().clone()
    }

    /// Replaces the catalog (a CRD came or went).
    pub fn set_catalog(&self, catalog: Catalog) {
        self.catalog.send_replace(catalog);
    }

    /// Follows the catalog.
    pub(crate) fn catalogs(&self) -> Receiver<Catalog> {
        self.catalog.subscribe()
    }

    /// The admission plugins.
    pub fn admission(&self) -> Arc<admission::Chain> {
        self.admission.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the admission plugins.
    pub fn set_admission(&self, chain: admission::Chain) {
        *self.admission.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(chain);
    }

    /// Asks whether the user of an update may create, too, since nothing has the name.
    async fn permit_creation(&self, target: &Target<'_>) -> Result<(), ApiError> {
        let wanted = authz::Attributes {
            user: target.user.clone(),
            verb: "create".into(),
            namespace: target.namespace.into(),
            group: target.client_row.group.to_string(),
            version: target.client_row.version.to_string(),
            resource: target.client_row.plural.to_string(),
            name: target.name.into(),
            is_resource: true,
            ..authz::Attributes::default()
        };
        self.authz.require(&wanted).await
    }

    /// The watch cache.
    pub fn cache(&self) -> &Arc<WatchCache> {
        &self.cache
    }

    /// The store, for health checks.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The conversion webhooks of custom resources.
    pub(crate) fn converters(&self) -> &Converters {
        &self.converters
    }

    /// What holds the end of definitions up while objects of theirs are being created.
    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The addresses and ports of Services.
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// The cache of a resource in the catalog.
    pub fn resource(&self, row: &Resource) -> Result<Arc<ResourceCache>, ApiError> {
        self.cache.resource(&row.storage_prefix).ok_or_else(|| ApiError::internal(format!("{row:?} is not cached")))
    }

    /// The cache of a built-in resource, by group and plural.
    pub fn named(&self, group: &str, plural: &str) -> Result<Arc<ResourceCache>, ApiError> {
        let catalog = self.catalog();
        let row = catalog.versions(group, plural).next().ok_or_else(ApiError::unknown_resource)?;
        self.resource(catalog.storage_row(row))
    }

    /// Waits until the cache holds every write acknowledged before this call.
    pub async fn freshen(&self) -> Result<u64, ApiError> {
        freshen(&self.store, &self.cache).await
    }

    /// The stored object that a write starts from.
    async fn current(&self, target: &Target<'_>, name: &str) -> Result<Option<Current>, ApiError> {
        let key = target.key(name);
        let Some(entry) = self.store.get(&key).await.map_err(|err| unavailable(&err))? else { return Ok(None) };
        let known = target.cache.get(&key).filter(|cached| cached.revision == entry.mod_revision);
        let read = || crate::watch_cache::read(target.cache, &entry).map(Arc::new).map_err(ApiError::internal);
        let cached = known.map_or_else(read, Ok)?;
        let mut object = cached.object();
        if target.client_row.is_custom() {
            object = self.convert_one(target.stored_row(), target.working_row(), object).await?;
        }
        Ok(Some(Current { object, revision: cached.revision, cached }))
    }

    /// Whether the stored object would be written otherwise now: sealed with another key, in another version, or with
    /// the defaults of today's schema. Then a write that changes nothing is one.
    async fn is_stale(&self, target: &Target<'_>, current: &Current) -> Result<bool, ApiError> {
        let stored = target.stored_row();
        if stored.is_custom() && (current.cached.is_revived() || current.cached.api_version() != stored.api_version()) {
            return Ok(true);
        }
        let Some(sealed) = &self.sealed else { return Ok(false) };
        sealed.is_stale(&target.key(target.name)).await.map_err(|err| unavailable(&err))
    }

    /// The admission plugins, once all that they go by can be read: an unreadable policy must not be one that is not
    /// there.
    fn admission_by_all(&self) -> Result<Arc<admission::Chain>, ApiError> {
        if self.cache.unreadable() > 0 {
            for prefix in admission::GOES_BY {
                let unreadable = self.cache.resource(prefix).and_then(|rules| rules.unreadable_below(rules.prefix()));
                if let Some(why) = unreadable {
                    return Err(ApiError::internal(format!("not yet ready to handle request: {why}")));
                }
            }
        }
        Ok(self.admission())
    }

    /// Writes an object that must be new (`expected` absent) or replace a known revision. The outer error is that of a
    /// conversion to the stored version.
    async fn put(
        &self,
        target: &Target<'_>,
        name: &str,
        mut object: Object,
        expected: Expected,
    ) -> Result<Result<Written, store::Error>, ApiError> {
        let working_row = target.working_row();
        codec::canonicalize(&mut object, working_row.schema());
        let mut stored = self.to_stored(target, object).await?;
        let value = stored_bytes(&stored);
        let revived = revive(target.stored_row(), &mut stored);
        let key = target.key(name);
        // What is sealed comes back as another value, and what a schema adds to is read again.
        if !revived && !self.sealed.as_ref().is_some_and(|sealed| sealed.seals(&key)) {
            target.cache.will_write(&value, &stored);
        }
        let ttl = working_row.strategy.expires().then_some(self.event_ttl);
        let revision = match self.store.put(&key, value.clone(), expected, ttl).await {
            Ok(revision) => revision,
            Err(err) => return Ok(Err(err)),
        };
        target.cache.acknowledge(revision);
        stored.set_metadata("resourceVersion", revision.to_string());
        let object = self.as_spoken(target, stored).await?;
        let as_stored = Stored::of(value).filter(|_| !revived && working_row.is_storage_version());
        let bytes = as_stored.map(|stored| stored.served(revision));
        let bytes = bytes.unwrap_or_else(|| crate::response::object_bytes(&object));
        Ok(Ok(Written { object, bytes }))
    }

    /// What a dry run answers: what would be read if the object had been written.
    async fn pretended(&self, target: &Target<'_>, mut object: Object) -> Result<Written, ApiError> {
        codec::canonicalize(&mut object, target.working_row().schema());
        let mut stored = self.to_stored(target, object).await?;
        revive(target.stored_row(), &mut stored);
        Ok(Written::pretended(self.as_spoken(target, stored).await?))
    }

    /// An object in the version of [`Target::working_row`] as one in the version that is stored.
    async fn to_stored(&self, target: &Target<'_>, object: Object) -> Result<Object, ApiError> {
        if target.working_row().is_storage_version() {
            return Ok(object);
        }
        self.convert_one(target.working_row(), target.stored_row(), object).await
    }

    /// An object as it is read from the store in the version of [`Target::working_row`].
    async fn as_spoken(&self, target: &Target<'_>, object: Object) -> Result<Object, ApiError> {
        if target.working_row().is_storage_version() {
            return Ok(object);
        }
        self.convert_one(target.stored_row(), target.working_row(), object).await
    }
}

/// Does to an object in its stored version what reading it will; answers whether it changed.
fn revive(stored: &Resource, object: &mut Object) -> bool {
    stored.custom.as_ref().is_some_and(|custom| custom.revive(object))
}

/// A committed object (or, for a dry run, one that would have been committed), in the version of [`Target::working_row`].
#[derive(Clone, Debug)]
pub struct Written {
    pub object: Object,
    pub bytes: Bytes,
}

impl Written {
    /// An object that nobody has written.
    fn pretended(object: Object) -> Self {
        let bytes = crate::response::object_bytes(&object);
        Self { object, bytes }
    }

    fn of(current: &Current) -> Self {
        let object = current.object.clone();
        let as_stored = current.cached.api_version() == object.api_version();
        let bytes = if as_stored { current.cached.bytes() } else { crate::response::object_bytes(&object) };
        Self { object, bytes }
    }
}

/// A stored object and its revision.
struct Current {
    object: Object,
    revision: u64,
    cached: Arc<Cached>,
}
