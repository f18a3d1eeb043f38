//! The objects of a run.

use bytes::Bytes;
use serde_json::{Value, json};

/// The label that pods of one group in a hundred share.
pub const GROUP: &str = "load.coracle.dev/group";
/// The label of the run on nodes, and what pods select their nodes by.
pub const RUN: &str = "load.coracle.dev/run";
/// The label of nodes whose containers run in name only.
pub const HOLLOW: &str = "hollow.coracle.dev/node";
/// The annotation that numbers writes.
pub const NUMBER: &str = "load.coracle.dev/number";
/// A scheduler that there is not: nothing acts on the pod.
const NOBODY: &str = "load-nobody";
/// The size of a pod as it is sent.
const POD_BYTES: usize = 1024;

/// The name of a pod.
pub fn pod_name(number: usize) -> String {
    format!("pod-{number:06}")
}

/// A pod of 1 KB that nobody schedules, in one of 100 groups.
pub fn idle_pod(number: usize) -> Bytes {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(number),
            "labels": {"app": "load", GROUP: (number % 100).to_string()},
            "annotations": {"load.coracle.dev/filler": ""},
        },
        "spec": {
            "schedulerName": NOBODY, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "registry.example/load:1", "args": ["--serve", "--port=8080"],
                "env": [{"name": "MODE", "value": "load"}], "ports": [{"containerPort": 8080}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            }],
        },
    });
    let filler = POD_BYTES.saturating_sub(pod.to_string().len());
    pod["metadata"]["annotations"]["load.coracle.dev/filler"] = Value::String("x".repeat(filler));
    pod.to_string().into()
}

/// A merge patch that numbers a pod. The round makes it a change even where an earlier round used the same number.
pub fn number_patch(round: &str, number: usize) -> Bytes {
    json!({"metadata": {"annotations": {NUMBER: number.to_string(), "load.coracle.dev/round": round}}})
        .to_string()
        .into()
}

/// The number that a watch event of such a pod carries.
pub fn number_of(event: &[u8]) -> Option<usize> {
    // The colon and quote tell the annotation from its name in managedFields.
    const MARK: &[u8] = b"\"load.coracle.dev/number\":\"";
    let at = event.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = event[at..].split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A node that runs nothing, with room for 110 pods.
pub fn fake_node(run: &str, number: usize) -> Bytes {
    let resources = json!({"cpu": "32", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let now_ready = json!({"type": "Ready", "status": "True", "reason": "Load", "message": "a node of a load run"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": format!("load-{run}-{number:05}"),
            "labels": {RUN: run, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": format!("zone-{}", number % 3)},
        },
        // Pods that shall really run must not come here.
        "spec": {"taints": [{"key": RUN, "value": run, "effect": "NoSchedule"}]},
        "status": {"capacity": resources, "allocatable": resources, "conditions": [now_ready]},
    })
    .to_string()
    .into()
}

/// A pod for the default scheduler that fits the run's fake nodes only.
pub fn schedulable_pod(run: &str, number: usize) -> Bytes {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name(number), "labels": {"app": "load"}},
        "spec": {
            "nodeSelector": {RUN: run}, "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "registry.example/load:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
        },
    })
    .to_string()
    .into()
}

/// A pod for the default scheduler that runs on a hollow node, in one of 100 groups.
pub fn hollow_pod(number: usize) -> Bytes {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name(number), "labels": {"app": "load", GROUP: (number % 100).to_string()}},
        "spec": {
            "nodeSelector": {HOLLOW: "true"},
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "registry.example/load:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
        },
    })
    .to_string()
    .into()
}

/// A pod that really runs.
pub fn running_pod(name: &str, image: &str, command: &[String]) -> Bytes {
    let mut container = json!({"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    // Not 0: that would delete the object at once, without waiting for the kubelet.
    let spec =
        json!({"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1, "containers": [container]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "load"}}, "spec": spec})
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_sent_as_one_kilobyte() {
        for number in [0, 19_999] {
            assert_eq!(idle_pod(number).len(), POD_BYTES);
        }
    }

    #[test]
    fn one_pod_in_a_hundred_is_in_a_group() {
        let in_group = |number: &usize| {
            serde_json::from_slice::<Value>(&idle_pod(*number)).unwrap()["metadata"]["labels"][GROUP] == "7"
        };
        assert_eq!((0..2000).filter(in_group).count(), 20);
    }

    #[test]
    fn the_number_of_an_event_is_the_annotations() {
        let event = br#"{"metadata":{"annotations":{"load.coracle.dev/number":"42"},"managedFields":[{"f:load.coracle.dev/number":{}}]}}"#;
        assert_eq!(number_of(event), Some(42));
        assert_eq!(number_of(br#"{"f:load.coracle.dev/number":{}}"#), None);
        assert_eq!(number_of(br#"{"load.coracle.dev/number":"x"}"#), None);
        assert_eq!(number_of(b""), None);
    }
}
