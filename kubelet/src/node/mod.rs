//! This node's own object: registration, status and lease (upstream: pkg/kubelet/kubelet_node_status.go and
//! component-helpers/apimachinery/lease).
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::ending::Limits;

pub mod machine;
mod status;

/// A request to the API server that takes longer has failed.
const LATE: Duration = Duration::from_secs(10);
const LEASES: &str = "kube-node-lease";
/// On a node: its volumes are attached by a controller, and the kubelet waits for that.
const MANAGED: (&str, &str) = ("volumes.kubernetes.io/controller-managed-attach-detach", "true");
/// First and longest pause between attempts to register.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the node says of itself when it registers.
#[derive(Clone, Debug, Default)]
pub struct Registration {
    /// Whether to register at all; else the object must exist.
    pub register: bool,
    /// Labels beside the standard ones.
    pub labels: BTreeMap<String, String>,
    /// Taints of a new node.
    pub taints: Vec<Taint>,
    /// Pods the node takes.
    pub max_pods: usize,
    /// What the node has instead of what its machine has, by resource.
    pub capacity: BTreeMap<String, String>,
    /// What pods cannot have, by resource.
    pub reserved: BTreeMap<String, String>,
    /// Port of the kubelet's server, 0 if there is none.
    pub port: i32,
    /// A fixed pod CIDR, or one of each family with a comma, instead of those the cluster assigns.
    pub pod_cidr: Option<String>,
    /// What a cloud calls the node.
    pub provider_id: Option<String>,
}

/// Keeps the node's object and lease.
pub(crate) struct NodeKeeper {
    context: Arc<Context>,
    registration: Registration,
    network: watch::Sender<bool>,
    changed: Arc<Notify>,
    /// `None` before pods can be connected.
    pod_cidrs: Option<Vec<String>>,
    /// Why they cannot, if that was tried.
    unconnected: Option<String>,
    reported: Option<(NodeStatus, Instant)>,
    /// Says when the node's pods are to end with it.
    ending: watch::Receiver<Option<Limits>>,
}

/// A request that is not answered in time has failed: lease and status must not wait for it.
async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_| kube::Error::Service("the API server did not answer in time".into());
    tokio::time::timeout(LATE, request).await.map_err(late)?
}

impl NodeKeeper {
    /// `network` becomes true once the runtime has the pod CIDR; `ending` says when the node's pods are to end with it.
    pub(crate) fn new(
        context: Arc<Context>,
        registration: Registration,
        network: watch::Sender<bool>,
        ending: watch::Receiver<Option<Limits>>,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        context.node.on_event(move |_| notify.notify_one());
        Self { context, registration, network, changed, pod_cidrs: None, unconnected: None, reported: None, ending }
    }

