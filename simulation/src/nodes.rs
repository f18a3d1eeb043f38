//! Hollow nodes: what the control plane sees of a kubelet. Each registers, renews its lease, makes the pods that are bound
//! to it run after a while, ends those that are told to go, and now and then fails one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Informer, Informers, clock, write};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, from_value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::dice::Dice;
use crate::history::History;
use crate::network::Network;
use crate::plan::Plan;
use crate::rules::gangs;

/// The room of every node.
pub(crate) const PROCESSORS: i64 = 4;
/// How often a node says that it lives.
const RENEW: Duration = Duration::from_secs(10);
/// After so long a node's question counts as not answered.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of a node.
pub(crate) fn name(number: usize) -> String {
    format!("node-{number}")
}

/// What all nodes share.
#[derive(Clone)]
pub(crate) struct Weather {
    /// Pods no longer fail.
    is_calm: Arc<AtomicBool>,
    failures: f64,
    gangs: Gangs,
}

/// The pods of each gang that have started.
type Gangs = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

impl Weather {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { is_calm: Arc::default(), failures: plan.pod_failures, gangs: Gangs::default() }
    }

    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// Whether a pod that has started may end: those of a gang work with each other.
    fn is_in_company(&self, pod: &Pod) -> bool {
        let Some((gang, least)) = gang_of(pod) else { return true };
        let mut gangs = self.gangs.lock().unwrap_or_else(PoisonError::into_inner);
        let started = gangs.entry(gang).or_default();
        started.extend(pod.uid());
        started.len() >= least
    }

    fn fails(&self, dice: &mut Dice) -> bool {
        !self.is_calm.load(Ordering::Relaxed) && dice.chance(self.failures)
    }
}

/// A node, for as long as it is not dropped.
pub(crate) struct HollowNode {
    _task: AbortOnDropHandle<()>,
}

impl HollowNode {
    /// Switches a node on: for the first time, or again.
    pub(crate) fn start(
        name: &str,
        life: u64,
        plan: &Plan,
        network: &Network,
        weather: &Weather,
        history: &History,
    ) -> Self {
        let dice = Dice::new(plan.seed.wrapping_add(life << 32), name);
        history.note(|| format!("{name} is switched on"));
        let node = Kubelet {
            name: name.to_owned(),
            client: network.client(name),
            dice,
            weather: weather.clone(),
            history: history.clone(),
            known: BTreeMap::new(),
        };
        Self { _task: AbortOnDropHandle::new(tokio::spawn(node.run())) }
    }
}

struct Kubelet {
    name: String,
    client: kube::Client,
    dice: Dice,
    weather: Weather,
    history: History,
    known: BTreeMap<String, Life>,
}

/// What a pod does next, and when.
#[derive(Clone, Debug)]
struct Life {
    next: Next,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Start,
    BecomeReady,
    Succeed,
    Fail,
    /// It goes on until it is told to go.
    Nothing,
    /// It says how it ended.
    Stop,
    /// It is gone.
    Vanish,
}

