//! Shows Endpoints that somebody wrote by hand in EndpointSlices, which is what proxies and DNS read (upstream:
//! `pkg/controller/endpointslicemirroring`).

use std::sync::Arc;

use client::{Expectations, Informer, ObjectKey, Recorder, WorkQueue, events};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::slices::Change;
use super::{MIRROR, SliceWriter, managed_by, mirror, watch_slices};
use crate::config::Mirroring as Limits;
use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "endpointslice-mirroring-controller",
    aliases: &["endpointslicemirroring"],
    start: |start| {
        let limits = start.config.tuning.mirroring;
        start.drive("endpointslice-mirroring", Mirroring::new(start.context, limits), limits.workers)
    },
};

const BY_ENDPOINTS: &str = "endpoints of mirroring slice";

/// The controller's caches.
pub(crate) struct Mirroring {
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    writer: SliceWriter,
    recorder: Recorder,
    limits: Limits,
}

impl Mirroring {
    /// Subscribes to Services, Endpoints and the slices that mirror them; all have the key of the Service.
    pub(crate) fn new(context: &Context, limits: Limits) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let (services, endpoints) = (context.informers.of::<Service>(), context.informers.of::<Endpoints>());
        let slices = context.informers.of::<EndpointSlice>();
        slices.add_index(BY_ENDPOINTS, |slice| {
            managed_by(slice, MIRROR).map(|key| key.to_string()).into_iter().collect()
        });
        let changed = queue.clone();
        services.on_event(move |event| changed.add_after(event.key(), limits.batch_period));
        let changed = queue.clone();
        endpoints.on_event(move |event| changed.add_after(event.key(), limits.batch_period));
        let expectations = Arc::new(Expectations::new());
        watch_slices(&slices, MIRROR, &queue, &expectations);
        let writer = SliceWriter { client: context.client.clone(), expectations };
        let recorder = context.recorder.for_component("endpoint-slice-mirroring-controller");
        (Self { services, endpoints, slices, writer, recorder, limits }, queue)
    }

    /// The Endpoints, if they are to be shown: there is a Service of their name, and it finds no endpoints by itself.
    fn mirrored(&self, key: &ObjectKey) -> Option<Arc<Endpoints>> {
        let service = self.services.get(key)?;
        let has_selector = service.spec.as_ref().is_some_and(|spec| spec.selector.is_some());
        self.endpoints.get(key).filter(|endpoints| !has_selector && mirror::is_mirrored(endpoints))
    }

    fn tell(&self, endpoints: &Endpoints, mirrored: &mirror::Mirrored) {
        let about = || events::about(endpoints);
        if mirrored.invalid > 0 {
            let message = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", mirrored.invalid);
            self.recorder.warning(about(), "InvalidIPAddress", message);
        }
        if mirrored.surplus > 0 {
            let message = format!(
                "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                self.limits.per_subset,
                mirrored.surplus + mirrored.invalid
            );
            self.recorder.warning(about(), "TooManyAddressesToMirror", message);
        }
    }
}

impl Controller for Mirroring {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        if let Some(wait) = self.writer.expectations.outstanding(&key) {
            return Ok(Some(wait));
        }
        let existing = self.slices.by_index(BY_ENDPOINTS, &key.to_string());
        let changes = match self.mirrored(&key) {
            Some(endpoints) => {
                let mirrored = mirror::plan(&endpoints, &existing, self.limits.per_subset);
                self.tell(&endpoints, &mirrored);
                mirrored.changes
            }
            None => existing.into_iter().map(Change::Delete).collect(),
        };
        for change in changes {
            self.writer.apply(&key, change).await?;
        }
        Ok(None)
    }
}