    /// Registers, then keeps status and lease until `shutdown`.
    pub(crate) async fn run(mut self, registered: watch::Sender<bool>, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = self.register() => {}
        }
        registered.send_replace(true);
        let mut heartbeat = tokio::time::interval(self.context.tuning.heartbeat);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pressure = self.context.pressure.subscribe();
        let mut in_use = self.context.csi.mounts.in_use();
        let mut ending = self.ending.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = heartbeat.tick() => {
                    self.set_network().await;
                    self.report().await;
                    if let Err(err) = in_time(self.renew()).await {
                        warn!(error = &err as &dyn std::error::Error, "cannot renew the node's lease");
                    }
                }
                // Nothing more is to be bound to it.
                Ok(()) = ending.changed() => self.report().await,
                Ok(()) = pressure.changed() => self.report().await,
                // Nothing is mounted that a controller could detach before it has heard of it.
                Ok(()) = in_use.changed() => self.report().await,
                () = self.changed.notified() => {
                    if self.set_network().await || self.is_overruled() {
                        self.report().await;
                    }
                }
            }
        }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }

    async fn register(&mut self) {
        let mut pause = RETRY.0;
        while let Err(err) = in_time(self.try_register()).await {
            warn!(
                node = self.context.node_name,
                error = &err as &dyn std::error::Error,
                "cannot register the node yet"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
        info!(node = self.context.node_name, "registered");
    }

    async fn try_register(&mut self) -> kube::Result<()> {
        if !self.registration.register {
            return self.nodes().get(&self.context.node_name).await.map(drop);
        }
        let status = self.status(None).await;
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.context.node_name.clone()),
                labels: Some(self.labels()),
                annotations: Some(BTreeMap::from([(MANAGED.0.to_owned(), MANAGED.1.to_owned())])),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                taints: (!self.registration.taints.is_empty()).then(|| self.registration.taints.clone()),
                provider_id: self.registration.provider_id.clone(),
                ..NodeSpec::default()
            }),
            status: Some(status),
        };
        match self.nodes().create(&PostParams::default(), &node).await {
            Ok(_) => Ok(()),
            Err(err) if client::write::is_already_exists(&err) => self.update_metadata().await,
            Err(err) => Err(err),
        }
    }

    /// Brings the labels and annotations that this node defines up to date; others, taints and `unschedulable` stay as
    /// they are.
    async fn update_metadata(&self) -> kube::Result<()> {
        let node = self.nodes().get(&self.context.node_name).await?;
        let existing = node.metadata.labels.unwrap_or_default();
        let is_managed =
            node.metadata.annotations.is_some_and(|all| all.get(MANAGED.0).is_some_and(|is| is == MANAGED.1));
        let wanted = self.labels();
        if is_managed && wanted.iter().all(|(key, value)| existing.get(key) == Some(value)) {
            return Ok(());
        }
        let metadata = json!({ "labels": wanted, "annotations": { MANAGED.0: MANAGED.1 } });
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        self.nodes().patch(&self.context.node_name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.registration.labels.clone();
        let mut set = |key: &str, value: &str| {
            labels.insert(key.to_owned(), value.to_owned());
        };
        set("kubernetes.io/hostname", &self.context.node_name);
        set("kubernetes.io/os", "linux");
        set("kubernetes.io/arch", machine::architecture());
        set("beta.kubernetes.io/os", "linux");
        set("beta.kubernetes.io/arch", machine::architecture());
        labels
    }

    /// Tells the runtime the pod CIDR when it becomes known; says whether something changed.
    async fn set_network(&mut self) -> bool {
        let cidrs = match &self.registration.pod_cidr {
            Some(given) => given.split(',').map(|cidr| cidr.trim().to_owned()).collect(),
            None => self.context.node().map(|node| assigned(&node)).unwrap_or_default(),
        };
        let runtime = &self.context.runtime;
        if (cidrs.is_empty() && runtime.needs_pod_cidrs()) || self.pod_cidrs.as_ref() == Some(&cidrs) {
            return false;
        }
        match runtime.set_pod_cidrs(&cidrs).await {
            Ok(()) => {
                info!(?cidrs, "pod network is ready");
                (self.pod_cidrs, self.unconnected) = (Some(cidrs), None);
                self.network.send_replace(true);
            }
            Err(err) => {
                warn!(?cidrs, error = &err as &dyn std::error::Error, "cannot set up the pod network");
                self.unconnected = Some(crate::failure::chain(&err));
            }
        }
        true
    }

    /// Whether somebody else has written a condition of this node since the last report: it was taken for lost.
    fn is_overruled(&self) -> bool {
        let known = self.context.node();
        let known = known.as_deref().and_then(|node| node.status.as_ref());
        let reported = self.reported.as_ref();
        known.zip(reported).is_some_and(|(known, (reported, _))| !status::shows(known, reported))
    }

    /// Writes the status when it changed, when somebody else did, or when the last report is old.
    async fn report(&mut self) {
        let known = self.context.node();
        let status = self.status(known.as_deref().and_then(|node| node.status.as_ref())).await;
        let due = match &self.reported {
            Some((last, at)) => {
                !status::same(last, &status) || self.is_overruled() || at.elapsed() >= self.context.tuning.report
            }
            None => true,
        };
        if !due {
            return;
        }
        let body = status::patch(&status);
        let (nodes, parameters, patch) = (self.nodes(), PatchParams::default(), Patch::Strategic(body));
        match in_time(nodes.patch_status(&self.context.node_name, &parameters, &patch)).await {
            Ok(_) => self.reported = Some((status, Instant::now())),
            Err(err) if client::write::is_not_found(&err) => self.register().await,
            Err(err) => warn!(error = &err as &dyn std::error::Error, "cannot write the node's status"),
        }
    }

    async fn renew(&self) -> kube::Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.context.client.clone(), LEASES);
        let now = client::clock::micro_time();
        let patch = Patch::Merge(json!({ "spec": { "renewTime": now } }));
        let renewed = leases.patch(&self.context.node_name, &PatchParams::default(), &patch).await;
        match renewed {
            Err(err) if client::write::is_not_found(&err) => {}
            renewed => return renewed.map(drop),
        }
        let owner = self.context.node().map(|node| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.context.node_name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.context.node_name.clone()),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.context.node_name.clone()),
                lease_duration_seconds: Some(self.context.tuning.lease_seconds),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        leases.create(&PostParams::default(), &lease).await.map(drop)
    }
}

/// The ranges of pods that the cluster gave the node.
fn assigned(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    match &spec.pod_cidrs {
        Some(cidrs) if !cidrs.is_empty() => cidrs.clone(),
        _ => spec.pod_cidr.iter().filter(|cidr| !cidr.is_empty()).cloned().collect(),
    }
}
