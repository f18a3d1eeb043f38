//! A whole cluster in one process.
//!
//! ```text
//! claims -> keys -> node address -> store -> API server -> { controllers, scheduler, kubelet, proxy, ... } -> node Ready
//! ```
//! Down go the pods first, while there is all that they may need to end, then the components, then the API server and its
//! store.

mod components;
mod server;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use apiserver::ApiServer;
use daemon::{Process, Supervisor};
use facts::cidr::Cidr;
use host::{Claim, ClaimError, Resource};
use tokio_util::sync::CancellationToken;

use self::components::Cluster;
use crate::drain::Left;
use crate::fleet::{self, Fleet};
use crate::keys::{Keys, NodeKeys};
use crate::link::Link;
use crate::named::{self, Known};
use crate::options::{Options, Plan};
use crate::{kubeconfig, routes};

/// Brings a cluster up and keeps it until `shutdown`; `say` gets each line for the user. `left` says, at any moment, what
/// would be left running if this process ended at once.
pub async fn up(
    options: Options,
    shutdown: CancellationToken,
    left: Arc<Left>,
    say: impl Fn(String),
) -> anyhow::Result<()> {
    let started = Instant::now();
    check_host()?;
    let (options, known) = named::settle(options)?;
    let plan = Plan::new(options)?;
    // Before anything of this machine is touched: another cluster may be using it.
    let _claim = claim([plan.resources(), fleet::resources(&plan)?].concat())?;
    plan.warnings(&routes::of_this_machine()).into_iter().for_each(&say);
    known.iter().filter_map(Known::note).for_each(&say);
    let keys = Keys::make(&plan.options.node.data_dir.join("pki"), plan.subjects()).context("keys and certificates")?;
    let (link, made) = own_link(&plan).await?;
    let fleet = Fleet::new(&plan, link.as_ref())?;
    let result = run(&plan, &keys, link.clone(), fleet, shutdown, Output { started, left, say }).await;
    match link {
        // An interface that was there before, by a cluster that crashed, may be what running pods need.
        Some(link) if !plan.options.node.keep_pods && (made || result.is_ok()) => {
            let removed = link.remove().await;
            result.and(removed.map_err(Into::into))
        }
        _ => result,
    }
}

/// What the user is told.
struct Output<Say> {
    started: Instant,
    left: Arc<Left>,
    say: Say,
}

async fn run<Say: Fn(String)>(
    plan: &Plan,
    keys: &Keys,
    link: Option<Link>,
    fleet: Fleet,
    shutdown: CancellationToken,
    output: Output<Say>,
) -> anyhow::Result<()> {
    let process = Process::new(CancellationToken::new());
    let node_keys = NodeKeys::make(&keys.pki, &plan.node_name, &plan.options.node_ip);
    let node_keys = &node_keys.context("keys and certificates of the node")?;
    let store = server::open_store(plan).await?;
    let server = ApiServer::new(server::config(plan, keys), store.clone(), process.clone())?;
    let listeners = server::listen(plan).await?;
    let kubeconfig = kubeconfig::write_for_users(plan, keys)?;

    let mut control_plane = Supervisor::new(process.shutdown.clone());
    let running = server.clone();
    control_plane.add("apiserver", move |_| async move { running.run().await });
    for listener in listeners {
        let serving = server.clone();
        control_plane.add("apiserver listener", move |_| async move { serving.serve(listener).await });
    }
    let is_reached = link.is_none() && !plan.node_ip().is_loopback();
    if let Some(link) = link {
        control_plane.add("node address", move |shutdown| async move { link.keep(shutdown).await });
    }
    let whole = async {
        tokio::select! {
            () = server.ready() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        (output.say)(ready_line("apiserver", output.started.elapsed()));
        let left = Arc::clone(&output.left);
        let node = plan.node();
        let started = output.started;
        let cluster =
            Cluster { plan, node, keys, node_keys, server: &server, kubeconfig, started, left, fleet, is_reached };
        cluster.run(&shutdown, &output.say).await
    };
    let stop = process.shutdown.clone();
    let (control_plane, components) = tokio::join!(
        async {
            let result = control_plane.run().await;
            // Without an API server nothing else is of use.
            shutdown.cancel();
            result
        },
        async {
            let result = whole.await;
            stop.cancel();
            result
        }
    );
    let closed = store.close().await.context("close the store");
    components.and(control_plane).and(closed)
}

/// Claims names and addresses; the error says which option chooses what is taken.
pub(crate) fn claim(wanted: Vec<(&'static str, Resource)>) -> anyhow::Result<Claim> {
    let (options, resources): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    Claim::take(resources.clone()).map_err(|err| {
        let option = match &err {
            ClaimError::Taken { resource, .. } => {
                resources.iter().position(|one| one == resource).map(|at| options[at])
            }
            ClaimError::Io { .. } => None,
        };
        let err = anyhow::Error::from(err);
        match option {
            Some(option) => anyhow::anyhow!("{err}: stop that cluster, or choose another {option}"),
            None => err,
        }
    })
}

/// Refuses at once, and says why, where pods cannot run.
pub(crate) fn check_host() -> anyhow::Result<()> {
    ensure!(cfg!(target_os = "linux"), "pods need Linux");
    ensure!(rustix::process::geteuid().is_root(), "a node runs containers and needs root: run it with sudo");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join("nft").is_file());
    ensure!(found, "`nft` is not on the PATH: install the package nftables");
    Ok(())
}

/// The interface that would have the node's address.
pub(crate) fn link_of(plan: &Plan) -> Link {
    // Other nodes on this machine are on its link.
    let alone = plan.options.nodes == 1;
    let own = |address: &IpAddr| if alone { Cidr::new(*address, 128).bits() } else { fleet::near(*address).bits() };
    let addresses = plan.options.node_ip.iter().map(|address| (*address, own(address))).collect();
    Link { name: plan.options.node.link_name(), addresses, routes: plan.routes() }
}

/// The interface with the node's address, unless the address is one that the machine has anyway; and whether it is new.
async fn own_link(plan: &Plan) -> anyhow::Result<(Option<Link>, bool)> {
    let link = link_of(plan);
    let ours = std::path::Path::new("/sys/class/net").join(&link.name).exists();
    let is_there = |(address, _): &(IpAddr, u8)| std::net::UdpSocket::bind((*address, 0)).is_ok();
    let there = link.addresses.iter().filter(|one| is_there(one)).count();
    if !ours && there == link.addresses.len() {
        return Ok((None, false));
    }
    ensure!(ours || there == 0, "--node-ip: this machine has one of the addresses, and not the other");
    let made = link.ensure().await?;
    Ok((Some(link), made))
}

pub(crate) fn ready_line(name: &str, after: Duration) -> String {
    format!("{name:<20} ready after {:>5} ms", after.as_millis())
}
