//! What plugins know of pods and their templates.

use api::{Object, Resource};
use serde_json::Value;

/// The annotation of pods that show a static pod.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Where a workload keeps the spec of its pods' template.
pub(super) fn template_path(resource: &Resource) -> Option<&'static [&'static str]> {
    match (resource.group.as_ref(), resource.plural.as_ref()) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("", "replicationcontrollers")
        | ("batch", "jobs") => Some(&["spec", "template", "spec"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template", "spec"]),
        ("", "podtemplates") => Some(&["template", "spec"]),
        _ => None,
    }
}

/// The containers of one list of a pod, to change.
pub(super) fn containers_mut<'a>(pod: &'a mut Object, list: &str) -> impl Iterator<Item = &'a mut Value> {
    pod.get_mut(&["spec", list]).and_then(Value::as_array_mut).into_iter().flatten()
}
