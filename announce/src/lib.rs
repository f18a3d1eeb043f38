//! Addresses of load balancers on the link: one node answers for each, so that everybody near finds it (upstream: MetalLB's
//! layer 2 mode, kube-vip).
//!
//! Invariant: nothing is announced but addresses of the pool that lie in a subnet of the node's link and are nobody's.
//!
//! ```text
//! Nodes, Services, EndpointSlices -> election (pure) -> standing (pure, with time) -> ARP and NDP on the link
//! ```
//! What comes to such an address is the Service's by the rules of the proxy. EndpointSlices are watched only while a Service
//! asks that nodes with endpoints answer, and nothing ticks while this node is the first in line for all it looks after.
#![forbid(unsafe_code)]

mod command;
mod config;
mod election;
mod frames;
mod links;
mod speaker;
mod standing;

pub use command::Command;
pub use config::{Args, Config};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Event, Informer, Informers};
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::election::Known;
use crate::links::Links;
use crate::speaker::Speaker;
use crate::standing::Standings;

/// How often those who wait in line ask.
const TICK: Duration = Duration::from_secs(1);
/// Wait before a link is looked at again that could not be spoken on.
const RETRY: Duration = Duration::from_secs(5);

/// Why nothing is announced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("watch Nodes, Services and EndpointSlices")]
    Informers(#[from] client::InformerStopped),
    #[error("open netlink")]
    Open(#[source] std::io::Error),
    #[error("look at links and addresses")]
    Netlink(#[source] rtnetlink::Error),
    #[error("speak on a link (needs root)")]
    Speak(#[source] std::io::Error),
}

/// Announces addresses until shutdown.
pub async fn run(config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    let informers = Informers::new(client.clone());
    let changed = Arc::new(Notify::new());
    let nodes = informers.of::<Node>();
    nodes.set_transform(reduce_node);
    follow(&nodes, &changed, |node| (node.metadata.labels.clone(), node.status.clone()));
    let services = informers.with_fields::<Service>("spec.type=LoadBalancer");
    services.set_transform(reduce_service);
    follow(&services, &changed, |service| (service.spec.clone(), service.status.clone()));
    let standings = Standings::default();
    let (speakers, told) = (Vec::new(), BTreeSet::new());
    let mut announcer = Announcer { config, client, nodes, services, changed, standings, speakers, told, process };
    let shutdown = announcer.process.shutdown.clone();
    informers.beside(&shutdown, announcer.run()).await?.unwrap_or(Ok(()))
}

/// Hears of changes of what matters of a kind.
fn follow<K: client::Watchable, T: PartialEq>(
    informer: &Informer<K>,
    changed: &Arc<Notify>,
    matters: impl Fn(&K) -> T + Send + Sync + 'static,
) {
    let notify = Arc::clone(changed);
    informer.on_event(move |event| match event {
        Event::Applied { old: Some(old), new } if matters(old) == matters(new) => {}
        _ => notify.notify_one(),
    });
}

fn reduce_node(node: &mut Node) {
    (node.metadata.annotations, node.metadata.managed_fields, node.spec) = (None, None, None);
    let status = node.status.take().unwrap_or_default();
    let plain = |condition: NodeCondition| NodeCondition {
        type_: condition.type_,
        status: condition.status,
        ..NodeCondition::default()
    };
    let ready = status.conditions.into_iter().flatten().filter(|condition| condition.type_ == "Ready");
    let conditions = Some(ready.map(plain).collect());
    node.status = Some(NodeStatus { addresses: status.addresses, conditions, ..NodeStatus::default() });
}

fn reduce_service(service: &mut Service) {
    (service.metadata.labels, service.metadata.annotations, service.metadata.managed_fields) = (None, None, None);
    service.spec = service.spec.take().map(|spec| ServiceSpec {
        type_: spec.type_,
        load_balancer_class: spec.load_balancer_class,
        external_traffic_policy: spec.external_traffic_policy,
        ..ServiceSpec::default()
    });
}

struct Announcer {
    config: Config,
    client: kube::Client,
    nodes: Informer<Node>,
    services: Informer<Service>,
    changed: Arc<Notify>,
    standings: Standings,
    speakers: Vec<Speaker>,
    /// What was said of the standings last.
    told: BTreeSet<IpAddr>,
    process: daemon::Process,
}

/// Why a while has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Shutdown,
    /// Endpoints matter now, or do no longer.
    Sources,
}

impl Announcer {
    async fn run(&mut self) -> Result<(), Error> {
        let shutdown = self.process.shutdown.clone();
        loop {
            let ended = if self.asks_for_endpoints() {
                let informers = Informers::new(self.client.clone());
                let slices = informers.of::<EndpointSlice>();
                follow(&slices, &self.changed, |slice| slice.endpoints.clone());
                match informers.beside(&shutdown, self.announce(Some(&slices))).await? {
                    Some(ended) => ended?,
                    None => Ended::Shutdown,
                }
            } else {
                self.announce(None).await?
            };
            if ended == Ended::Shutdown {
                return Ok(());
            }
        }
    }

    fn asks_for_endpoints(&self) -> bool {
        self.services.list().iter().any(|service| election::is_local(service))
    }

    /// Announces for as long as the same sources matter.
    async fn announce(&mut self, slices: Option<&Informer<EndpointSlice>>) -> Result<Ended, Error> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.asks_for_endpoints() != slices.is_some() {
                return Ok(Ended::Sources);
            }
            let retry = self.decide(slices).await;
            self.process.ready.set();
            if !self.speak(&mut ticks, retry).await {
                return Ok(Ended::Shutdown);
            }
        }
    }

    /// Decides anew; how long until that is to be tried again, if it must be.
    async fn decide(&mut self, slices: Option<&Informer<EndpointSlice>>) -> Option<Duration> {
        let known = Known {
            nodes: self.nodes.list(),
            services: self.services.list(),
            slices: slices.map(Informer::list).unwrap_or_default(),
        };
        let mut places = election::places(&self.config.node_name, &self.config.pool, &known);
        if places.is_empty() {
            // No socket is open for nothing.
            self.speakers.clear();
            self.standings.set(&places);
            self.tell();
            return None;
        }
        let retry = match self.places_on_links(&mut places).await {
            Ok(()) => None,
            Err(err) => {
                warn!(error = &err as &dyn std::error::Error, retry_in = ?RETRY, "load balancers are not announced");
                self.speakers.clear();
                places.clear();
                Some(RETRY)
            }
        };
        self.standings.set(&places);
        self.tell();
        retry
    }

    /// Leaves the addresses that have a link here, and opens what is needed to speak there.
    async fn places_on_links(&mut self, places: &mut BTreeMap<IpAddr, usize>) -> Result<(), Error> {
        let links = Links::read(&self.config.node_ips).await?;
        places.retain(|address, _| links.of(*address).is_some());
        self.speakers.retain(|speaker| links.links.contains(speaker.link()));
        for link in &links.links {
            let of_link = places.keys().copied().filter(|address| links.of(*address) == Some(link));
            let at = match self.speakers.iter().position(|speaker| speaker.link() == link) {
                Some(at) => at,
                None if of_link.clone().next().is_none() => continue,
                None => {
                    self.speakers.push(Speaker::open(link.clone()).map_err(Error::Speak)?);
                    self.speakers.len() - 1
                }
            };
            self.speakers[at].hear_of(of_link).map_err(Error::Speak)?;
        }
        Ok(())
    }

    /// Speaks until something has changed; false when it is time to end.
    async fn speak(&mut self, ticks: &mut tokio::time::Interval, retry: Option<Duration>) -> bool {
        let again = async {
            match retry {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = self.process.shutdown.cancelled() => return false,
                () = self.changed.notified() => return true,
                () = &mut again => return true,
                _ = ticks.tick(), if self.standings.needs_time() => self.tick(),
                (at, heard) = heard(&self.speakers) => {
                    if let Err(err) = heard.and_then(|()| self.listen(at)) {
                        warn!(error = &err as &dyn std::error::Error, "a link is opened anew");
                        self.speakers.remove(at);
                        tokio::time::sleep(TICK).await;
                        return true;
                    }
                }
            }
        }
    }

    fn tick(&mut self) {
        for what in self.standings.tick() {
            let speakers = self.speakers.iter().filter(|speaker| speaker.is_link_of(what.address()));
            speakers.for_each(|speaker| speaker.send(what));
        }
        self.tell();
    }

    fn listen(&mut self, at: usize) -> std::io::Result<()> {
        let heard = self.speakers[at].listen(&self.standings)?;
        if heard.into_iter().any(|address| self.standings.heard(address)) {
            self.tell();
        }
        Ok(())
    }

    /// Says for which addresses this node answers, when that is news.
    fn tell(&mut self) {
        let now: BTreeSet<IpAddr> =
            self.standings.addresses().filter(|address| self.standings.answers(*address)).collect();
        for address in now.difference(&self.told) {
            info!(%address, "this node answers for a load balancer");
        }
        for address in self.told.difference(&now) {
            info!(%address, "this node no longer answers for a load balancer");
        }
        self.told = now;
    }
}

/// Waits until something is heard on a link, and says on which.
async fn heard(speakers: &[Speaker]) -> (usize, std::io::Result<()>) {
    if speakers.is_empty() {
        std::future::pending::<()>().await;
    }
    let waits = speakers.iter().map(|speaker| Box::pin(speaker.readable()));
    let (heard, at, _) = futures::future::select_all(waits).await;
    (at, heard)
}
