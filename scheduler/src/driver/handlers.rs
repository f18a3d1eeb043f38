//! What informers tell: cache and queue follow the cluster (upstream: `eventhandlers.go`).

use std::sync::Arc;

use client::{Event, Informer, Informers, ObjectKey};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Namespace, Node, Pod, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use tracing::debug;

use super::Shared;
use crate::framework::{CLAIM, ClusterEvent, GROUP_CLAIM, PodInfo, Rejection, nominated_node};
use crate::gangs::LEAST;

/// The annotations that plugins look at.
const ANNOTATIONS: [&str; 4] = [CLAIM, GROUP_CLAIM, LEAST[0], LEAST[1]];

/// All that is watched.
pub(super) struct Watched {
    pub(super) pods: Informer<Pod>,
    pub(super) nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    budgets: Informer<PodDisruptionBudget>,
    services: Informer<Service>,
    replication_controllers: Informer<ReplicationController>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
}

impl Watched {
    pub(super) fn new(informers: &Informers) -> Self {
        let watched = Self {
            pods: informers.with_fields("status.phase!=Succeeded,status.phase!=Failed"),
            nodes: informers.of(),
            namespaces: informers.of(),
            budgets: informers.of(),
            services: informers.of(),
            replication_controllers: informers.of(),
            replica_sets: informers.of(),
            stateful_sets: informers.of(),
        };
        watched.keep_selectors_only();
        watched.pods.set_transform(strip);
        watched
    }

    /// Of services and controllers only the selectors matter: the rest needs no memory.
    fn keep_selectors_only(&self) {
        self.services.set_transform(|service| {
            let selector = service.spec.take().and_then(|spec| spec.selector);
            service.spec = Some(k8s_openapi::api::core::v1::ServiceSpec { selector, ..Default::default() });
            service.status = None;
        });
        self.replication_controllers.set_transform(|controller| {
            controller.spec.iter_mut().for_each(|spec| spec.template = None);
            controller.status = None;
        });
        self.replica_sets.set_transform(|set| {
            set.spec.iter_mut().for_each(|spec| spec.template = None);
            set.status = None;
        });
        self.stateful_sets.set_transform(|set| {
            set.spec.iter_mut().for_each(|spec| {
                spec.template = Default::default();
                spec.volume_claim_templates = None;
            });
            set.status = None;
        });
    }
}

impl Shared {
    pub(super) fn listen(self: &Arc<Self>, watched: &Watched) {
        let shared = Arc::clone(self);
        watched.nodes.on_event(move |event| shared.node_changed(event));
        let shared = Arc::clone(self);
        watched.pods.on_event(move |event| shared.pod_changed(event));
        let shared = Arc::clone(self);
        watched.namespaces.on_event(move |event| shared.namespace_changed(event));
        let shared = Arc::clone(self);
        watched.budgets.on_event(move |event| shared.cache().set_budget(event.key(), still(event).cloned()));
        let shared = Arc::clone(self);
        watched.services.on_event(move |event| {
            let selector = still(event).and_then(|service| service.spec.as_ref()?.selector.clone());
            shared.cache().set_service(event.key(), selector);
        });
        let shared = Arc::clone(self);
        watched.replication_controllers.on_event(move |event| {
            let labels = still(event).and_then(|controller| controller.spec.as_ref()?.selector.clone());
            let selector = labels.map(|labels| LabelSelector { match_labels: Some(labels), match_expressions: None });
            shared.owner_changed("v1", "ReplicationController", event.key(), selector);
        });
        let shared = Arc::clone(self);
        watched.replica_sets.on_event(move |event| {
            let selector = still(event).and_then(|set| Some(set.spec.as_ref()?.selector.clone()));
            shared.owner_changed("apps/v1", "ReplicaSet", event.key(), selector);
        });
        let shared = Arc::clone(self);
        watched.stateful_sets.on_event(move |event| {
            let selector = still(event).and_then(|set| Some(set.spec.as_ref()?.selector.clone()));
            shared.owner_changed("apps/v1", "StatefulSet", event.key(), selector);
        });
    }

    fn owner_changed(&self, version: &str, kind: &str, key: ObjectKey, selector: Option<LabelSelector>) {
        self.cache().set_owner((version.to_owned(), kind.to_owned(), key), selector);
    }

    fn namespace_changed(&self, event: &Event<Namespace>) {
        let name = event.key().name;
        match event {
            Event::Applied { old: Some(old), new } if old.metadata.labels == new.metadata.labels => {}
            Event::Applied { new, .. } => {
                let labels = new.metadata.labels.clone().unwrap_or_default();
                self.cache().set_namespace(&name, Some(labels));
                self.queue.happened(&ClusterEvent::NamespaceChanged);
            }
            Event::Deleted(_) => self.cache().set_namespace(&name, None),
        }
    }

    fn node_changed(&self, event: &Event<Node>) {
        match event {
            Event::Applied { old, new } => {
                self.cache().set_node(new);
                self.queue.happened(&match old {
                    Some(old) => ClusterEvent::NodeUpdated { old: Arc::clone(old), new: Arc::clone(new) },
                    None => ClusterEvent::NodeAdded(Arc::clone(new)),
                });
            }
            Event::Deleted(node) => self.cache().remove_node(node.metadata.name.as_deref().unwrap_or("")),
        }
    }

