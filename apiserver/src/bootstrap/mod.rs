//! The objects that a cluster cannot do without: made at every start where they are missing, never overwritten.

mod objects;

use api::strategy::User;
use api::{ApiError, Object};

use crate::authz::MASTERS;
use crate::decode;
use crate::error::Error;
use crate::options::WriteOptions;
use crate::registry::Target;
use crate::server::Core;

/// Makes what is missing, in order.
pub(crate) async fn ensure(core: &Core) -> Result<(), Error> {
    core.registry.allocator().repair(&core.registry).await.map_err(|err| Error::Bootstrap(err.to_string()))?;
    let user = User { name: "system:apiserver".into(), groups: vec![MASTERS.into()], ..User::default() };
    for object in objects::all(&core.config) {
        let named = format!("{} {}/{}", object.kind(), object.namespace(), object.name());
        ensure_one(core, &user, object).await.map_err(|err| Error::Bootstrap(format!("{named}: {err}")))?;
    }
    Ok(())
}

async fn ensure_one(core: &Core, user: &User, mut object: Object) -> Result<(), ApiError> {
    let registry = &core.registry;
    let (group, version) = object.api_version().rsplit_once('/').unwrap_or(("", object.api_version()));
    let catalog = registry.catalog();
    let row = catalog.kind(group, version, object.kind()).ok_or_else(ApiError::unknown_resource)?;
    let cache = registry.resource(catalog.storage_row(row))?;
    let namespace = object.namespace().to_owned();
    if cache.get(&cache.key(&namespace, object.name())).is_some() {
        return Ok(());
    }
    decode::default(cache.row(), &mut object);
    let target = Target { cache: &cache, requested: row, namespace: &namespace, name: "", subresource: "", user };
    let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
    match registry.create(&target, object, &options, &mut Vec::new()).await {
        // Another server of the cluster was faster.
        Err(err) if err.status().reason == "AlreadyExists" => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}