impl Kubelet {
    async fn run(mut self) {
        let informers = Informers::new(self.client.clone());
        let pods = informers.with_fields::<Pod>(&format!("spec.nodeName={}", self.name));
        let changed = Arc::new(Notify::new());
        let told = changed.clone();
        pods.on_event(move |_| told.notify_one());
        let driving = informers.clone();
        let _informers = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ended = driving.run(CancellationToken::new()).await;
        }));
        let alive = live(self.name.clone(), self.client.clone());
        let _alive = AbortOnDropHandle::new(tokio::spawn(alive));
        pods.synced().await;
        loop {
            let next = self.work(&pods).await;
            let wake = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                () = wake => {}
            }
        }
    }

    /// Does what is due, and says when the next is.
    async fn work(&mut self, pods: &Informer<Pod>) -> Option<Instant> {
        let mut pods = pods.list();
        pods.sort_by_key(|pod| pod.uid());
        let uids: BTreeSet<String> = pods.iter().filter_map(|pod| pod.uid()).collect();
        self.known.retain(|uid, _| uids.contains(uid));
        for pod in &pods {
            let life = self.life(pod);
            if life.at > Instant::now() {
                continue;
            }
            if life.next == Next::Succeed && !self.weather.is_in_company(pod) {
                let at = Instant::now() + Duration::from_secs(2);
                self.known.insert(pod.uid().unwrap_or_default(), Life { at, ..life });
                continue;
            }
            self.act(pod, life.next).await;
        }
        self.known.values().filter(|life| life.next != Next::Nothing).map(|life| life.at).min()
    }

    /// What this pod is up to.
    fn life(&mut self, pod: &Pod) -> Life {
        let uid = pod.uid().unwrap_or_default();
        let is_going = pod.metadata.deletion_timestamp.is_some();
        let now = Instant::now();
        let known = self.known.get(&uid).cloned();
        let next = match (&known, is_going) {
            (Some(life), false) if life.next == Next::Nothing && was_doubted(pod) => {
                Life { next: Next::BecomeReady, at: now + self.dice.millis(10..1_000) }
            }
            (Some(life), false) => return life.clone(),
            (Some(life), true) if matches!(life.next, Next::Stop | Next::Vanish) => return life.clone(),
            (_, true) => Life { next: Next::Stop, at: now + self.dice.millis(10..1500) },
            (None, false) => self.first(pod),
        };
        self.known.insert(uid, next.clone());
        next
    }

    /// What to do with a pod that was not known: it is new, or this node was switched off.
    fn first(&mut self, pod: &Pod) -> Life {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let next = match phase {
            "Succeeded" | "Failed" => Next::Nothing,
            _ => Next::Start,
        };
        Life { next, at: Instant::now() + self.dice.millis(50..2_000) }
    }

    async fn act(&mut self, pod: &Pod, next: Next) {
        let done = timeout(PATIENCE, self.tell(pod, next)).await;
        let uid = pod.uid().unwrap_or_default();
        let is_done = matches!(done, Ok(Ok(())));
        if let Ok(Err(err)) = &done {
            self.history.note(|| format!("{}: {next:?} of {}: {err}", self.name, pod.name_any()));
        }
        let then = if is_done {
            self.after(pod, next)
        } else {
            Life { next, at: Instant::now() + self.dice.millis(500..2_000) }
        };
        self.known.insert(uid, then);
    }

    /// What follows something that was done.
    fn after(&mut self, pod: &Pod, done: Next) -> Life {
        let ends =
            pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).is_some_and(|policy| policy != "Always");
        let fails = self.weather.fails(&mut self.dice);
        let (next, lasts) = match done {
            Next::Start if ends => (if fails { Next::Fail } else { Next::Succeed }, self.dice.millis(500..20_000)),
            Next::Start => (Next::BecomeReady, self.dice.millis(10..3_000)),
            Next::BecomeReady if fails => (Next::Fail, self.dice.millis(1_000..30_000)),
            Next::Stop => (Next::Vanish, Duration::ZERO),
            _ => (Next::Nothing, Duration::ZERO),
        };
        Life { next, at: Instant::now() + lasts }
    }

    async fn tell(&self, pod: &Pod, next: Next) -> kube::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let status = match next {
            Next::Nothing => return Ok(()),
            Next::Vanish => return vanish(&pods, pod).await,
            Next::Start => state(pod, "Running", false, &self.name),
            Next::BecomeReady => state(pod, "Running", true, &self.name),
            Next::Succeed => state(pod, "Succeeded", false, &self.name),
            Next::Fail => state(pod, "Failed", false, &self.name),
            Next::Stop => {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
                let ended = if matches!(phase, "Succeeded" | "Failed") { return Ok(()) } else { "Failed" };
                state(pod, ended, false, &self.name)
            }
        };
        let patch = json!({ "metadata": { "uid": pod.uid() }, "status": status });
        let outcome = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
        match outcome {
            // Another pod has its name by now: the next event tells.
            Err(err) if write::is_conflict(&err) || write::is_not_found(&err) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// Whether others say of a pod that goes on that it is not ready, as they do when they do not hear of its node.
fn was_doubted(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut conditions = status.conditions.iter().flatten();
    let goes_on = pod.spec.as_ref().is_some_and(|spec| spec.restart_policy.as_deref() == Some("Always"));
    goes_on
        && status.phase.as_deref() == Some("Running")
        && conditions.any(|one| one.type_ == "Ready" && one.status != "True")
}

fn gang_of(pod: &Pod) -> Option<(String, usize)> {
    let labels = pod.labels();
    let least = labels.get(gangs::LEAST)?.parse().ok()?;
    Some((format!("{}/{}", pod.namespace().unwrap_or_default(), labels.get(gangs::GROUP)?), least))
}

async fn vanish(pods: &Api<Pod>, pod: &Pod) -> kube::Result<()> {
    let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
    let params = DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
    match pods.delete(&pod.name_any(), &params).await {
        Err(err) if write::is_conflict(&err) || write::is_not_found(&err) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A pod's status as a kubelet tells it.
fn state(pod: &Pod, phase: &str, is_ready: bool, node: &str) -> Value {
    let now = stamp(clock::now());
    let is = |kind: &str, is: bool| json!({ "type": kind, "status": if is { "True" } else { "False" }, "lastTransitionTime": now });
    let container = match phase {
        "Running" => json!({ "running": { "startedAt": now } }),
        "Succeeded" => json!({ "terminated": { "exitCode": 0, "reason": "Completed", "finishedAt": now } }),
        _ => json!({ "terminated": { "exitCode": 1, "reason": "Error", "finishedAt": now } }),
    };
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let statuses: Vec<_> = containers
        .iter()
        .map(|one| {
            let (name, image) = (&one.name, one.image.as_deref().unwrap_or_default());
            json!({ "name": name, "image": image, "imageID": "", "ready": is_ready, "restartCount": 0, "state": container })
        })
        .collect();
    let mut status = json!({
        "phase": phase,
        "conditions": [is("Initialized", true), is("Ready", is_ready), is("ContainersReady", is_ready), is("PodScheduled", true)],
        "containerStatuses": statuses,
    });
    if phase == "Running" {
        let address = address(pod, node);
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{ "ip": address }]);
    }
    if pod.status.as_ref().is_none_or(|status| status.start_time.is_none()) {
        status["startTime"] = json!(now);
    }
    status
}

/// An address that no other pod has, most likely.
fn address(pod: &Pod, node: &str) -> String {
    let uid = pod.uid().unwrap_or_default();
    let mix = uid.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let number = node.bytes().last().unwrap_or(b'0') - b'0';
    format!("10.{}.{}.{}", 100 + number, mix >> 8 & 0xff, 1 + mix % 250)
}

fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Registers the node, and says that it lives, again and again.
async fn live(name: String, client: kube::Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    loop {
        let pause = match timeout(PATIENCE, renew(&name, &nodes, &leases)).await {
            Ok(Ok(())) => RENEW,
            _ => Duration::from_secs(2),
        };
        sleep(pause).await;
    }
}

async fn renew(name: &str, nodes: &Api<Node>, leases: &Api<Lease>) -> kube::Result<()> {
    register(name, nodes).await?;
    let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": clock::micro_time() });
    let patch = json!({ "spec": spec });
    match leases.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(err) if write::is_not_found(&err) => {
            let lease: Lease = from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a lease");
            leases.create(&PostParams::default(), &lease).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// Makes sure that the node is there and says that it is ready.
async fn register(name: &str, nodes: &Api<Node>) -> kube::Result<()> {
    let known = match nodes.get_opt(name).await? {
        Some(known) => known,
        None => {
            let labels = json!({ "kubernetes.io/hostname": name });
            let node = from_value(json!({ "metadata": { "name": name, "labels": labels } })).expect("a node");
            nodes.create(&PostParams::default(), &node).await?
        }
    };
    let conditions = known.status.and_then(|status| status.conditions).unwrap_or_default();
    if conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True") {
        return Ok(());
    }
    let now = stamp(clock::now());
    let room = json!({ "cpu": PROCESSORS.to_string(), "memory": "8Gi", "pods": "110" });
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    let status = json!({ "capacity": room, "allocatable": room, "conditions": [condition] });
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(json!({ "status": status }))).await.map(|_| ())
}
