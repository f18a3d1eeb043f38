//! Deletes pods from nodes whose `NoExecute` taints they do not tolerate, or no longer (upstream:
//! `pkg/controller/tainteviction`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use client::{Event, Informer, ObjectKey, Recorder, WorkQueue, clock, events, write};
use facts::nodes::{self, taints::covers};
use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::Api;
use kube::api::{Patch, PatchParams};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use serde_json::json;

use super::{BY_NODE, add_nodes};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::{meta, podcontrol};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "taint-eviction-controller",
    aliases: &[],
    start: |start| {
        start.drive("taint-eviction", TaintEviction::new(start.context), start.config.tuning.concurrent_syncs)
    },
};

pub(crate) struct TaintEviction {
    client: kube::Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    recorder: Recorder,
    /// When a taint that does not say so was first seen, by node and key.
    first_seen: Mutex<HashMap<(String, String), Timestamp>>,
    /// The pods that have to go when their time is over, by node.
    waiting: Mutex<HashMap<String, BTreeSet<ObjectKey>>>,
    deletions: Counter,
    /// From when a pod had to go until it was deleted, in seconds.
    delays: Histogram,
}

/// Upstream's buckets of `delays`.
const DELAYS: [f64; 12] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0];

impl TaintEviction {
    pub(crate) fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let (nodes, pods) = (context.informers.of::<Node>(), context.informers.of::<Pod>());
        add_nodes(&pods);
        let changed = queue.clone();
        nodes.on_event(move |event| {
            let before = match event {
                Event::Applied { old, .. } => old.as_ref().map(|old| evicting(old)).unwrap_or_default(),
                Event::Deleted(last) => evicting(last),
            };
            let after = evicting(event.object());
            if before != after || (!after.is_empty() && matches!(event, Event::Applied { old: None, .. })) {
                changed.add(event.key());
            }
        });
        let (changed, known) = (queue.clone(), nodes.clone());
        pods.on_event(move |event| {
            let Event::Applied { old, new } = event else { return };
            let is_changed = |old: &Pod| pods::node(old) != pods::node(new) || tolerations(old) != tolerations(new);
            let key = ObjectKey::cluster(pods::node(new));
            if old.as_deref().is_none_or(is_changed) && known.get(&key).is_some_and(|node| !evicting(&node).is_empty())
            {
                changed.add(key);
            }
        });
        let recorder = context.recorder.for_component("taint-eviction-controller");
        let (deletions, delays) = (Counter::default(), Histogram::new(DELAYS));
        context.metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("taint_eviction_controller");
            let help = "Total number of Pods deleted by TaintEvictionController since its start";
            registry.register("pod_deletions", help, deletions.clone());
            let help = "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its \
                        deletion via TaintEvictionController";
            registry.register("pod_deletion_duration_seconds", help, delays.clone());
        });
        let (first_seen, waiting) = (Mutex::default(), Mutex::default());
        let client = context.client.clone();
        (Self { client, nodes, pods, recorder, first_seen, waiting, deletions, delays }, queue)
    }

    /// The node's taints that evict, with the time each began.
    fn taints(&self, node: &Node, now: Timestamp) -> Vec<(Taint, Timestamp)> {
        let name = meta::name(&node.metadata);
        let mut first_seen = self.first_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let taints = evicting(node);
        first_seen.retain(|(known, key), _| known != name || taints.iter().any(|taint| taint.key == *key));
        let since = |taint: &Taint, seen: &mut HashMap<(String, String), Timestamp>| {
            let added = taint.time_added.as_ref().map(|time| time.0);
            added.unwrap_or_else(|| *seen.entry((name.to_owned(), taint.key.clone())).or_insert(now))
        };
        taints.into_iter().map(|taint| (since(&taint, &mut first_seen), taint)).map(|(at, taint)| (taint, at)).collect()
    }

    /// Remembers who waits for the end of its time on a node, and tells of those who did and stay.
    fn keep(&self, node: &str, waiting: BTreeSet<ObjectKey>) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.remove(node).unwrap_or_default();
        let saved = before.difference(&waiting).filter_map(|key| self.pods.get(key));
        for pod in saved.filter(|pod| pods::is_active(pod)) {
            let message = format!("Cancelling deletion of Pod {}", ObjectKey::of(&*pod));
            self.recorder.normal(events::about(&*pod), "TaintManagerEviction", message);
        }
        if !waiting.is_empty() {
            all.insert(node.to_owned(), waiting);
        }
    }

    /// Deletes a pod that had to go at `due`.
    async fn evict(&self, pod: &Pod, due: Timestamp) -> Result<(), Failure> {
        let (namespace, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
        let message = format!("Marking for deletion Pod {namespace}/{name}");
        self.recorder.normal(events::about(pod), "TaintManagerEviction", message);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": clock::time(),
        });
        let change = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(change)).await {
            Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => return Ok(()),
            outcome => drop(outcome?),
        }
        if podcontrol::delete_pod(&self.client, pod).await? {
            self.deletions.inc();
            self.delays.observe(clock::now().duration_since(due).as_secs_f64());
        }
        Ok(())
    }
}

