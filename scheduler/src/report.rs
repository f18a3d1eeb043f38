//! Telling people why a pod has no node: its `PodScheduled` condition and an event.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tracing::debug;

use crate::framework::PodInfo;

/// Writes `PodScheduled=False`, unless the pod says so already.
pub(crate) async fn not_scheduled(client: &kube::Client, pod: &PodInfo, reason: &str, message: &str) {
    if says_already(pod, reason, message) {
        return;
    }
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(transition(pod)),
        observed_generation: pod.pod.metadata.generation,
        ..PodCondition::default()
    };
    // The uid refuses the write when the pod was replaced by another of its name.
    let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let name = pod.pod.metadata.name.as_deref().unwrap_or("");
    if let Err(err) = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        // The next attempt writes it again.
        debug!(pod = %pod.key, error = &err as &dyn std::error::Error, "condition not written");
    }
}

fn condition(pod: &PodInfo) -> Option<&PodCondition> {
    let conditions = pod.pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled")
}

fn says_already(pod: &PodInfo, reason: &str, message: &str) -> bool {
    condition(pod).is_some_and(|condition| {
        condition.status == "False"
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(message)
    })
}

/// When the condition became false: now, unless it is false already.
fn transition(pod: &PodInfo) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    let before = condition(pod)
        .filter(|condition| condition.status == "False")
        .and_then(|condition| condition.last_transition_time.clone());
    before.unwrap_or_else(client::clock::time)
}
