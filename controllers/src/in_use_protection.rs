//! Keeps claims, volumes, volume attribute classes and groups of pods that are in use: takes the finalizer off that
//! admission put on them once nobody uses them any more (upstream: `pvcprotection`, `pvprotection`, `vacprotection`,
//! `podgroupprotection`).

use client::{Event, Informer, ObjectKey, Watchable, WorkQueue, write};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::api::PostParams;
use kube::{Api, Resource};

use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

/// The protection of claims that pods use.
pub(crate) const CLAIMS: Descriptor = Descriptor {
    name: "persistentvolumeclaim-protection-controller",
    aliases: &["pvc-protection"],
    start: |start| start.drive("pvc-protection", claims(start.context), start.config.tuning.concurrent_syncs),
};

/// The protection of volumes that claims are bound to.
pub(crate) const VOLUMES: Descriptor = Descriptor {
    name: "persistentvolume-protection-controller",
    aliases: &["pv-protection"],
    start: |start| start.drive("pv-protection", volumes(start.context), start.config.tuning.concurrent_syncs),
};

/// The protection of volume attribute classes that claims or volumes have.
pub(crate) const CLASSES: Descriptor = Descriptor {
    name: "volumeattributesclass-protection-controller",
    aliases: &[],
    start: |start| {
        start.drive("volumeattributesclass-protection", classes(start.context), start.config.tuning.concurrent_syncs)
    },
};

/// The protection of groups whose pods have not ended, where the API server has groups.
pub(crate) const GROUPS: Descriptor = Descriptor {
    name: "podgroup-protection-controller",
    aliases: &[],
    start: |start| {
        let served = ("scheduling.k8s.io/v1alpha2", "podgroups");
        start.drive_if_served("podgroup-protection", served, groups, start.config.tuning.concurrent_syncs)
    },
};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";
const GROUP: &str = "scheduling.k8s.io/podgroup-protection";
/// Pods that run on a node, by `namespace/name` of the claims that they use.
const PODS_BY_CLAIM: &str = "claim";
/// Pods that have not ended, by `namespace/name` of their groups.
const PODS_BY_GROUP: &str = "group of pods";
/// Claims and volumes by the class that they have or shall have.
const BY_CLASS: &str = "volume attributes class";

type Keys = WorkQueue<ObjectKey>;

/// Whether an object is in use; reads caches only.
type InUse<K> = Box<dyn Fn(&K) -> bool + Send + Sync>;

struct Protection<K> {
    client: kube::Client,
    objects: Informer<K>,
    finalizer: &'static str,
    is_in_use: InUse<K>,
    api: fn(kube::Client, &str) -> Api<K>,
}

impl<K: Watchable + serde::Serialize> Protection<K> {
    fn new(
        context: &Context,
        queue: &Keys,
        finalizer: &'static str,
        api: fn(kube::Client, &str) -> Api<K>,
        is_in_use: InUse<K>,
    ) -> Self {
        let objects = context.informers.of::<K>();
        let changed = queue.clone();
        objects.on_event(move |event| {
            if let Event::Applied { new, .. } = event
                && next(&**new, finalizer).is_some()
            {
                changed.add(event.key());
            }
        });
        Self { client: context.client.clone(), objects, finalizer, is_in_use, api }
    }

    /// Replaces the object as the cache saw it; if it has changed since, another attempt follows.
    async fn set(&self, key: &ObjectKey, object: &K, finalizers: Vec<String>) -> Result<(), Failure> {
        let mut changed = object.clone();
        changed.meta_mut().finalizers = Some(finalizers);
        let api = (self.api)(self.client.clone(), &key.namespace);
        write::ignore_not_found(api.replace(&key.name, &PostParams::default(), &changed).await)?;
        Ok(())
    }
}

impl<K: Watchable + serde::Serialize> Controller for Protection<K> {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(object) = self.objects.get(&key) else { return Ok(None) };
        let Some(finalizers) = next(&*object, self.finalizer) else { return Ok(None) };
        let goes = object.meta().deletion_timestamp.is_some();
        // Whoever stops using it makes an event, and with it the next attempt.
        if !(goes && (self.is_in_use)(&object)) {
            self.set(&key, &object, finalizers).await?;
        }
        Ok(None)
    }
}

/// The finalizers that the object shall have if nobody uses it; `None` when it has them.
fn next<K: Resource<DynamicType = ()>>(object: &K, finalizer: &str) -> Option<Vec<String>> {
    let meta = object.meta();
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let has = finalizers.iter().any(|known| known == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (true, true) => finalizers.retain(|known| known != finalizer),
        // It was made before admission protected it.
        (false, false) => finalizers.push(finalizer.to_owned()),
        _ => return None,
    }
    Some(finalizers)
}

fn claims(context: &Context) -> (Protection<PersistentVolumeClaim>, Keys) {
    let (queue, pods) = (WorkQueue::new(), context.informers.of::<Pod>());
    pods.add_index(PODS_BY_CLAIM, |pod| used_claims(pod).iter().map(ToString::to_string).collect());
    let changed = queue.clone();
    pods.on_event(move |event| {
        if let Event::Applied { old: Some(pod), .. } | Event::Deleted(pod) = event {
            used_claims(pod).into_iter().for_each(|claim| changed.add(claim));
        }
    });
    let is_in_use = move |claim: &PersistentVolumeClaim| {
        !pods.by_index(PODS_BY_CLAIM, &ObjectKey::of(claim).to_string()).is_empty()
    };
    let api = |client, namespace: &str| Api::namespaced(client, namespace);
    (Protection::new(context, &queue, CLAIM, api, Box::new(is_in_use)), queue)
}

