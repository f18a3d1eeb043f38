//! Notices nodes that fell silent, and taints nodes by their conditions (upstream: `pkg/controller/nodelifecycle`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Event, Informer, ObjectKey, Recorder, Selection, WorkQueue, clock, events, write};
use facts::nodes;
use facts::pods;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;

use super::monitor::Monitor;
use super::{BY_NODE, add_nodes};
use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "node-lifecycle-controller",
    aliases: &["nodelifecycle"],
    start: |start| {
        let later = start.config.tuning.node_monitor_grace_period;
        let grace = Grace { startup: start.config.tuning.node_startup_grace_period.max(later), later };
        start.drive("node-lifecycle", NodeHealth::new(start.context, grace), start.config.tuning.concurrent_syncs)
    },
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The conditions a kubelet reports, which are unknown when it is silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The taints this controller manages; it leaves all others alone.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(crate) struct NodeHealth {
    client: kube::Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    recorder: Recorder,
    grace: Grace,
    heard: Heard,
    monitor: Monitor,
}

/// How long a node may be silent before it is unhealthy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grace {
    /// Until it has said for the first time whether it is ready.
    pub(crate) startup: Duration,
    pub(crate) later: Duration,
}

/// When each node was last heard of, by this process's clock: the clocks of nodes are not trusted.
type Heard = Arc<Mutex<HashMap<String, Instant>>>;

impl NodeHealth {
    pub(crate) fn new(context: &Context, grace: Grace) -> (Self, WorkQueue<ObjectKey>) {
        let (queue, heard) = (WorkQueue::new(), Heard::default());
        let nodes = context.informers.of::<Node>();
        let (changed, seen, all) = (queue.clone(), Arc::clone(&heard), nodes.clone());
        nodes.on_event(move |event| {
            note(&seen, event);
            changed.add(event.key());
            if changes_readiness(event) {
                // Whether any node is ready decides what happens to the others.
                all.list().iter().for_each(|node| changed.add(ObjectKey::of(&**node)));
            }
        });
        let of_nodes = Selection { fields: Some("metadata.namespace=kube-node-lease".to_owned()), labels: None };
        let seen = Arc::clone(&heard);
        context.informers.select::<Lease>(of_nodes).on_event(move |event| {
            // The next look is scheduled anyway; a renewal only moves it.
            if let Event::Applied { .. } = event {
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(event.key().name, Instant::now());
            }
        });
        let pods = context.informers.of::<Pod>();
        add_nodes(&pods);
        let recorder = context.recorder.for_component("node-controller");
        let monitor = Monitor::new(&context.metrics, nodes.clone());
        (Self { client: context.client.clone(), nodes, pods, recorder, grace, heard, monitor }, queue)
    }

    /// How long the node has been silent.
    fn silence(&self, name: &str) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        heard.map_or(Duration::ZERO, |at| at.elapsed())
    }

    async fn mark_silent(&self, node: &Node) -> Result<Node, Failure> {
        let mut changed = node.clone();
        let status = changed.status.get_or_insert_default();
        status.conditions = Some(silent_conditions(status.conditions.take().unwrap_or_default(), node, clock::now()));
        let name = meta::name(&node.metadata);
        let message = format!("Node {name} status is now: NodeNotReady");
        self.recorder.normal(events::about(node), "NodeNotReady", message);
        let api: Api<Node> = Api::all(self.client.clone());
        Ok(api.replace_status(name, &PostParams::default(), &changed).await?)
    }

    /// Services must not send traffic to the pods of a node that is not ready.
    async fn mark_pods(&self, name: &str) -> Result<(), Failure> {
        for pod in self.pods.by_index(BY_NODE, name).iter().filter(|pod| pods::is_ready(pod)) {
            let ready = json!({ "type": "Ready", "status": "False", "lastTransitionTime": clock::time() });
            let change = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [ready] } });
            let api: Api<Pod> = Api::namespaced(self.client.clone(), meta::namespace(&pod.metadata));
            let patched =
                api.patch_status(meta::name(&pod.metadata), &PatchParams::default(), &Patch::Strategic(change)).await;
            match patched {
                Err(err) if write::is_not_found(&err) || write::is_conflict(&err) => {}
                outcome => drop(outcome?),
            }
            self.recorder.warning(events::about(&**pod), "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    async fn set_taints(&self, node: &Node, taints: Vec<Taint>) -> Result<(), Failure> {
        let change = json!({
            "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints },
        });
        let api: Api<Node> = Api::all(self.client.clone());
        let name = meta::name(&node.metadata);
        write::ignore_not_found(api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await)?;
        Ok(())
    }
}

