//! NetworkPolicies of one node's pods, kept by nftables (upstream: network plugins). What is judged how follows the API's own
//! words and the suite `[sig-network] Netpol`.
//!
//! ```text
//! informers -> Changes (keys) -> Model -> Table with its journal -> nft -f -
//! ```
//! Invariant: one atomic transaction per sync; what the kernel holds is always some recent state as a whole.
//!
//! Where the API leaves a choice, it is made so:
//! * Packets from the side that opened a connection are judged each, so a policy that comes later ends what it no longer
//!   allows; answers pass. What is forbidden is dropped.
//! * The node reaches its pods, and they reach it. Pods of the node's own network are not isolated and are nobody's peers.
//! * While there is any policy, a pod of this node is reached by nobody, and reaches nobody but the node, before its address
//!   and policies are known here; nor is an address that two pods claim.
//! * Protocols without ports are allowed by rules without ports only.
//! * Rules stay when the process ends, and addresses keep the rights that they had until it is back.
//! * Rules go with the last policy: while there is none, pods are not even watched.
#![forbid(unsafe_code)]

pub mod bench;
mod changes;
mod command;
mod compile;
mod config;
mod enforcer;
mod hash;
mod members;
mod model;
mod pod;
mod table;
mod text;

#[cfg(test)]
mod tests;

pub use command::Command;
pub use config::{Args, Config};
pub use host::nft::NftError;

use client::Informers;
use daemon::Rounds;
use host::nft::Family;
use host::{Claim, ClaimError, Resource, TableWatch, nft};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::changes::Changed;
use crate::enforcer::Enforcer;

/// Why the enforcement ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("watch NetworkPolicies, pods and namespaces")]
    Informers(#[from] client::InformerStopped),
    #[error("set up nftables")]
    Nft(#[from] NftError),
    /// Another process works with a table of this name.
    #[error("use the nftables table of --table")]
    Claim(#[from] ClaimError),
    #[error("hear of changes of nftables")]
    Watch(#[source] std::io::Error),
}

/// Enforces NetworkPolicies for this node's pods until shutdown. The rules stay when it ends; [`cleanup`] removes them.
pub async fn run(config: Config, client: kube::Client, process: daemon::Process) -> Result<(), Error> {
    let _claim = Claim::take(vec![Resource::Table(config.table.clone())])?;
    let watch = TableWatch::new(&config.table).map_err(Error::Watch)?;
    let informers = Informers::new(client.clone());
    let policies = informers.of::<NetworkPolicy>();
    let changed = Changed::default();
    changed.follow_policies(&policies);
    let rounds = Rounds::new(
        &process.metrics,
        ("coracle_network_policy_sync_duration_seconds", "Time to apply a change of policies or pods"),
        ("coracle_network_policy_sync_failures", "Transactions that nftables refused"),
    );
    let mut enforcer = Enforcer { config, client, policies, changed, watch, rounds, families: Family::of_this_host() };
    informers.beside(&process.shutdown, enforcer.keep(&process)).await?.unwrap_or(Ok(()))
}

/// Removes the rules, unless a process keeps them: pods are no longer isolated.
pub async fn cleanup(table: &str) -> Result<(), Error> {
    let _claim = Claim::take(vec![Resource::Table(table.to_owned())])?;
    Ok(remove(table, &Family::of_this_host()).await?)
}

async fn remove(table: &str, families: &[Family]) -> Result<(), NftError> {
    // Kernels without tables of bridges have none to remove.
    let _none = nft::apply(&text::guard_removal(table)).await;
    let text: String = families.iter().map(|family| text::removal(table, *family)).collect();
    nft::apply(&text).await
}
