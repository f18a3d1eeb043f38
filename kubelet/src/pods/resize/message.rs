//! The messages of resize events, in upstream's form: a few words and what was asked for, as JSON.
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

use super::Reason;
use crate::pod;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<&'a ResourceRequirements>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<One<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<One<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct One<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

/// Of `ResizeDeferred` and `ResizeInfeasible`: what `pod` asks for, and why it does not get it.
pub(crate) fn pending(pod: &Pod, reason: Reason, why: &str) -> String {
    message(&format!("Pod resize {}", reason.name()), pod, pod.metadata.generation, why)
}

/// Of `ResizeStarted`.
pub(crate) fn started(pod: &Pod) -> String {
    message("Pod resize started", pod, pod.metadata.generation, "")
}

/// Of `ResizeCompleted`: what the pod with this generation of its sizes has now.
pub(crate) fn completed(pod: &Pod, generation: Option<i64>) -> String {
    message("Pod resize completed", pod, generation, "")
}

/// Of `ResizeError`.
pub(crate) fn error(pod: &Pod, generation: Option<i64>, why: &str) -> String {
    message("Pod resize error", pod, generation, why)
}

fn message(words: &str, pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let spec = pod::spec(pod);
    let summary = Summary {
        resources: spec.resources.as_ref(),
        init_containers: pod::init_containers(pod).iter().map(one).collect(),
        containers: spec.containers.iter().map(one).collect(),
        generation: generation.unwrap_or_default(),
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(json) => format!("{words}: {json}"),
        Err(_) => words.to_owned(),
    }
}

fn one(container: &Container) -> One<'_> {
    One { name: &container.name, resources: container.resources.clone().unwrap_or_default() }
}
