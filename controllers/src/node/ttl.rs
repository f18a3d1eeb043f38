//! The annotation by which kubelets know how long they may keep what they have read of ConfigMaps and Secrets: the more
//! nodes there are, the longer. Upstream's ttl-controller.

use std::sync::Mutex;
use std::sync::PoisonError;

use client::{Informer, ObjectKey, WorkQueue, write};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "ttl-controller",
    aliases: &["ttl"],
    start: |start| start.drive("ttl", Ttl::new(start.context), start.config.tuning.concurrent_syncs),
};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// From and up to how many nodes a time to live, in seconds, holds. The ranges overlap, so that a cluster at a border does
/// not go to and fro.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

struct Ttl {
    client: kube::Client,
    nodes: Informer<Node>,
    step: Mutex<usize>,
    queue: WorkQueue<ObjectKey>,
}

impl Ttl {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let nodes = context.informers.of::<Node>();
        let changed = queue.clone();
        nodes.on_event(move |event| changed.add(event.key()));
        let queued = queue.clone();
        (Self { client: context.client.clone(), nodes, step: Mutex::new(0), queue: queued }, queue)
    }

    /// The time to live that holds now; when it is another than before, all nodes are looked at.
    fn seconds(&self) -> u32 {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let next = step_of(*step, self.nodes.count());
        if next != *step {
            *step = next;
            self.nodes.list().iter().for_each(|node| self.queue.add(ObjectKey::of(&**node)));
        }
        STEPS[next].2
    }
}

/// The step for so many nodes, coming from another one.
fn step_of(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].1 {
        step += 1;
    }
    while nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

impl Controller for Ttl {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let seconds = self.seconds().to_string();
        let Some(node) = self.nodes.get(&key) else { return Ok(None) };
        let annotations = node.metadata.annotations.as_ref();
        if annotations.and_then(|annotations| annotations.get(ANNOTATION)) == Some(&seconds) {
            return Ok(None);
        }
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { ANNOTATION: seconds } } }));
        write::ignore_not_found(api.patch_metadata(&key.name, &PatchParams::default(), &patch).await)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_cluster_keeps_its_step_a_little_longer_than_a_shrinking_one() {
        let check =
            |from: usize, nodes: usize, seconds: u32| assert_eq!(STEPS[step_of(from, nodes)].2, seconds, "{nodes}");
        check(0, 0, 0);
        check(0, 100, 0);
        check(0, 101, 15);
        check(1, 90, 15);
        check(1, 89, 0);
        check(0, 5000, 300);
        check(4, 1, 0);
    }
}
