//! Which pods stand behind a Service: EndpointSlices, and the older Endpoints for clients that still read them. Endpoints
//! that are written by hand are shown in slices, too.

mod legacy;
mod mirror;
pub(crate) mod mirroring;
mod monitor;
mod observe;
mod slices;

use std::sync::Arc;

use client::{Event, Expectations, Informer, ObjectKey, WorkQueue, write};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use self::monitor::Monitor;
use self::observe::Backend;
use self::slices::Change;
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

/// The controller of EndpointSlices.
pub(crate) const SLICES: Descriptor = Descriptor {
    name: "endpointslice-controller",
    aliases: &["endpointslice"],
    start: |start| {
        start.drive("endpointslice", EndpointSlices::new(start.context), start.config.tuning.concurrent_endpoint_syncs)
    },
};

/// The controller of Endpoints.
pub(crate) const LEGACY: Descriptor = Descriptor {
    name: "endpoints-controller",
    aliases: &["endpoint"],
    start: |start| {
        start.drive("endpoints", LegacyEndpoints::new(start.context), start.config.tuning.concurrent_endpoint_syncs)
    },
};

const BY_SERVICE: &str = "service of slice";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The caches that both controllers read.
#[derive(Clone)]
struct Sources {
    client: kube::Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
}

impl Sources {
    /// Subscribes `queue` to Services and to the pods behind them.
    fn new(context: &Context, queue: &WorkQueue<ObjectKey>) -> Self {
        let sources = Self {
            client: context.client.clone(),
            services: context.informers.of::<Service>(),
            pods: context.informers.of::<Pod>(),
            nodes: context.informers.of::<Node>(),
        };
        sources.services.on_event({
            let queue = queue.clone();
            move |event| queue.add(event.key())
        });
        let (queue, services) = (queue.clone(), sources.services.clone());
        sources.pods.on_event(move |event| {
            let (old, new) = match event {
                Event::Applied { old, new } if old.as_ref().is_some_and(|old| observe::is_same_backend(old, new)) => {
                    return;
                }
                Event::Applied { old, new } => (old.as_ref(), Some(new)),
                Event::Deleted(last) => (Some(last), None),
            };
            for pod in old.into_iter().chain(new) {
                add_services_of(&services, pod, &queue);
            }
        });
        sources
    }

    /// The Service, if this controller is to find its endpoints, and the pods it selects.
    fn observe(&self, key: &ObjectKey) -> Option<(Arc<Service>, Vec<Backend>)> {
        let service = self.services.get(key)?;
        let selector = observe::selector(&service)?;
        let pods = self.pods.list_in(&key.namespace);
        let selected = pods.iter().filter(|pod| observe::is_selected(&selector, pod));
        let zone_of = |node: &str| {
            let node = self.nodes.get(&ObjectKey::cluster(node))?;
            node.metadata.labels.as_ref()?.get(ZONE).cloned()
        };
        let backends = selected.filter_map(|pod| Backend::of(pod, &service, zone_of)).collect();
        Some((service, backends))
    }
}

fn add_services_of(services: &Informer<Service>, pod: &Pod, queue: &WorkQueue<ObjectKey>) {
    for service in services.list_in(meta::namespace(&pod.metadata)) {
        if observe::selector(&service).is_some_and(|selector| observe::is_selected(&selector, pod)) {
            queue.add(ObjectKey::of(&*service));
        }
    }
}

/// Keeps the EndpointSlices of Services.
pub(crate) struct EndpointSlices {
    sources: Sources,
    slices: Informer<EndpointSlice>,
    writer: SliceWriter,
    monitor: Monitor,
}

impl EndpointSlices {
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (queue, expectations) = (WorkQueue::new(), Arc::new(Expectations::new()));
        let slices = context.informers.of::<EndpointSlice>();
        slices
            .add_index(BY_SERVICE, |slice| managed_by(slice, MANAGER).map(|key| key.to_string()).into_iter().collect());
        watch_slices(&slices, MANAGER, &queue, &expectations);
        let sources = Sources::new(context, &queue);
        watch_zones(&sources, &queue);
        let writer = SliceWriter { client: context.client.clone(), expectations };
        let monitor = Monitor::new(&context.metrics, slices.clone(), sources.services.clone());
        (Self { sources, slices, writer, monitor }, queue)
    }

    /// Brings the slices of a Service up to date.
    async fn sync(&self, key: &ObjectKey, service: &Service, backends: &[Backend]) -> Result<(), Failure> {
        let existing: Vec<_> = self.slices.by_index(BY_SERVICE, &key.to_string());
        let changes = slices::plan(service, backends, &existing);
        self.monitor.plans(service, &existing, &changes);
        for change in changes {
            self.writer.apply(key, change).await?;
        }
        Ok(())
    }
}

