//! Adoption and release: a controller takes matching orphans and lets go of children that no longer match (upstream:
//! `ControllerRefManager`).

use std::fmt::Debug;
use std::sync::Arc;

use client::{Informer, Watchable, write};
use kube::api::{Patch, PatchParams};
use kube::core::Selector;
use kube::{Api, Resource};
use serde_json::json;

use crate::context::Failure;
use crate::owners::{BY_CONTROLLER, ORPHANS};
use crate::{meta, selectors};

/// What to do with one candidate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// Decides about a candidate that is an orphan (`is_owned` false) or already belongs to the controller.
pub(crate) fn decide(is_owned: bool, is_match: bool, is_owner_deleted: bool, is_deleted: bool) -> Claim {
    match (is_owned, is_match) {
        (true, true) => Claim::Keep,
        (true, false) if is_owner_deleted || is_deleted => Claim::Ignore,
        (true, false) => Claim::Release,
        (false, true) if !is_owner_deleted && !is_deleted => Claim::Adopt,
        (false, _) => Claim::Ignore,
    }
}

/// The children of `owner` after adoptions and releases, as of the cache.
pub(crate) async fn children<O, K>(
    client: &kube::Client,
    owner: &O,
    selector: &Selector,
    informer: &Informer<K>,
    is_adoptable: impl Fn(&K) -> bool,
) -> Result<Vec<Arc<K>>, Failure>
where
    O: Watchable + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K: Watchable + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let meta = owner.meta();
    let is_owner_deleted = meta.deletion_timestamp.is_some();
    let mut children = Vec::new();
    for child in informer.by_index(BY_CONTROLLER, meta::uid(meta)) {
        let is_deleted = child.meta().deletion_timestamp.is_some();
        match decide(true, selectors::matches(selector, child.meta()), is_owner_deleted, is_deleted) {
            Claim::Release => release(client, owner, &*child).await?,
            Claim::Keep => children.push(child),
            Claim::Adopt | Claim::Ignore => {}
        }
    }
    let mut is_alive = None;
    for orphan in informer.by_index(ORPHANS, meta::namespace(meta)) {
        let is_match = selectors::matches(selector, orphan.meta()) && is_adoptable(&orphan);
        let is_deleted = orphan.meta().deletion_timestamp.is_some();
        if decide(false, is_match, is_owner_deleted, is_deleted) != Claim::Adopt {
            continue;
        }
        if is_alive.is_none() {
            is_alive = Some(is_still_there(client, owner).await?);
        }
        if is_alive == Some(true) && adopt(client, owner, &*orphan).await? {
            children.push(orphan);
        }
    }
    Ok(children)
}

/// The cache may be old: only a live owner may adopt, or garbage would be handed to a dead one.
async fn is_still_there<O>(client: &kube::Client, owner: &O) -> Result<bool, Failure>
where
    O: Watchable + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let meta = owner.meta();
    let api: Api<O> = Api::namespaced(client.clone(), meta::namespace(meta));
    let live = api.get_opt(meta::name(meta)).await?;
    Ok(live.is_some_and(|live| live.meta().uid == meta.uid && live.meta().deletion_timestamp.is_none()))
}

/// `false` when the orphan is gone, or another object has its name now.
async fn adopt<O, K>(client: &kube::Client, owner: &O, orphan: &K) -> Result<bool, Failure>
where
    O: Watchable,
    K: Watchable + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let reference = meta::controller_reference(owner);
    let change = json!({ "metadata": { "uid": orphan.meta().uid, "ownerReferences": [reference] } });
    patch_owner(client, orphan, &change).await
}

async fn release<O, K>(client: &kube::Client, owner: &O, child: &K) -> Result<(), Failure>
where
    O: Watchable,
    K: Watchable + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let reference = json!({ "$patch": "delete", "uid": owner.meta().uid });
    let change = json!({ "metadata": { "uid": child.meta().uid, "ownerReferences": [reference] } });
    patch_owner(client, child, &change).await.map(drop)
}

async fn patch_owner<K>(client: &kube::Client, child: &K, change: &serde_json::Value) -> Result<bool, Failure>
where
    K: Watchable + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let api: Api<K> = Api::namespaced(client.clone(), meta::namespace(child.meta()));
    match api.patch(meta::name(child.meta()), &PatchParams::default(), &Patch::Strategic(change)).await {
        Ok(_) => Ok(true),
        Err(err) if write::is_not_found(&err) || write::is_conflict(&err) || is_invalid(&err) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// The uid in the patch is not the object's: another object has the name now.
fn is_invalid(err: &kube::Error) -> bool {
    matches!(err, kube::Error::Api(status) if status.is_invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_living_adopt_and_only_mismatches_are_released() {
        assert_eq!(decide(true, true, true, true), Claim::Keep);
        assert_eq!(decide(true, false, false, false), Claim::Release);
        assert_eq!(decide(true, false, true, false), Claim::Ignore);
        assert_eq!(decide(false, true, false, false), Claim::Adopt);
        assert_eq!(decide(false, true, true, false), Claim::Ignore);
        assert_eq!(decide(false, true, false, true), Claim::Ignore);
        assert_eq!(decide(false, false, false, false), Claim::Ignore);
    }
}
