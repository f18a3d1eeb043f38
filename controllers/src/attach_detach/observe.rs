//! What the attachment of volumes looks at, and what wakes it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::volumes::attachment::{attachment_name, csi_source, is_attached, unique_name};
use api::volumes::{claims_of, is_bound, volume_name};
use client::{Event, Informer, ObjectKey, WorkQueue};
use facts::{nodes, pods};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};

use super::plan::{Attachment, NodeSeen, Seen, Volume, Wanted};
use crate::context::Context;
use crate::meta;

/// Pods with claims, by their node.
const PODS_BY_NODE: &str = "attach: node";
/// Pods on nodes, by `namespace/name` of the claims that they use.
const PODS_BY_CLAIM: &str = "attach: claim";
/// Attachments by their node, and by their volume.
const BY_NODE: &str = "node";
const BY_VOLUME: &str = "volume";

/// On a node: its kubelet waits for volumes to be attached by this controller.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// A taint: the node is shut down for good, and nothing of it runs (KEP-2268).
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

type Queue = WorkQueue<ObjectKey>;

/// The caches of everything that takes part.
#[derive(Clone)]
pub(super) struct Caches {
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    nodes: Informer<Node>,
    drivers: Informer<CSIDriver>,
    attachments: Informer<VolumeAttachment>,
}

impl Caches {
    pub(super) fn new(context: &Context) -> Self {
        let informers = &context.informers;
        let caches = Self {
            pods: informers.of(),
            claims: informers.of(),
            volumes: informers.of(),
            nodes: informers.of(),
            drivers: informers.of(),
            attachments: informers.of(),
        };
        caches
            .pods
            .add_index(PODS_BY_NODE, |pod| if uses_claims(pod) { vec![pods::node(pod).to_owned()] } else { vec![] });
        caches.pods.add_index(PODS_BY_CLAIM, |pod| used_claims(pod).iter().map(ToString::to_string).collect());
        caches.attachments.add_index(BY_NODE, |attachment| vec![attachment.spec.node_name.clone()]);
        caches.attachments.add_index(BY_VOLUME, |one| one.spec.source.persistent_volume_name.iter().cloned().collect());
        caches
    }

    /// An attachment by its name.
    pub(super) fn attachment(&self, name: &str) -> Option<Arc<VolumeAttachment>> {
        self.attachments.get(&ObjectKey::cluster(name))
    }

    /// What there is on a node; `made` are attachments that the cache does not show yet.
    pub(super) fn observe(&self, node: &str, made: &HashMap<String, Arc<VolumeAttachment>>) -> Seen {
        let known = self.nodes.get(&ObjectKey::cluster(node));
        let mut attachments = self.attachments.by_index(BY_NODE, node);
        attachments.extend(made.values().filter(|one| one.spec.node_name == node).cloned());
        Seen {
            node: known.map(|node| node_seen(&node)),
            wanted: self.wanted(node, made),
            attachments: attachments.iter().filter_map(|one| self.own(one)).collect(),
        }
    }