impl Controller for TaintEviction {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let now = clock::now();
        let taints = self.nodes.get(&key).map(|node| self.taints(&node, now)).unwrap_or_default();
        let mut going = Vec::new();
        if !taints.is_empty() {
            let pods = self.pods.by_index(BY_NODE, &key.name);
            let due = |pod: Arc<Pod>| eviction_time(tolerations(&pod), &taints).map(|due| (pod, due));
            going.extend(pods.into_iter().filter(|pod| pods::is_active(pod)).filter_map(due));
        }
        self.keep(&key.name, going.iter().map(|(pod, _)| ObjectKey::of(&**pod)).collect());
        for (pod, due) in going.iter().filter(|(_, due)| *due <= now) {
            self.evict(pod, *due).await?;
        }
        Ok(going.iter().filter(|(_, due)| *due > now).map(|(_, due)| pods::until(*due, now)).min())
    }
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

fn evicting(node: &Node) -> Vec<Taint> {
    nodes::taints(node).iter().filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// When a pod with these tolerations has to go; `None` for never. The shortest time over all taints counts, from when
/// the taint was added.
fn eviction_time(tolerations: &[Toleration], taints: &[(Taint, Timestamp)]) -> Option<Timestamp> {
    let of_taint = |(taint, since): &(Taint, Timestamp)| {
        let mut tolerating = tolerations.iter().filter(|toleration| covers(toleration, taint)).peekable();
        if tolerating.peek().is_none() {
            return Some(*since);
        }
        let seconds = tolerating.filter_map(|toleration| toleration.toleration_seconds).min()?;
        since.checked_add(SignedDuration::from_secs(seconds.max(0))).ok()
    };
    taints.iter().filter_map(of_taint).min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value};

    use super::*;

    fn check(tolerations: Value, expected: Option<i64>) {
        let since: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let taints: Vec<Taint> = from_value(
            json!([{ "key": "a", "effect": "NoExecute" }, { "key": "b", "value": "x", "effect": "NoExecute" }]),
        )
        .unwrap();
        let taints: Vec<_> = taints.into_iter().map(|taint| (taint, since)).collect();
        let got = eviction_time(&from_value::<Vec<_>>(tolerations.clone()).unwrap(), &taints);
        assert_eq!(got.map(|due| due.duration_since(since).as_secs()), expected, "{tolerations}");
    }

    #[test]
    fn the_shortest_tolerated_time_counts() {
        check(json!([]), Some(0));
        check(json!([{ "operator": "Exists" }]), None);
        check(json!([{ "key": "a", "operator": "Exists" }]), Some(0));
        check(json!([{ "key": "a", "operator": "Exists" }, { "key": "b", "value": "x", "effect": "NoExecute" }]), None);
        check(json!([{ "key": "a", "operator": "Exists" }, { "key": "b", "value": "y" }]), Some(0));
        check(
            json!([{ "operator": "Exists", "tolerationSeconds": 300 }, { "key": "b", "operator": "Exists", "tolerationSeconds": 60 }]),
            Some(60),
        );
        check(json!([{ "operator": "Exists", "tolerationSeconds": -5 }]), Some(0));
        check(json!([{ "operator": "Exists", "effect": "NoSchedule" }]), Some(0));
    }
}