/// Follows the slices that `manager` manages, in the name of their Services.
fn watch_slices(
    slices: &Informer<EndpointSlice>,
    manager: &'static str,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Arc<Expectations>,
) {
    let (changed, expected) = (queue.clone(), Arc::clone(expectations));
    slices.on_event(move |event| {
        let Some(service) = managed_by(event.object(), manager) else { return };
        match event {
            Event::Applied { old: None, .. } => expected.creation_observed(&service),
            Event::Applied { .. } => {}
            Event::Deleted(slice) => expected.deletion_observed(&service, meta::uid(&slice.metadata)),
        }
        changed.add(service);
    });
}

/// Writes slices, and knows which writes the cache does not show yet.
struct SliceWriter {
    client: kube::Client,
    expectations: Arc<Expectations>,
}

impl SliceWriter {
    async fn apply(&self, key: &ObjectKey, change: Change) -> Result<(), Failure> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        match change {
            Change::Create(slice) => {
                self.expectations.expect_creations(key, 1);
                if let Err(err) = api.create(&PostParams::default(), &slice).await {
                    self.expectations.creation_observed(key);
                    return if write::is_namespace_terminating(&err) { Ok(()) } else { Err(err.into()) };
                }
            }
            Change::Update(slice) => {
                api.replace(meta::name(&slice.metadata), &PostParams::default(), &slice).await?;
            }
            Change::Delete(slice) => {
                let uid = meta::uid(&slice.metadata);
                self.expectations.expect_deletions(key, [uid.to_owned()]);
                let deleted = api.delete(meta::name(&slice.metadata), &DeleteParams::default()).await;
                if deleted.is_err() {
                    self.expectations.deletion_observed(key, uid);
                }
                write::ignore_not_found(deleted)?;
            }
        }
        Ok(())
    }
}

impl Controller for EndpointSlices {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        // The slices of a deleted Service are garbage that the garbage collector removes.
        let Some((service, backends)) = self.sources.observe(&key) else { return Ok(None) };
        if let Some(wait) = self.writer.expectations.outstanding(&key) {
            self.monitor.synced("stale");
            return Ok(Some(wait));
        }
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let outcome = self.sync(&key, &service, &backends).await;
        self.monitor.synced(if outcome.is_ok() { "success" } else { "error" });
        outcome.map(|()| None)
    }
}

/// The Service of a slice that `manager` manages.
fn managed_by(slice: &EndpointSlice, manager: &str) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let is_ours = labels.get(MANAGED_BY).is_some_and(|known| known == manager);
    is_ours
        .then(|| labels.get(SERVICE_NAME))
        .flatten()
        .map(|name| ObjectKey::new(meta::namespace(&slice.metadata), name))
}

/// A node that moves to another zone takes its endpoints along.
fn watch_zones(sources: &Sources, queue: &WorkQueue<ObjectKey>) {
    let (queue, services) = (queue.clone(), sources.services.clone());
    sources.nodes.on_event(move |event| {
        let zone = |node: &Node| node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE).cloned());
        let (before, after) = match event {
            Event::Applied { old, new } => (old.as_ref().and_then(|old| zone(old)), zone(new)),
            Event::Deleted(last) => (zone(last), None),
        };
        if before != after {
            services.list().iter().for_each(|service| queue.add(ObjectKey::of(&**service)));
        }
    });
}

/// Keeps the legacy Endpoints of Services.
pub(crate) struct LegacyEndpoints {
    sources: Sources,
    endpoints: Informer<Endpoints>,
}

impl LegacyEndpoints {
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let endpoints = context.informers.of::<Endpoints>();
        let changed = queue.clone();
        endpoints.on_event(move |event| changed.add(event.key()));
        (Self { sources: Sources::new(context, &queue), endpoints }, queue)
    }
}

impl Controller for LegacyEndpoints {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let api: Api<Endpoints> = Api::namespaced(self.sources.client.clone(), &key.namespace);
        let current = self.endpoints.get(&key);
        if self.sources.services.get(&key).is_none() {
            // Endpoints have no owner; whoever finds their Service gone removes them.
            if current.is_some_and(|current| legacy::is_managed(&current)) {
                write::ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)?;
            }
            return Ok(None);
        }
        let Some((service, backends)) = self.sources.observe(&key) else { return Ok(None) };
        let Some(wanted) = legacy::plan(&service, &backends, current.as_deref()) else { return Ok(None) };
        let written = match current {
            Some(_) => api.replace(&key.name, &PostParams::default(), &wanted).await,
            None => api.create(&PostParams::default(), &wanted).await,
        };
        match written {
            Err(err) if write::is_namespace_terminating(&err) => Ok(None),
            // Written by the attempt before this one; its event is on the way.
            Err(err) if write::is_already_exists(&err) => Ok(None),
            outcome => outcome.map(|_| None).map_err(Into::into),
        }
    }
}