impl Controller for NodeHealth {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(node) = self.nodes.get(&key) else {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.name);
            return Ok(None);
        };
        let began = Instant::now();
        let grace = if ready(&node).is_none() { self.grace.startup } else { self.grace.later };
        let silence = self.silence(&key.name);
        let mut node = (*node).clone();
        if silence >= grace && ready(&node) != Some("Unknown") {
            node = self.mark_silent(&node).await?;
        }
        if matches!(ready(&node), Some("False" | "Unknown")) {
            self.mark_pods(&key.name).await?;
        }
        let any_ready = self.nodes.has_any(|node| ready(node) == Some("True"));
        let known = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let wanted = taints(&node, any_ready, clock::now());
        if wanted != known {
            let evicts = begins_to_evict(&known, &wanted);
            self.set_taints(&node, wanted).await?;
            if evicts {
                self.monitor.evicts(&node);
            }
        }
        self.monitor.time.observe(began.elapsed().as_secs_f64());
        let is_lost = silence >= grace;
        Ok((!is_lost).then(|| grace - silence + Duration::from_millis(10)))
    }
}

/// Whether a taint for the node's condition comes that pods have to go for.
fn begins_to_evict(known: &[Taint], wanted: &[Taint]) -> bool {
    let evicts = |taint: &&Taint| taint.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    wanted.iter().any(|taint| evicts(&taint)) && !known.iter().any(|taint| evicts(&taint))
}

fn note(heard: &Heard, event: &Event<Node>) {
    let beat = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let beats = conditions.into_iter().flatten().map(|known| known.last_heartbeat_time.as_ref().map(|time| time.0));
        beats.max().flatten()
    };
    let Event::Applied { old, new } = event else { return };
    let is_beat = old.as_ref().is_none_or(|old| beat(old) != beat(new));
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let name = meta::name(&new.metadata);
    if is_beat || !heard.contains_key(name) {
        heard.insert(name.to_owned(), Instant::now());
    }
}

fn changes_readiness(event: &Event<Node>) -> bool {
    match event {
        Event::Applied { old, new } => old.as_ref().and_then(|old| ready(old)) != ready(new),
        Event::Deleted(_) => true,
    }
}

/// The status of the `Ready` condition.
pub(crate) fn ready(node: &Node) -> Option<&str> {
    nodes::condition(node, "Ready").map(|ready| ready.status.as_str())
}

/// The conditions of a node that nobody has heard of for too long.
fn silent_conditions(mut all: Vec<NodeCondition>, node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    for kind in REPORTED {
        match all.iter_mut().find(|known| known.type_ == kind) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("Kubelet stopped posting node status.".to_owned());
                known.last_transition_time = Some(Time(now));
            }
            None => all.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    all
}

/// The taints a node should have: its own, and those its conditions call for. When not a single node is ready, the fault
/// is more likely on this side: then nothing is evicted.
fn taints(node: &Node, any_ready: bool, now: Timestamp) -> Vec<Taint> {
    let known = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = CONDITION_TAINTS
        .iter()
        .filter(|(kind, status, _)| nodes::condition(node, kind).is_some_and(|known| known.status == *status))
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    match ready(node) {
        Some("False") if any_ready => wanted.push((NOT_READY, "NoExecute")),
        Some("Unknown") if any_ready => wanted.push((UNREACHABLE, "NoExecute")),
        _ => {}
    }
    // A node that never reported keeps the taint it registered with.
    let is_unreported = ready(node).is_none();
    let is_managed = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" => {
            let is_condition = CONDITION_TAINTS.iter().any(|(_, _, key)| *key == taint.key);
            (is_condition && !is_unreported) || taint.key == UNSCHEDULABLE
        }
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = known.into_iter().filter(|taint| !is_managed(taint) || is_wanted(taint)).collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    taints
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn node(conditions: &Value, taints: &Value) -> Node {
        from_value(json!({
            "metadata": { "name": "n" }, "spec": { "taints": taints }, "status": { "conditions": conditions },
        }))
        .unwrap()
    }

    fn check(conditions: Value, known: Value, any_ready: bool, expected: &[(&str, &str)]) {
        let got = taints(&node(&conditions, &known), any_ready, now());
        let got: Vec<_> = got.iter().map(|taint| (taint.key.as_str(), taint.effect.as_str())).collect();
        assert_eq!(got, expected, "{conditions}");
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let ready = |status: &str| json!([{ "type": "Ready", "status": status }]);
        let own = json!([{ "key": "own", "effect": "NoExecute" }]);
        check(ready("True"), own.clone(), true, &[("own", "NoExecute")]);
        check(ready("False"), own, true, &[("own", "NoExecute"), (NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]);
        check(ready("Unknown"), json!([]), true, &[(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]);
        check(ready("Unknown"), json!([]), false, &[(UNREACHABLE, "NoSchedule")]);
        let registered = json!([{ "key": NOT_READY, "effect": "NoSchedule" }]);
        check(json!([]), registered.clone(), true, &[(NOT_READY, "NoSchedule")]);
        check(ready("True"), registered, true, &[]);
        check(
            json!([{ "type": "Ready", "status": "True" }, { "type": "DiskPressure", "status": "True" }]),
            json!([]),
            true,
            &[("node.kubernetes.io/disk-pressure", "NoSchedule")],
        );
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_that_its_kubelet_reports() {
        let known = node(&json!([{ "type": "Ready", "status": "True" }]), &json!([]));
        let conditions = silent_conditions(known.status.clone().unwrap().conditions.unwrap(), &known, now());
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
    }
}
