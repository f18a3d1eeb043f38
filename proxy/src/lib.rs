//! The Service proxy: Services and EndpointSlices to nftables.
//!
//! Invariant: one atomic transaction per sync; what the kernel holds is always some recent state as a whole.
//!
//! ```text
//! informers -> Changed (keys) -> service_ports -> ruleset, a part of the table each -> difference -> nft -f -
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
mod sources;
mod table;

pub use command::Command;
pub use config::{Args, Config};
pub use host::nft::NftError;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::{Informers, ObjectKey};
use daemon::Rounds;
use host::{Claim, ClaimError, Resource, TableWatch, nft};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::health::HealthPorts;
use crate::ruleset::Family;
use crate::services::Place;
use crate::sources::{Changed, Known, Sources};
use crate::table::Table;

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
    let proxy = Proxy {
        tables: config.families.iter().map(|family| Table::new(*family)).collect(),
        rounds: Rounds::new(
            &process.metrics,
            ("kubeproxy_sync_proxy_rules_duration_seconds", "Time to apply a change of Services"),
            ("kubeproxy_sync_proxy_rules_failures", "Transactions that nftables refused"),
        ),
        health: HealthPorts::at(config.health_check_address),
        changed: sources.follow(),
        place: None,
        sources,
        watch,
        config,
    };
    informers.beside(&process.shutdown, proxy.keep(&process)).await?.unwrap_or(Ok(()))
}

/// Removes the proxy's tables, unless a proxy works with them.
pub async fn cleanup(table: &str) -> Result<(), Error> {
    let _claim = Claim::take(vec![Resource::Table(table.to_owned())])?;
    let text = ruleset::removal(table, Family::V4) + &ruleset::removal(table, Family::V6);
    Ok(nft::apply(&text).await?)
}

impl Table {
    /// Has the kernel forget the flows that lead to endpoints that are gone, where there may be new ones of them.
    async fn forget_stale(&mut self) {
        let stale = self.take_stale();
        if stale.is_empty() {
            return;
        }
        let ipv6 = self.family == Family::V6;
        let forget = move || host::conntrack::forget(ipv6, |flow| stale.is_stale(flow));
        let result = tokio::task::spawn_blocking(forget).await.unwrap_or(Ok(0));
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
    changed: Changed,
    /// Where the node was when all rules were made.
    place: Option<Place>,
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
    async fn keep(mut self, process: &daemon::Process) -> Result<(), Error> {
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
            if !self.wait(pause, &process.shutdown).await? {
                return Ok(());
            }
        }
    }

    /// Waits until there is something to do; false when it is time to end.
    async fn wait(&mut self, pause: Option<Duration>, shutdown: &CancellationToken) -> Result<bool, Error> {
        loop {
            match next(&self.changed, pause, &self.watch, shutdown).await.map_err(Error::Watch)? {
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
        self.tables.iter_mut().for_each(|table| table.is_known = false);
    }

    /// Brings the tables to what the Services say; `transactions` counts those that it made.
    async fn sync(&mut self, transactions: &mut usize) -> Result<(), NftError> {
        let started = Instant::now();
        let keys = self.changed();
        let with_objects = |key: ObjectKey| {
            let known = self.sources.get(&key);
            (key, known)
        };
        let changed = keys.into_iter().map(with_objects).collect();
        let result = self.apply(&changed, transactions).await;
        let ports = self.tables.iter().flat_map(Table::ports);
        self.health.tell(health::wanted(ports, result.is_ok())).await;
        self.rounds.took(started.elapsed());
        result
    }

    /// The Services that are to be looked at: all of them when the node is somewhere else than it was.
    fn changed(&mut self) -> BTreeSet<ObjectKey> {
        let mut keys = self.changed.take();
        let place = Some(self.sources.place(&self.config));
        if self.place != place {
            self.place = place;
            keys.extend(self.sources.keys());
            keys.extend(self.tables.iter().flat_map(Table::keys).cloned());
        }
        keys
    }

    async fn apply(
        &mut self,
        changed: &BTreeMap<ObjectKey, Option<Known>>,
        transactions: &mut usize,
    ) -> Result<(), NftError> {
        let started = Instant::now();
        let place = self.place.clone().unwrap_or_default();
        let texts: Vec<String> =
            self.tables.iter_mut().map(|table| table.update(&self.config, &place, changed)).collect();
        // Until it is told otherwise: whatever is refused, and what was not even tried then, is made anew.
        let is_news = |text: &String| !text.is_empty();
        self.tables.iter_mut().zip(&texts).for_each(|(table, text)| table.is_known &= !is_news(text));
        for (table, text) in self.tables.iter_mut().zip(&texts) {
            if is_news(text) {
                nft::apply(text).await?;
                *transactions += 1;
                table.is_known = true;
                let services = table.keys().count();
                info!(family = ?table.family, services, bytes = text.len(), took = ?started.elapsed(), "services synced");
            }
            // Once the rules are there: what is sent from now on finds its way by them.
            table.forget_stale().await;
        }
        Ok(())
    }
}

/// Waits for a change, or `pause` and nothing else.
async fn next(
    changed: &Changed,
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
