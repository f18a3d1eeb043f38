//! The pods of other nodes: routes to each node's range of pods, through a tunnel where a node is on no link of this one
//! (upstream: flannel's backends host-gw and vxlan, and the route controller of cloud providers).
//!
//! Invariant: a Node object can cost nobody but its own pods their traffic.
//!
//! ```text
//! informer of Nodes -> plan (doubts them) -> the way to each (asked of the kernel) -> routes, tunnel, neighbours
//! ```
//! Nothing runs while no Node changes its range or address and nobody takes a route away.
#![forbid(unsafe_code)]

mod command;
mod config;
mod kernel;
mod plan;
mod sync;

pub use command::Command;
pub use config::{Args, Config, TUNNEL_PORT};

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use client::{Event, Informer, Informers, ObjectKey, Recorder, events};
use host::nft::Family;
use host::{Claim, ClaimError, LinkWatch, Resource};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::kernel::Kernel;
use crate::plan::{Peer, Refusal};

/// Waits after a failure, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Wait after something was taken away: whoever takes one thing often takes another.
const REPAIR: Duration = Duration::from_millis(200);

/// Why the routes cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open netlink")]
    Open(#[source] std::io::Error),
    #[error("{verb}")]
    Netlink {
        verb: &'static str,
        #[source]
        source: rtnetlink::Error,
    },
    /// Somebody else's interface has the tunnel's name.
    #[error("interface {name} was made by somebody else")]
    Foreign { name: String },
    #[error("interface {name} did not appear")]
    Missing { name: String },
    /// Another process works with the tunnel's name.
    #[error("use the interface of --tunnel")]
    Claim(#[from] ClaimError),
    #[error("hear of changes of links")]
    Watch(#[source] std::io::Error),
    /// One of its tasks ended before it was asked to.
    #[error("{0:#}")]
    Task(anyhow::Error),
}

/// Keeps the routes until shutdown. They stay when it ends, so that a restart cuts no connection; [`cleanup`] removes them.
pub async fn run(config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    let claim = claim(&config)?;
    let informers = Informers::new(client.clone());
    let recorder = Recorder::new(client, "network").on_host(&config.node_name);
    let (nodes, changed) = watch_nodes(&informers);
    let links = LinkWatch::new().map_err(Error::Watch)?;
    let keeper = Keeper { nodes, changed, links, recorder: recorder.clone(), ready: process.ready.clone(), config };
    let mut tasks = daemon::Supervisor::new(process.shutdown.clone());
    tasks.add("informers", move |shutdown| async move { informers.run(shutdown).await });
    tasks.add("events", move |shutdown| async move {
        recorder.run(shutdown).await;
        Ok::<_, Infallible>(())
    });
    tasks.add("routes", move |shutdown| keeper.run(claim, shutdown));
    tasks.run().await.map_err(Error::Task)
}

/// Removes the routes and the tunnel, unless another process keeps them.
pub async fn cleanup(config: &Config) -> Result<(), Error> {
    let _claim = claim(config)?;
    let kernel = Kernel::open()?;
    for family in config.families() {
        for (_, message) in kernel.routes(config, family).await?.into_values() {
            kernel.remove_route(message).await?;
        }
    }
    for tunnel in config.tunnels() {
        kernel.remove_tunnel(&tunnel).await?;
    }
    Ok(())
}

fn claim(config: &Config) -> Result<Claim, ClaimError> {
    Claim::take(config.tunnels().map(Resource::Interface).to_vec())
}

/// All Nodes, with what routes are made of and nothing else.
fn watch_nodes(informers: &Informers) -> (Informer<Node>, Arc<Notify>) {
    let nodes = informers.of::<Node>();
    nodes.set_transform(reduce);
    let changed = Arc::new(Notify::new());
    let notify = Arc::clone(&changed);
    nodes.on_event(move |event| match event {
        Event::Applied { old: Some(old), new } if old.spec == new.spec && old.status == new.status => {}
        _ => notify.notify_one(),
    });
    (nodes, changed)
}

fn reduce(node: &mut Node) {
    (node.metadata.labels, node.metadata.annotations) = (None, None);
    node.spec = node.spec.take().map(|spec| NodeSpec {
        pod_cidr: spec.pod_cidr,
        pod_cidrs: spec.pod_cidrs,
        ..NodeSpec::default()
    });
    let addresses = node.status.take().and_then(|status| status.addresses);
    node.status = Some(NodeStatus { addresses, ..NodeStatus::default() });
}

/// Why nodes are refused, in which family.
type Refused = BTreeMap<(String, Family), Refusal>;

/// What a round over all families came to.
#[derive(Default)]
struct Round {
    peers: Vec<Peer>,
    refused: Refused,
    /// The links that carry the routes.
    links: Vec<u32>,
}

/// Keeps the kernel's routes as the Nodes say.
struct Keeper {
    config: Config,
    nodes: Informer<Node>,
    changed: Arc<Notify>,
    links: LinkWatch,
    recorder: Recorder,
    ready: daemon::Ready,
}

impl Keeper {
    async fn run(self, _claim: Claim, shutdown: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = self.nodes.synced() => {}
        }
        let mut before = Round::default();
        let mut wait = RETRY.0;
        loop {
            let (links, pause) = match self.sync(&before.peers).await {
                Ok(round) => {
                    self.tell(&round.refused, &before.refused);
                    if round.peers != before.peers {
                        info!(nodes = round.peers.len(), "routes to the pods of other nodes are there");
                    }
                    let links = round.links.clone();
                    before = round;
                    wait = RETRY.0;
                    self.ready.set();
                    (links, None)
                }
                Err(err) => {
                    self.ready.lost("the kernel refuses routes to other nodes");
                    warn!(error = &err as &dyn std::error::Error, retry_in = ?wait, "routes to other nodes are not there");
                    let pause = wait;
                    wait = (wait * 2).min(RETRY.1);
                    // Nothing is known any more of what is there.
                    before.peers.clear();
                    (Vec::new(), Some(pause))
                }
            };
            // What this did itself is no news.
            self.links.any_harmed(&links).map_err(Error::Watch)?;
            if !self.wait(&links, pause, &shutdown).await? {
                return Ok(());
            }
        }
    }

    async fn sync(&self, before: &[Peer]) -> Result<Round, Error> {
        let (kernel, nodes, mut round) = (Kernel::open()?, self.nodes.list(), Round::default());
        for family in self.config.families() {
            let plan = plan::plan(&self.config, family, &nodes, before);
            let synced = sync::sync(&kernel, &self.config, family, plan).await?;
            round.peers.extend(synced.peers);
            round.links.extend(synced.links);
            round.refused.extend(synced.refused.into_iter().map(|(node, refusal)| ((node, family), refusal)));
        }
        Ok(round)
    }

    /// Waits for something to do, or until it is time to try again; false when it is time to end.
    async fn wait(&self, links: &[u32], pause: Option<Duration>, shutdown: &CancellationToken) -> Result<bool, Error> {
        let timer = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(timer);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(false),
                () = &mut timer => return Ok(true),
                () = self.changed.notified() => return Ok(true),
                heard = self.links.readable() => heard.map_err(Error::Watch)?,
            }
            if self.links.any_harmed(links).map_err(Error::Watch)? {
                warn!("routes to other nodes, or their link, were changed from outside: they are made again");
                tokio::time::sleep(REPAIR).await;
                return Ok(true);
            }
        }
    }

    /// An event for each Node that is refused for a reason which is new.
    fn tell(&self, refused: &Refused, told: &Refused) {
        for ((name, _), refusal) in refused.iter().filter(|(who, refusal)| told.get(*who) != Some(refusal)) {
            warn!(node = name, why = %refusal, "its pods are not reached");
            let Some(node) = self.nodes.get(&ObjectKey::cluster(name)) else { continue };
            let message = format!("Pods of node {name} are not reached from node {}: {refusal}", self.config.node_name);
            self.recorder.warning(events::about(&*node), "PodNetworkRefused", message);
        }
    }
}
