//! Removes pods that nobody else will: of nodes that are gone, deleted before they were bound, and long ended
//! (upstream: `pkg/controller/podgc`).

use std::time::Duration;

use client::{Event, Informer, ObjectKey, WorkQueue, clock, write};
use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;
use crate::node::{BY_NODE, add_nodes};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "pod-garbage-collector-controller",
    aliases: &["podgc"],
    start: |start| {
        let collector = PodGarbage::new(start.context, start.config.tuning.terminated_pod_gc_threshold);
        start.drive("pod-garbage-collector", collector, start.config.tuning.concurrent_syncs)
    },
};

/// Upstream's quarantine: a node may just not be in the cache yet.
const QUARANTINE: Duration = Duration::from_secs(40);

pub(crate) struct PodGarbage {
    client: kube::Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// Zero keeps all ended pods.
    threshold: usize,
}

impl PodGarbage {
    pub(crate) fn new(context: &Context, threshold: usize) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let (nodes, pods) = (context.informers.of::<Node>(), context.informers.of::<Pod>());
        add_nodes(&pods);
        let (changed, bound) = (queue.clone(), pods.clone());
        nodes.on_event(move |event| {
            if let Event::Deleted(node) = event {
                for pod in bound.by_index(BY_NODE, meta::name(&node.metadata)) {
                    changed.add_after(ObjectKey::of(&*pod), QUARANTINE);
                }
            }
        });
        let (changed, known) = (queue.clone(), nodes.clone());
        pods.on_event(move |event| {
            let Event::Applied { new, .. } = event else { return };
            let is_unbound_and_deleted = pods::is_terminating(new) && pods::node(new).is_empty();
            if is_unbound_and_deleted || (threshold > 0 && pods::is_terminal(new)) {
                changed.add(event.key());
            }
            if is_lost(new, &known) {
                changed.add_after(event.key(), QUARANTINE);
            }
        });
        (Self { client: context.client.clone(), nodes, pods, threshold }, queue)
    }

    /// The cache may lag behind: only the API server's word counts.
    async fn is_node_gone(&self, name: &str) -> Result<bool, Failure> {
        Ok(Api::<Node>::all(self.client.clone()).get_metadata_opt(name).await?.is_none())
    }

    async fn fail_and_delete(&self, pod: &Pod) -> Result<(), Failure> {
        if !pods::is_terminal(pod) {
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": clock::time(),
            });
            let status = json!({ "phase": "Failed", "conditions": [condition] });
            let change = json!({ "metadata": { "uid": pod.metadata.uid }, "status": status });
            let name = meta::name(&pod.metadata);
            let patched = self.api(pod).patch_status(name, &PatchParams::default(), &Patch::Strategic(change)).await;
            write::ignore_not_found(patched)?;
        }
        self.delete_now(pod).await
    }

    async fn delete_now(&self, pod: &Pod) -> Result<(), Failure> {
        let exactly = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params =
            DeleteParams { grace_period_seconds: Some(0), preconditions: Some(exactly), ..DeleteParams::default() };
        match self.api(pod).delete(meta::name(&pod.metadata), &params).await {
            Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => Ok(()),
            outcome => outcome.map(drop).map_err(Into::into),
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), meta::namespace(&pod.metadata))
    }

    /// Whether this ended pod is among the oldest that are too many.
    fn is_surplus(&self, pod: &Pod) -> bool {
        if self.threshold == 0 || !pods::is_terminal(pod) {
            return false;
        }
        let mut ended: Vec<_> = self.pods.list().into_iter().filter(|pod| pods::is_terminal(pod)).collect();
        let surplus = ended.len().saturating_sub(self.threshold);
        ended.sort_by_key(|pod| created(pod));
        ended.iter().take(surplus).any(|old| old.metadata.uid == pod.metadata.uid)
    }
}

impl Controller for PodGarbage {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(pod) = self.pods.get(&key) else { return Ok(None) };
        if pods::is_terminating(&pod) && pods::node(&pod).is_empty() {
            self.delete_now(&pod).await?;
        } else if is_lost(&pod, &self.nodes) && self.is_node_gone(pods::node(&pod)).await? {
            self.fail_and_delete(&pod).await?;
        } else if self.is_surplus(&pod) {
            self.delete_now(&pod).await?;
        }
        Ok(None)
    }
}

fn is_lost(pod: &Pod, nodes: &Informer<Node>) -> bool {
    let node = pods::node(pod);
    !node.is_empty() && nodes.get(&ObjectKey::cluster(node)).is_none()
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}