    /// The volumes that the node's pods use and that are to be attached.
    fn wanted(&self, node: &str, made: &HashMap<String, Arc<VolumeAttachment>>) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for pod in self.pods.by_index(PODS_BY_NODE, node) {
            for volume in used_claims(&pod).iter().filter_map(|claim| self.volume_of(claim)) {
                if let Some(known) = wanted.iter_mut().find(|known| known.volume.name == meta::name(&volume.metadata)) {
                    known.pods.push(Arc::clone(&pod));
                } else if let Some(new) = self.wanted_volume(node, &pod, &volume, made) {
                    wanted.push(new);
                }
            }
        }
        wanted
    }

    fn wanted_volume(
        &self,
        node: &str,
        pod: &Arc<Pod>,
        volume: &PersistentVolume,
        made: &HashMap<String, Arc<VolumeAttachment>>,
    ) -> Option<Wanted> {
        let source = csi_source(volume)?;
        if !is_attached(self.drivers.get(&ObjectKey::cluster(source.driver.as_str())).as_deref()) {
            return None;
        }
        let volume = as_volume(volume)?;
        Some(Wanted {
            attachment: attachment_name(&source.volume_handle, &source.driver, node),
            elsewhere: self.elsewhere(node, &volume, made),
            pods: vec![Arc::clone(pod)],
            volume,
        })
    }

    /// The pods that use a volume on other nodes, if it is attached to one.
    fn elsewhere(
        &self,
        node: &str,
        volume: &Volume,
        made: &HashMap<String, Arc<VolumeAttachment>>,
    ) -> Option<Vec<Arc<Pod>>> {
        let is_of = |one: &VolumeAttachment| one.spec.source.persistent_volume_name.as_ref() == Some(&volume.name);
        let mut attachments = self.attachments.by_index(BY_VOLUME, &volume.name);
        attachments.extend(made.values().filter(|one| is_of(one)).cloned());
        let others: BTreeSet<&str> =
            attachments.iter().map(|one| one.spec.node_name.as_str()).filter(|other| *other != node).collect();
        if others.is_empty() {
            return None;
        }
        let users = self.users(&volume.name);
        Some(users.into_iter().filter(|pod| others.contains(pods::node(pod))).collect())
    }

    /// The pods on nodes that use a volume.
    fn users(&self, volume: &str) -> Vec<Arc<Pod>> {
        let volume = self.volumes.get(&ObjectKey::cluster(volume));
        let reference = volume.as_ref().and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref());
        let key = reference.and_then(|claim| Some(ObjectKey::new(claim.namespace.clone()?, claim.name.clone()?)));
        key.map(|key| self.pods.by_index(PODS_BY_CLAIM, &key.to_string())).unwrap_or_default()
    }

    /// The volume that a claim is bound to, and that is bound to it.
    fn volume_of(&self, claim: &ObjectKey) -> Option<Arc<PersistentVolume>> {
        let claim = self.claims.get(claim).filter(|claim| is_bound(claim))?;
        let volume = self.volumes.get(&ObjectKey::cluster(volume_name(&claim)))?;
        let of = volume.spec.as_ref()?.claim_ref.as_ref()?.uid.as_ref();
        (of.is_some() && of == claim.metadata.uid.as_ref()).then_some(volume)
    }

    /// An attachment, if it is one that this controller makes: others are their makers'.
    fn own(&self, attachment: &VolumeAttachment) -> Option<Attachment> {
        let (name, spec) = (meta::name(&attachment.metadata), &attachment.spec);
        let volume = self.volumes.get(&ObjectKey::cluster(spec.source.persistent_volume_name.as_deref()?));
        let source = volume.as_ref().and_then(|volume| csi_source(volume)).filter(|csi| csi.driver == spec.attacher);
        let is_own = match source {
            Some(csi) => name == attachment_name(&csi.volume_handle, &csi.driver, &spec.node_name),
            None => name.strip_prefix("csi-").is_some_and(|hash| hash.len() == 64),
        };
        let status = attachment.status.as_ref();
        is_own.then(|| Attachment {
            name: name.to_owned(),
            volume: source.map(|csi| unique_name(&csi.driver, &csi.volume_handle)),
            driver: spec.attacher.clone(),
            attached: status.is_some_and(|status| status.attached),
            deleted: attachment.metadata.deletion_timestamp.is_some(),
            error: status.and_then(|status| status.attach_error.as_ref()?.message.clone()),
            ..Attachment::default()
        })
    }

    /// Queues the nodes that a change concerns.
    pub(super) fn wake(&self, queue: &Queue) {
        let changed = queue.clone();
        self.pods.on_event(move |event| match event {
            Event::Applied { old: Some(old), new } if used_claims(old) == used_claims(new) => {}
            event => wake_node(&changed, event.object()),
        });
        let (caches, changed) = (self.clone(), queue.clone());
        self.claims.on_event(move |event| caches.wake_users(&event.key(), &changed));
        let (caches, changed) = (self.clone(), queue.clone());
        self.volumes.on_event(move |event| {
            if csi_source(event.object()).is_some() {
                caches.wake_volume(&event.key().name, &changed);
            }
        });
        let (caches, changed) = (self.clone(), queue.clone());
        self.attachments.on_event(move |event| {
            changed.add(ObjectKey::cluster(event.object().spec.node_name.as_str()));
            if let (Event::Deleted(gone), Some(volume)) = (event, &event.object().spec.source.persistent_volume_name) {
                tracing::debug!(attachment = meta::name(&gone.metadata), "a volume is detached");
                caches.wake_volume(volume, &changed);
            }
        });
        let changed = queue.clone();
        self.nodes.on_event(move |event| match event {
            Event::Applied { old: Some(old), new } if is_alike(old, new) => {}
            event => changed.add(event.key()),
        });
        let (caches, changed) = (self.clone(), queue.clone());
        self.drivers.on_event(move |_| {
            caches.nodes.list().iter().for_each(|node| changed.add(ObjectKey::of(&**node)));
        });
    }

    /// Wakes the nodes that have a volume or wait for it.
    fn wake_volume(&self, volume: &str, queue: &Queue) {
        self.users(volume).iter().for_each(|pod| wake_node(queue, pod));
        for attachment in self.attachments.by_index(BY_VOLUME, volume) {
            queue.add(ObjectKey::cluster(attachment.spec.node_name.as_str()));
        }
    }

    fn wake_users(&self, claim: &ObjectKey, queue: &Queue) {
        self.pods.by_index(PODS_BY_CLAIM, &claim.to_string()).iter().for_each(|pod| wake_node(queue, pod));
    }
}

