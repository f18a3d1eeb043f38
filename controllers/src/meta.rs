//! What controllers ask of the metadata of objects: who they are, and who owns whom (upstream: `metav1.GetControllerOf`).

use std::collections::BTreeMap;

use client::{Informer, ObjectKey, Watchable};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::{Selector, SelectorExt};

/// Objects by the uid of their controller.
pub(crate) const BY_CONTROLLER: &str = "controller uid";
/// Objects without a controller, by namespace.
pub(crate) const ORPHANS: &str = "orphans of namespace";
/// Pods by the node they are bound to.
pub(crate) const BY_NODE: &str = "node";

/// Adds the indexes by controller and of orphans.
pub(crate) fn add_ownership<K: Watchable>(informer: &Informer<K>) {
    informer.add_index(BY_CONTROLLER, |object| {
        controller_of(object.meta()).map(|owner| owner.uid.clone()).into_iter().collect()
    });
    informer.add_index(ORPHANS, |object| match controller_of(object.meta()) {
        Some(_) => Vec::new(),
        None => vec![object.meta().namespace.clone().unwrap_or_default()],
    });
}

/// Adds the index by node.
pub(crate) fn add_nodes(pods: &Informer<Pod>) {
    pods.add_index(BY_NODE, |pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect());
}

/// The owner that controls the object.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The key of the controller of `meta`, if it is of this kind.
pub(crate) fn controller_key<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<ObjectKey> {
    let owner = controller_of(meta)?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let is_kind = owner.kind == K::kind(&()) && group == K::group(&());
    is_kind.then(|| ObjectKey::new(meta.namespace.clone().unwrap_or_default(), owner.name.clone()))
}

/// The reference that makes `owner` the controller of what carries it.
pub(crate) fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The uid of an object from the API server.
pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// The name of an object from the API server.
pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The namespace of an object from the API server.
pub(crate) fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// A selector that selects nothing when it is empty or malformed: no controller may claim everything by accident.
pub(crate) fn selector(from: &LabelSelector) -> Option<Selector> {
    let selector = Selector::try_from(from.clone()).ok()?;
    (!selector.selects_all()).then_some(selector)
}

/// Whether the labels of `meta` match.
pub(crate) fn matches(selector: &Selector, meta: &ObjectMeta) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(meta.labels.as_ref().unwrap_or(&NONE))
}
