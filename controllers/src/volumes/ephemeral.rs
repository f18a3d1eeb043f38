//! Makes the claims of generic ephemeral volumes (KEP-1698): each is owned by its pod and goes with it.

use std::sync::Arc;

use api::volumes::{check_made_for, claims_of, made_name};
use client::{Event, ObjectKey, WorkQueue, events, write};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use super::{ClaimCache, PodCache};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "ephemeral-volume-controller",
    aliases: &["ephemeral-volume"],
    start: |start| {
        start.drive("ephemeral-volume", EphemeralVolumes::new(start.context), start.config.tuning.concurrent_syncs)
    },
};

/// Pods by `namespace/name` of the claims that are made for them.
const BY_MADE_CLAIM: &str = "made claim";

struct EphemeralVolumes {
    client: kube::Client,
    recorder: client::Recorder,
    pods: PodCache,
    claims: ClaimCache,
}

impl EphemeralVolumes {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let (pods, claims): (PodCache, ClaimCache) = (context.informers.of(), context.informers.of());
        pods.add_index(BY_MADE_CLAIM, |pod| made_claims(pod).iter().map(ToString::to_string).collect());
        let changed = queue.clone();
        pods.on_event(move |event| {
            if let Event::Applied { old: None, new } = event
                && !made_claims(new).is_empty()
            {
                changed.add(event.key());
            }
        });
        let (changed, users) = (queue.clone(), pods.clone());
        claims.on_event(move |event| {
            if let Event::Deleted(_) = event {
                let pods = users.by_index(BY_MADE_CLAIM, &event.key().to_string());
                pods.into_iter().for_each(|pod| changed.add(ObjectKey::of(&*pod)));
            }
        });
        let recorder = context.recorder.for_component("ephemeral_volume");
        (Self { client: context.client.clone(), recorder, pods, claims }, queue)
    }

    async fn make(&self, pod: &Pod, volume: &str, template: &PersistentVolumeClaimTemplate) -> Result<(), String> {
        let claim = claim(pod, volume, template);
        let (namespace, name) = (meta::namespace(&pod.metadata), made_name(pod, volume));
        if let Some(known) = self.claims.get(&ObjectKey::new(namespace, &*name)) {
            return check_made_for(&known, pod).map_err(|foreign| foreign.to_string());
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), &claim).await {
            Err(err) if !write::is_namespace_terminating(&err) => {
                Err(format!("create PVC {name}: {}", Failure::from(err).words()))
            }
            _ => Ok(()),
        }
    }
}

impl Controller for EphemeralVolumes {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let is_alive = |pod: &Arc<Pod>| pod.metadata.deletion_timestamp.is_none();
        let Some(pod) = self.pods.get(&key).filter(is_alive) else { return Ok(None) };
        for (volume, template) in templates(&pod) {
            if let Err(why) = self.make(&pod, volume, template).await {
                let message = format!("ephemeral volume {volume}: {why}");
                self.recorder.warning(events::about(&*pod), "FailedBinding", &*message);
                return Err(Failure::NotYet(message));
            }
        }
        Ok(None)
    }
}

fn made_claims(pod: &Pod) -> Vec<ObjectKey> {
    let made = claims_of(pod).into_iter().filter(|used| used.is_made);
    made.map(|used| ObjectKey::new(meta::namespace(&pod.metadata), used.name)).collect()
}

/// The volumes of a pod that get a claim of their own, with its template.
fn templates(pod: &Pod) -> impl Iterator<Item = (&str, &PersistentVolumeClaimTemplate)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        Some((volume.name.as_str(), template))
    })
}

fn claim(pod: &Pod, volume: &str, template: &PersistentVolumeClaimTemplate) -> PersistentVolumeClaim {
    let given = template.metadata.clone().unwrap_or_default();
    let metadata = ObjectMeta {
        name: Some(made_name(pod, volume)),
        labels: given.labels,
        annotations: given.annotations,
        owner_references: Some(vec![meta::controller_reference(pod)]),
        ..ObjectMeta::default()
    };
    PersistentVolumeClaim { metadata, spec: Some(template.spec.clone()), status: None }
}