fn wake_node(queue: &Queue, pod: &Pod) {
    let node = pods::node(pod);
    if !node.is_empty() && !claims_of(pod).is_empty() {
        queue.add(ObjectKey::cluster(node));
    }
}

fn uses_claims(pod: &Pod) -> bool {
    !used_claims(pod).is_empty()
}

/// The claims of a pod that is on a node and has not ended.
fn used_claims(pod: &Pod) -> Vec<ObjectKey> {
    if pods::node(pod).is_empty() || pods::is_terminal(pod) {
        return Vec::new();
    }
    let namespace = meta::namespace(&pod.metadata);
    claims_of(pod).into_iter().map(|used| ObjectKey::new(namespace, used.name)).collect()
}

fn as_volume(volume: &PersistentVolume) -> Option<Volume> {
    let csi = csi_source(volume)?;
    let modes = volume.spec.as_ref()?.access_modes.as_deref().unwrap_or_default();
    let is_shared = modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
    Some(Volume {
        name: meta::name(&volume.metadata).to_owned(),
        driver: csi.driver.clone(),
        unique: unique_name(&csi.driver, &csi.volume_handle),
        exclusive: !modes.is_empty() && !is_shared,
    })
}

fn node_seen(node: &Node) -> NodeSeen {
    let annotations = node.metadata.annotations.as_ref();
    let attached = node.status.iter().flat_map(|status| status.volumes_attached.iter().flatten());
    NodeSeen {
        managed: annotations.and_then(|all| all.get(MANAGED)).is_some_and(|value| value == "true"),
        ready: nodes::is_ready(node),
        out_of_service: nodes::taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE),
        in_use: in_use(node),
        attached: attached.map(|volume| volume.name.clone()).collect(),
    }
}

/// The volumes that a node says it uses.
pub(super) fn in_use(node: &Node) -> BTreeSet<String> {
    node.status.iter().flat_map(|status| status.volumes_in_use.iter().flatten()).cloned().collect()
}

/// Whether two versions of a node say the same of volumes; heartbeats make no difference.
fn is_alike(old: &Node, new: &Node) -> bool {
    let (old, new) = (node_seen(old), node_seen(new));
    (old.managed, old.ready, old.out_of_service) == (new.managed, new.ready, new.out_of_service)
        && (old.in_use, old.attached) == (new.in_use, new.attached)
}
