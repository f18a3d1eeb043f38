//! The objects that a cluster cannot do without: made at every start where they are missing. Roles and bindings that
//! are there get back what they lack, unless their annotation says to leave them alone; nothing else is overwritten.

mod flows;
mod objects;
mod policy;
mod reconcile;

use api::strategy::User;
use api::{ApiError, Object};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::authz::{MASTERS, Rule};
use crate::decode;
use crate::error::Error;
use crate::options::WriteOptions;
use crate::registry::Target;
use crate::server::Core;

/// Most depend on nothing, so many are written at once and share the store's commits.
const AT_ONCE: usize = 256;

/// Makes what is missing, and waits until authorisation sees it.
pub(crate) async fn ensure(core: &Core) -> Result<(), Error> {
    let failed = |err: ApiError| Error::Bootstrap(err.to_string());
    core.registry.allocator().repair(&core.registry).await.map_err(failed)?;
    let user = User { name: "system:apiserver".into(), groups: vec![MASTERS.into()], ..User::default() };
    let policy = policy::objects().map_err(|err| Error::Bootstrap(err.to_string()))?;
    let flows = flows::objects().into_iter().filter_map(Object::from_value);
    let [first, then] = objects::all(&core.config);
    ensure_all(core, &user, first.into_iter().chain(policy).chain(flows)).await?;
    ensure_all(core, &user, then).await?;
    core.registry.freshen().await.map_err(failed)?;
    Ok(())
}

async fn ensure_all(core: &Core, user: &User, objects: impl IntoIterator<Item = Object>) -> Result<(), Error> {
    stream::iter(objects).map(|object| ensure_named(core, user, object)).buffer_unordered(AT_ONCE).try_collect().await
}

/// The default objects of flow control.
#[cfg(test)]
pub(crate) fn flow_objects() -> Vec<Object> {
    flows::objects().into_iter().filter_map(Object::from_value).collect()
}

/// The rules of the role `system:node`, which are the node authoriser's as well.
pub(crate) fn node_rules() -> Result<Vec<Rule>, Error> {
    let policy = policy::objects().map_err(|err| Error::Bootstrap(err.to_string()))?;
    let role = policy.iter().find(|object| object.kind() == "ClusterRole" && object.name() == "system:node");
    Ok(role.map(|role| Rule::read_all(role.get(&["rules"]))).unwrap_or_default())
}

async fn ensure_named(core: &Core, user: &User, object: Object) -> Result<(), Error> {
    let named = format!("{} {}/{}", object.kind(), object.namespace(), object.name());
    ensure_one(core, user, object).await.map_err(|err| Error::Bootstrap(format!("{named}: {err}")))
}

async fn ensure_one(core: &Core, user: &User, mut object: Object) -> Result<(), ApiError> {
    let registry = &core.registry;
    let (group, version) = object.api_version().rsplit_once('/').unwrap_or(("", object.api_version()));
    let catalog = registry.catalog();
    let row = catalog.kind(group, version, object.kind()).ok_or_else(ApiError::unknown_resource)?;
    let cache = registry.resource(catalog.storage_row(row))?;
    let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
    let target = Target { cache: &cache, requested: row, namespace: &namespace, name: "", subresource: "", user };
    if let Some(cached) = cache.get(&cache.key(&namespace, &name)) {
        if !reconcile::lacks_something(&cached.object(), &object) {
            return Ok(());
        }
        let target = Target { name: &name, ..target };
        return registry
            .modify(&target, false, |stored| {
                reconcile::complete(stored, &object);
                Ok(())
            })
            .await
            .map(|_| ());
    }
    decode::default(cache.row(), &mut object);
    let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
    match registry.create(&target, object, &options, &mut Vec::new()).await {
        // Another server of the cluster was faster.
        Err(err) if err.status().reason == "AlreadyExists" => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}
