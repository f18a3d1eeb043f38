//! Doing what preemption decided: the victims are marked and deleted, lesser nominations end (upstream's preemption executor).
//!
//! The preemptor stays out of the queue meanwhile (KEP-4832). What happens in that time is remembered for it, so that it
//! does not miss the end of its victims.

use std::sync::Arc;

use client::Recorder;
use client::events::about;
use client::write::{is_conflict, is_not_found};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::framework::{PodInfo, Preemption, Rejection};
use crate::plugins::{BY_SCHEDULER, DISRUPTION_TARGET};
use crate::waiting::WaitingPods;

/// Victims that are deleted at once, as upstream's parallelism.
const AT_ONCE: usize = 16;

/// What eviction needs.
pub(crate) struct Evictor<'a> {
    pub(crate) client: &'a kube::Client,
    pub(crate) recorder: &'a Recorder,
    pub(crate) waiting: &'a WaitingPods,
}

impl Evictor<'_> {
    /// Ends the nominations of `lesser` and evicts the victims that are not leaving yet.
    pub(crate) async fn make_room(
        &self,
        preemptor: &PodInfo,
        plan: &Preemption,
        lesser: &[Arc<PodInfo>],
    ) -> kube::Result<()> {
        for pod in lesser {
            // It is critical to nobody: the pod finds out in its next attempt.
            if let Err(err) = self.write_status(pod, json!({"nominatedNodeName": null})).await {
                debug!(pod = %pod.key, error = &err as &dyn std::error::Error, "nomination not ended");
            }
        }
        let victims = plan.victims.iter().filter(|victim| !victim.is_terminating());
        let evictions: Vec<_> = victims.map(|victim| self.evict(preemptor, victim, &plan.node)).collect();
        stream::iter(evictions).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn evict(&self, preemptor: &PodInfo, victim: &PodInfo, node: &str) -> kube::Result<()> {
        let is_held = self.waiting.reject(&victim.uid, Rejection::unschedulable("preempted"));
        if !is_held && !self.delete(preemptor, victim).await? {
            return Ok(());
        }
        info!(pod = %preemptor.key, victim = %victim.key, node, "preempted");
        let message = format!("Preempted by pod {} on node {node}", preemptor.uid);
        self.recorder.normal(about(&*victim.pod), "Preempted", message);
        Ok(())
    }

    /// Says why in the victim's status, then deletes it; false when it is gone already.
    async fn delete(&self, preemptor: &PodInfo, victim: &PodInfo) -> kube::Result<bool> {
        let scheduler = preemptor.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or_default();
        let condition = json!({
            "type": DISRUPTION_TARGET, "status": "True", "reason": BY_SCHEDULER, "lastProbeTime": null,
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": client::clock::time(), "observedGeneration": victim.pod.metadata.generation,
        });
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(victim.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        let deletion = async {
            self.write_status(victim, json!({"conditions": [condition]})).await?;
            self.pods(victim).delete(&victim.key.name, &params).await.map(drop)
        };
        match deletion.await {
            Ok(()) => Ok(true),
            // Another pod of its name has its place.
            Err(err) if is_not_found(&err) || is_conflict(&err) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// The uid refuses the write when the pod was replaced by another of its name.
    async fn write_status(&self, pod: &PodInfo, status: Value) -> kube::Result<()> {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
        let api = self.pods(pod);
        api.patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
    }

    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.namespace())
    }
}
