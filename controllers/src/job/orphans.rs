//! Takes the tracking finalizer from pods whose Job is gone: nobody will count them.

use std::sync::Arc;

use client::{Event, Informer, ObjectKey, WorkQueue};
use facts::owners::controller_of;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::{pod, untrack};
use crate::context::{Context, Controller, Outcome};
use crate::meta;
use crate::owners::BY_CONTROLLER;

pub(super) struct Orphans {
    client: kube::Client,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
}

impl Orphans {
    pub(super) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let (jobs, pods) = (context.informers.of::<Job>(), context.informers.of::<Pod>());
        let queue = WorkQueue::new();
        let (changed, known) = (queue.clone(), jobs.clone());
        pods.on_event(move |event| {
            if let Event::Applied { new, .. } = event
                && pod::is_tracked(new)
                && counter(&known, new).is_none()
            {
                changed.add(event.key());
            }
        });
        let (changed, children) = (queue.clone(), pods.clone());
        jobs.on_event(move |event| {
            if let Event::Deleted(job) = event {
                let left = children.by_index(BY_CONTROLLER, meta::uid(&job.metadata));
                left.iter().for_each(|pod| changed.add(ObjectKey::of(&**pod)));
            }
        });
        (Self { client: context.client.clone(), jobs, pods }, queue)
    }
}

impl Controller for Orphans {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(orphan) = self.pods.get(&key).filter(|pod| pod::is_tracked(pod)) else { return Ok(None) };
        if counter(&self.jobs, &orphan).is_none() {
            untrack(&self.client, &orphan).await?;
        }
        Ok(None)
    }
}

/// The Job that counts this pod.
fn counter(jobs: &Informer<Job>, pod: &Pod) -> Option<Arc<Job>> {
    let key = meta::controller_key::<Job>(&pod.metadata)?;
    let owner = controller_of(&pod.metadata)?;
    jobs.get(&key).filter(|job| job.metadata.uid.as_deref() == Some(owner.uid.as_str()))
}
