//! The Service proxy: Services and EndpointSlices to nftables.
//!
//! Invariant: one atomic transaction per sync; what the kernel holds is always some recent state as a whole.
//!
//! ```text
//! informers -> service_ports -> ruleset -> difference with what was applied last -> nft -f -
//! ```
//! The kernel tells when somebody else changes the tables; then they are made anew.
#![forbid(unsafe_code)]

pub mod bench;
mod command;
mod config;
mod flows;
mod health;
mod rules;
mod ruleset;
mod services;

pub use command::Command;
pub use config::{Args, Config};
pub use host::nft::NftError;

use std::sync::Arc;
use std::time::Duration;

use client::{Informer, Informers};
use daemon::Rounds;
use host::{Claim, ClaimError, Resource, TableWatch, nft};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::flows::Flows;
use crate::health::HealthPorts;
use crate::ruleset::{Family, Ruleset};
use crate::services::{Place, ServicePort};

/// Waits after a refused transaction, doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Wait before tables that somebody changed are made anew: a tool that removes one often removes more, or does it again.
const REPAIR: Duration = Duration::from_millis(500);

/// Why the proxy ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("watch Services and EndpointSlices")]
    Informers(#[from] client::InformerStopped),
    #[error("set up nftables")]
    Nft(#[from] NftError),
    /// Another proxy works with a table of this name.
    #[error("use the nftables table of --table")]
    Claim(#[from] ClaimError),
    #[error("hear of changes of nftables")]
    Watch(#[source] std::io::Error),
}

/// Keeps nftables equal to the Services until shutdown. The rules stay when it ends, so that a restart of the proxy cuts
/// no connection; [`cleanup`] removes them.
pub async fn run(config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    let _claim = Claim::take(vec![Resource::Table(config.table.clone())])?;
    let watch = TableWatch::new(&config.table).map_err(Error::Watch)?;
    let informers = Informers::new(client);
    let sources = Sources::new(&informers, &config);
    let changed = sources.notify_on_change();
    let proxy = Proxy {
        tables: config.families.iter().map(|family| Table::new(*family)).collect(),
        rounds: Rounds::new(
            &process.metrics,
            ("kubeproxy_sync_proxy_rules_duration_seconds", "Time to apply a change of Services"),
            ("kubeproxy_sync_proxy_rules_failures", "Transactions that nftables refused"),
        ),
        health: HealthPorts::at(config.health_check_address),
        sources,
        watch,
        config,
    };
    informers.beside(&process.shutdown, proxy.keep(&changed, &process)).await?.unwrap_or(Ok(()))
}

/// Removes the proxy's tables, unless a proxy works with them.
pub async fn cleanup(table: &str) -> Result<(), Error> {
    let _claim = Claim::take(vec![Resource::Table(table.to_owned())])?;
    let text = ruleset::removal(table, Family::V4) + &ruleset::removal(table, Family::V6);
    Ok(nft::apply(&text).await?)
}

/// What the rules are made from.
struct Sources {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<Node>,
}

impl Sources {
    fn new(informers: &Informers, config: &Config) -> Self {
        let node = informers.with_fields(&format!("metadata.name={}", config.node_name));
        Self { services: informers.of(), slices: informers.of(), node }
    }

    fn notify_on_change(&self) -> Arc<Notify> {
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        self.services.on_event(move |_| notify.notify_one());
        let notify = Arc::clone(&changed);
        self.slices.on_event(move |_| notify.notify_one());
        let notify = Arc::clone(&changed);
        // The node matters for its zone only; its status changes all the time.
        self.node.on_event(move |event| match event {
            client::Event::Applied { old: Some(old), new } if zone(old) == zone(new) => {}
            _ => notify.notify_one(),
        });
        changed
    }

    fn place(&self, config: &Config) -> Place {
        let node = self.node.list();
        Place {
            node: config.node_name.clone(),
            zone: node.first().map(|node| zone(node).to_owned()).unwrap_or_default(),
        }
    }
}

fn zone(node: &Node) -> &str {
    node.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("topology.kubernetes.io/zone"))
        .map_or("", String::as_str)
}

/// One family's table and what it holds.
struct Table {
    family: Family,
    /// `None` until the table was made by this process, and after a refused transaction.
    applied: Option<Ruleset>,
    /// The Services whose stale flows were looked for last.
    flows: Option<Flows>,
}

impl Table {
    fn new(family: Family) -> Self {
        Self { family, applied: None, flows: None }
    }
}

impl Table {
    /// Has the kernel forget the flows that lead to endpoints that are gone, when there may be new ones of them.
    async fn forget_stale(&mut self, flows: Flows) {
        if self.flows.as_ref() == Some(&flows) {
            return;
        }
        let (ipv6, known) = (self.family == Family::V6, flows.clone());
        let forget = move || host::conntrack::forget(ipv6, |flow| known.is_stale(flow));
        let result = if flows.is_empty() { Ok(0) } else { tokio::task::spawn_blocking(forget).await.unwrap_or(Ok(0)) };
        self.flows = Some(flows);
        match result {
            Ok(0) => {}
            Ok(count) => info!(family = ?self.family, count, "flows to endpoints that are gone are forgotten"),
            Err(err) => {
                warn!(error = &err as &dyn std::error::Error, "flows to endpoints that are gone cannot be forgotten")
            }
        }
    }
}

struct Proxy {
    config: Config,
    sources: Sources,
    tables: Vec<Table>,
    watch: TableWatch,
    rounds: Rounds,
    health: HealthPorts,
}

/// Why the proxy goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Shutdown,
    /// Services have changed, or it is time to try again.
    Sync,
    /// The kernel tells of changes of nftables.
    Tables,
}

impl Proxy {
    async fn keep(mut self, changed: &Notify, process: &daemon::Process) -> Result<(), Error> {
        let mut wait = RETRY.0;
        loop {
            let mut own = 0;
            let pause = match self.sync(&mut own).await {
                Ok(()) => {
                    wait = RETRY.0;
                    process.ready.set();
                    None
                }
                Err(err @ NftError::Run(_)) => return Err(err.into()),
                Err(err) => {
                    self.rounds.failed();
                    process.ready.lost("nft refuses the rules of Services");
                    warn!(error = &err as &dyn std::error::Error, retry_in = ?wait, "sync failed");
                    let pause = wait;
                    wait = (wait * 2).min(RETRY.1);
                    Some(pause)
                }
            };
            // What this sync did is no news; but somebody else may have been there at the same time.
            let touched = self.watch.read().map_err(Error::Watch)?;
            if pause.is_none() && touched.beyond(own) {
                self.forget();
                tokio::time::sleep(REPAIR).await;
                continue;
            }
            if !self.wait(changed, pause, &process.shutdown).await? {
                return Ok(());
            }
        }
    }

    /// Waits until there is something to do; false when it is time to end.
    async fn wait(
        &mut self,
        changed: &Notify,
        pause: Option<Duration>,
        shutdown: &CancellationToken,
    ) -> Result<bool, Error> {
        loop {
            match next(changed, pause, &self.watch, shutdown).await.map_err(Error::Watch)? {
                Wake::Shutdown => return Ok(false),
                Wake::Sync => return Ok(true),
                Wake::Tables => {
                    let touched = self.watch.read().map_err(Error::Watch)?;
                    if touched.times > 0 || touched.unknown {
                        tokio::time::sleep(REPAIR).await;
                        // Whatever else came meanwhile is undone with it.
                        self.watch.read().map_err(Error::Watch)?;
                        self.forget();
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Has the tables made anew, since nobody knows what they hold.
    fn forget(&mut self) {
        warn!(table = self.config.table, "the tables of Services were changed from outside: they are made again");
        self.tables.iter_mut().for_each(|table| table.applied = None);
    }

    /// Brings the tables to what the Services say; `transactions` counts those that it made.
    async fn sync(&mut self, transactions: &mut usize) -> Result<(), NftError> {
        let started = Instant::now();
        let place = self.sources.place(&self.config);
        let (services, slices) = (self.sources.services.list(), self.sources.slices.list());
        let families = self.tables.iter().map(|table| table.family);
        let all: Vec<_> = families.map(|family| services::service_ports(family, &place, &services, &slices)).collect();
        let result = self.apply(&all, transactions).await;
        self.health.tell(health::wanted(all.iter().flatten(), result.is_ok())).await;
        self.rounds.took(started.elapsed());
        result
    }

    async fn apply(&mut self, all: &[Vec<ServicePort>], transactions: &mut usize) -> Result<(), NftError> {
        let started = Instant::now();
        for (table, ports) in self.tables.iter_mut().zip(all) {
            let family = table.family;
            let flows = Flows::of(ports);
            let wanted = rules::ruleset(family, self.config.cluster_cidr(family), ports);
            let text = match &table.applied {
                Some(applied) => ruleset::difference(&self.config.table, family, applied, &wanted),
                None => {
                    let nothing = Ruleset::default();
                    ruleset::base(&self.config.table, family)
                        + &ruleset::difference(&self.config.table, family, &nothing, &wanted)
                }
            };
            if !text.is_empty() {
                // Taken out first: after a refusal nobody knows what the table holds, so it is made anew.
                table.applied = None;
                nft::apply(&text).await?;
                *transactions += 1;
                table.applied = Some(wanted);
                info!(?family, ports = ports.len(), took = ?started.elapsed(), "services synced");
            }
            // Once the rules are there: what is sent from now on finds its way by them.
            table.forget_stale(flows).await;
        }
        Ok(())
    }
}

/// Waits for a change, or `pause` and nothing else.
async fn next(
    changed: &Notify,
    pause: Option<Duration>,
    watch: &TableWatch,
    shutdown: &CancellationToken,
) -> std::io::Result<Wake> {
    let timer = async {
        match pause {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(Wake::Shutdown),
        () = timer => Ok(Wake::Sync),
        () = changed.notified(), if pause.is_none() => Ok(Wake::Sync),
        readable = watch.readable(), if pause.is_none() => readable.map(|()| Wake::Tables),
    }
}