fn volumes(context: &Context) -> (Protection<PersistentVolume>, Keys) {
    let queue = WorkQueue::new();
    let is_bound =
        |volume: &PersistentVolume| volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    (Protection::new(context, &queue, VOLUME, |client, _| Api::all(client), Box::new(is_bound)), queue)
}

fn classes(context: &Context) -> (Protection<VolumeAttributesClass>, Keys) {
    let queue = WorkQueue::new();
    let claims = users(context, &queue, claim_classes);
    let volumes = users(context, &queue, volume_classes);
    let is_in_use = move |class: &VolumeAttributesClass| {
        let name = meta::name(&class.metadata);
        !claims.by_index(BY_CLASS, name).is_empty() || !volumes.by_index(BY_CLASS, name).is_empty()
    };
    (Protection::new(context, &queue, CLASS, |client, _| Api::all(client), Box::new(is_in_use)), queue)
}

fn groups(context: &Context) -> (Protection<PodGroup>, Keys) {
    let (queue, pods) = (WorkQueue::new(), context.informers.of::<Pod>());
    pods.add_index(PODS_BY_GROUP, |pod| group_in_use(pod).iter().map(ToString::to_string).collect());
    let changed = queue.clone();
    pods.on_event(move |event| {
        if let Event::Applied { old: Some(pod), .. } | Event::Deleted(pod) = event {
            group_in_use(pod).into_iter().for_each(|group| changed.add(group));
        }
    });
    let is_in_use = move |group: &PodGroup| !pods.by_index(PODS_BY_GROUP, &ObjectKey::of(group).to_string()).is_empty();
    let api = |client, namespace: &str| Api::namespaced(client, namespace);
    (Protection::new(context, &queue, GROUP, api, Box::new(is_in_use)), queue)
}

/// The group of a pod that has not ended.
fn group_in_use(pod: &Pod) -> Option<ObjectKey> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.clone()?;
    Some(ObjectKey::new(meta::namespace(&pod.metadata).to_owned(), name))
}

/// Follows objects that use classes.
fn users<K: Watchable>(context: &Context, queue: &Keys, classes: fn(&K) -> Vec<String>) -> Informer<K> {
    let objects = context.informers.of::<K>();
    objects.add_index(BY_CLASS, classes);
    let changed = queue.clone();
    objects.on_event(move |event| {
        if let Event::Applied { old: Some(object), .. } | Event::Deleted(object) = event {
            classes(object).into_iter().for_each(|class| changed.add(ObjectKey::cluster(class)));
        }
    });
    objects
}

/// The claims that a pod on a node uses. A pod that waits for a node does not count: no kubelet starts it with a claim
/// that is being deleted. Claims made for a pod count until it has shut down.
fn used_claims(pod: &Pod) -> Vec<ObjectKey> {
    let Some(spec) = pod.spec.as_ref().filter(|spec| spec.node_name.as_deref().is_some_and(|node| !node.is_empty()))
    else {
        return Vec::new();
    };
    let meta = &pod.metadata;
    let is_shut_down = meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds == Some(0);
    let names = spec.volumes.iter().flatten().filter_map(|volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(claim.claim_name.clone());
        }
        let made = volume.ephemeral.is_some() && !is_shut_down;
        made.then(|| format!("{}-{}", meta::name(meta), volume.name))
    });
    names.map(|name| ObjectKey::new(meta::namespace(meta).to_owned(), name)).collect()
}

fn claim_classes(claim: &PersistentVolumeClaim) -> Vec<String> {
    let spec = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|modify| modify.target_volume_attributes_class_name.clone());
    [spec, current, target].into_iter().flatten().collect()
}

fn volume_classes(volume: &PersistentVolume) -> Vec<String> {
    volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn check(metadata: Value, expected: Option<&[&str]>) {
        let claim: PersistentVolumeClaim = from_value(json!({ "metadata": metadata })).unwrap();
        let expected = expected.map(|list| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(next(&claim, CLAIM), expected);
    }

    #[test]
    fn the_finalizer_comes_at_birth_and_goes_at_death() {
        let now = "2026-01-01T00:00:00Z";
        check(json!({}), Some(&[CLAIM]));
        check(json!({ "finalizers": ["x", CLAIM] }), None);
        check(json!({ "finalizers": ["x", CLAIM], "deletionTimestamp": now }), Some(&["x"]));
        check(json!({ "finalizers": ["x"], "deletionTimestamp": now }), None);
    }

    #[test]
    fn only_pods_on_nodes_use_claims_and_ephemeral_ones_until_they_end() {
        let used = |metadata: Value, node: &str| -> Vec<String> {
            let volumes = json!([
                { "name": "a", "persistentVolumeClaim": { "claimName": "data" } }, { "name": "b", "ephemeral": {} },
            ]);
            let spec = json!({ "containers": [], "nodeName": node, "volumes": volumes });
            let pod: Pod = from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
            used_claims(&pod).into_iter().map(|key| key.name).collect()
        };
        let meta = json!({ "name": "p", "namespace": "n" });
        assert_eq!(used(meta.clone(), "node"), ["data", "p-b"]);
        assert!(used(meta, "").is_empty());
        let over = json!({ "name": "p", "namespace": "n", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0 });
        assert_eq!(used(over, "node"), ["data"]);
    }
}