    fn pod_changed(&self, event: &Event<Pod>) {
        match event {
            Event::Applied { old, new } => match node_of(new) {
                Some(node) => self.assigned(old.as_ref(), new, node),
                None if self.is_ours(new) => self.unassigned(old.as_ref(), new),
                None => {}
            },
            Event::Deleted(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or("");
                self.waiting.reject(uid, Rejection::unschedulable("the pod was deleted"));
                self.leave_queue(pod);
                self.cache().remove_pod(uid);
                if node_of(pod).is_some() {
                    self.queue.happened(&ClusterEvent::AssignedPodDeleted(Arc::clone(pod)));
                }
            }
        }
    }

    fn assigned(&self, old: Option<&Arc<Pod>>, new: &Arc<Pod>, node: &str) {
        let uid = new.metadata.uid.as_deref().unwrap_or("");
        self.queue.remove(uid);
        let pod = Arc::new(PodInfo::new(Arc::clone(new)));
        let before = {
            let mut cache = self.cache();
            cache.end_nomination(uid);
            cache.set_pod(Arc::clone(&pod), node)
        };
        match old.filter(|old| node_of(old).is_some()) {
            None => self.queue.happened(&ClusterEvent::AssignedPodAdded(Arc::clone(new))),
            // Status changes all the time, and frees something only at the end of a resize.
            Some(old) if is_same(old, new) && before.is_none_or(|before| before.requests == pod.requests) => {}
            Some(old) => {
                self.queue.happened(&ClusterEvent::AssignedPodUpdated { old: Arc::clone(old), new: Arc::clone(new) });
            }
        }
    }

    fn unassigned(&self, old: Option<&Arc<Pod>>, new: &Arc<Pod>) {
        if new.metadata.deletion_timestamp.is_some() {
            return self.leave_queue(new);
        }
        let pod = Arc::new(PodInfo::new(Arc::clone(new)));
        self.follow_nomination(old, &pod);
        let gated = match old {
            // Our own report of a failure comes back as an update: it must not wake the pod.
            Some(old) if is_same(old, new) => return self.queue.refresh(pod),
            Some(old) => {
                self.queue.update(pod, &ClusterEvent::PodUpdated { old: Arc::clone(old), new: Arc::clone(new) })
            }
            None => self.queue.add(pod),
        };
        if gated.is_some() {
            debug!(pod = new.metadata.name, "held back by scheduling gates");
        }
    }

    /// A nomination made here is known before the pod's status has it, so a status without one ends it only if it had one.
    fn follow_nomination(&self, old: Option<&Arc<Pod>>, pod: &Arc<PodInfo>) {
        let had = old.is_some_and(|old| nominated_node(old).is_some());
        let mut cache = self.cache();
        match pod.nominated_node() {
            Some(node) => cache.nominate(Arc::clone(pod), node),
            None if had => drop(cache.end_nomination(&pod.uid)),
            None => {
                if let Some(node) = cache.nominated_node(&pod.uid).map(str::to_owned) {
                    cache.nominate(Arc::clone(pod), &node);
                }
            }
        }
    }

    /// A pod that waits no more: it is deleted. What was kept free for it is free for others.
    fn leave_queue(&self, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        self.queue.remove(uid);
        let nominated = self.cache().end_nomination(uid);
        if nominated.is_some() {
            self.queue.happened(&ClusterEvent::AssignedPodDeleted(Arc::clone(pod)));
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.is_some_and(|name| self.profiles.contains_key(name))
    }
}

/// Drops what no decision looks at of a pod: there are many, and it is more than half of them.
fn strip(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
    }
    pod.metadata.annotations.take_if(|annotations| annotations.is_empty());
    if let Some(spec) = &mut pod.spec {
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(strip_container);
        spec.ephemeral_containers = None;
    }
    if let Some(status) = &mut pod.status {
        status.ephemeral_container_statuses = None;
        let containers = status.init_container_statuses.iter_mut().chain(&mut status.container_statuses);
        containers.flatten().for_each(strip_status);
    }
}

fn strip_container(container: &mut Container) {
    *container = Container {
        name: std::mem::take(&mut container.name),
        image: container.image.take(),
        ports: container.ports.take(),
        resources: container.resources.take(),
        restart_policy: container.restart_policy.take(),
        ..Container::default()
    };
}

fn strip_status(status: &mut ContainerStatus) {
    *status = ContainerStatus {
        name: std::mem::take(&mut status.name),
        allocated_resources: status.allocated_resources.take(),
        resources: status.resources.take(),
        ..ContainerStatus::default()
    };
}

/// The object, unless it is gone.
fn still<K>(event: &Event<K>) -> Option<&Arc<K>> {
    match event {
        Event::Applied { new, .. } => Some(new),
        Event::Deleted(_) => None,
    }
}

/// Whether nothing changed that scheduling looks at.
fn is_same(old: &Pod, new: &Pod) -> bool {
    let said = |pod: &Pod| ANNOTATIONS.map(|key| pod.metadata.annotations.as_ref()?.get(key).cloned());
    old.spec == new.spec && old.metadata.labels == new.metadata.labels && said(old) == said(new)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}
