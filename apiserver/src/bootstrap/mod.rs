//! The objects that a cluster cannot do without: made at every start where they are missing, and again when somebody
//! deletes them. Of those that are there, what upstream's controllers look after is put right.

mod flows;
mod identity;
mod keep;
mod objects;
mod peers;
mod reconcile;
mod trust;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use api::strategy::User;
use api::{ApiError, Object, Resource};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep};

use crate::aggregator;
use crate::authz::MASTERS;
use crate::authz::bootstrap_policy;
use crate::core::Core;
use crate::error::Error;
use crate::registry::Target;
use crate::request::options::{DeleteOptions, WriteOptions};
use crate::watch_cache::ResourceCache;

pub(crate) use self::identity::follow as identify;
pub(crate) use self::keep::keep;
pub(crate) use self::peers::follow as meet;

/// Many are written at once, and share the store's commits.
const AT_ONCE: usize = 256;
/// Another server that begins at the same time may be making the same object: for so long it may hold what that needs.
const RACE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// How often what needs something that others hold is tried, each time for as long as that.
const ATTEMPTS: usize = 3;

static APISERVER: LazyLock<User> =
    LazyLock::new(|| User { name: "system:apiserver".into(), groups: vec![MASTERS.into()], ..User::default() });

/// Makes what is missing, and waits until authorisation sees it. Returns what is to be kept.
pub(crate) async fn ensure(core: &Core) -> Result<Vec<Object>, Error> {
    let failed = |err: ApiError| Error::Bootstrap(err.to_string());
    let mut left = core.registry.allocator().repair().await.map_err(failed)?;
    if !core.config.shares_store {
        core.registry.allocator().collect(std::mem::take(&mut left)).await.map_err(failed)?;
    }
    let policy = bootstrap_policy::objects().map_err(|err| Error::Bootstrap(err.to_string()))?;
    let flows = flows::objects().into_iter().filter_map(Object::from_value);
    let catalog = core.registry.catalog();
    let services = aggregator::objects(&catalog);
    let readers = catalog.group_version("metrics.k8s.io", "v1beta1").next().and(bootstrap_policy::metrics_reader());
    let all = objects::all(&core.config)?.into_iter().chain(policy).chain(readers).chain(flows).chain(services);
    // What lies in a namespace needs it, and Services their range.
    let (mut all, within): (Vec<Object>, Vec<Object>) = all.partition(|object| object.namespace().is_empty());
    ensure_all(core, &all).await?;
    for attempt in 1.. {
        match ensure_all(core, &within).await {
            Ok(()) => break,
            Err(err) if !core.config.shares_store || attempt == ATTEMPTS => return Err(err),
            Err(err) => tracing::warn!(error = &err as &dyn std::error::Error, "others are in the way; trying again"),
        }
        // A server that died while it made the Service, or did not hear what came of it, has left its address behind.
        let before = std::mem::replace(&mut left, core.registry.allocator().repair().await.map_err(failed)?);
        core.registry.allocator().collect(before).await.map_err(failed)?;
    }
    if core.config.shares_store {
        let deadline = Instant::now() + RACE;
        while let Err(err) = peers::round(core).await {
            if Instant::now() > deadline {
                return Err(failed(err));
            }
            sleep(PAUSE).await;
        }
    }
    core.registry.freshen().await.map_err(failed)?;
    all.extend(within);
    Ok(all)
}

async fn ensure_all(core: &Core, objects: &[Object]) -> Result<(), Error> {
    stream::iter(objects.to_vec())
        .map(|object| async move { ensure_named(core, &object).await })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The default objects of flow control.
#[cfg(test)]
pub(crate) fn flow_objects() -> Vec<Object> {
    flows::objects().into_iter().filter_map(Object::from_value).collect()
}

/// At the start. What is there but cannot be put right now (a webhook may be in the way) is tried again by [`keep`].
async fn ensure_named(core: &Core, object: &Object) -> Result<(), Error> {
    let (kind, namespace, name) = (object.kind(), object.namespace(), object.name());
    let deadline = Instant::now() + RACE;
    loop {
        let Err(err) = ensure_one(core, object).await else { return Ok(()) };
        let is_there = place(core, object).is_ok_and(|(cache, _)| cache.get(&cache.key(namespace, name)).is_some());
        if is_there {
            tracing::warn!(kind, namespace, name, error = &err as &dyn std::error::Error, "cannot be put right yet");
            return Ok(());
        }
        if !core.config.shares_store || Instant::now() > deadline {
            return Err(Error::Bootstrap(format!("{kind} {namespace}/{name}: {err}")));
        }
        sleep(PAUSE).await;
    }
}

/// Where an object lies, and the row of its version.
fn place(core: &Core, object: &Object) -> Result<(Arc<ResourceCache>, Arc<Resource>), ApiError> {
    let (group, version) = object.api_version().rsplit_once('/').unwrap_or(("", object.api_version()));
    let catalog = core.registry.catalog();
    let row = catalog.kind(group, version, object.kind()).ok_or_else(ApiError::unknown_resource)?;
    Ok((core.registry.resource(catalog.storage_row(row))?, row.clone()))
}

/// Makes an object if it is missing, or puts it right; whether there was anything to do.
async fn ensure_one(core: &Core, wanted: &Object) -> Result<bool, ApiError> {
    let (cache, row) = place(core, wanted)?;
    let mut wanted = wanted.clone();
    cache.row().strategy.default(&mut wanted);
    let (namespace, name) = (wanted.namespace().to_owned(), wanted.name().to_owned());
    let target =
        Target { cache: &cache, client_row: &row, namespace: &namespace, name: "", subresource: "", user: &APISERVER };
    if let Some(cached) = cache.get(&cache.key(&namespace, &name)) {
        return put_right(core, &Target { name: &name, ..target }, cached.object(), &wanted).await;
    }
    match core.registry.create(&target, wanted, &options(), &mut Vec::new()).await {
        // Another server of the cluster was faster.
        Err(err) if err.status().reason == "AlreadyExists" => Ok(false),
        outcome => outcome.map(|_| true),
    }
}

async fn put_right(core: &Core, target: &Target<'_>, stored: Object, wanted: &Object) -> Result<bool, ApiError> {
    // What is on its way out is made again when it is gone.
    if stored.is_being_deleted() {
        return Ok(false);
    }
    if reconcile::must_be_made_anew(&stored, wanted) {
        return make_anew(core, target, &stored, wanted).await;
    }
    if !reconcile::is_damaged(&stored, wanted) {
        return Ok(false);
    }
    let before = stored.resource_version().to_owned();
    let mut repaired = stored;
    reconcile::complete(&mut repaired, wanted);
    let target = Target { client_row: target.stored_row(), ..*target };
    let updated = core.registry.update(&target, repaired, &options(), &mut Vec::new()).await?;
    Ok(updated.written.object.resource_version() != before)
}

async fn make_anew(core: &Core, target: &Target<'_>, stored: &Object, wanted: &Object) -> Result<bool, ApiError> {
    let (uid, version) = (stored.uid().to_owned(), stored.resource_version().to_owned());
    let preconditions = DeleteOptions { uid: Some(uid), resource_version: Some(version), ..DeleteOptions::default() };
    core.registry.delete(target, &preconditions, &mut Vec::new()).await?;
    let target = Target { name: "", ..*target };
    core.registry.create(&target, wanted.clone(), &options(), &mut Vec::new()).await.map(|_| true)
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() }
}
