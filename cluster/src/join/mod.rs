//! A node of a cluster whose API server is elsewhere, in one process.
//!
//! ```text
//! token, hash of the CA -> admission -> files -> { kubelet, proxy, routes, provisioner, certificates } -> node Ready
//! ```
//! A node that has joined needs no token to begin again.

mod admission;
mod kept;
mod leave;

pub use leave::{LeaveOptions, leave};

use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use client::Server;
use daemon::{LiveIdentity, Process, ReadyWatch, Supervisor};
use facts::cidr::Cidr;
use facts::nodes;
use http::Uri;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kubelet::Ending;
use kubelet::certificates::{self, Certificates};
use runtime::Runtime;
use runtime::local::LocalRuntime;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use self::admission::Ticket;
use self::kept::{Files, Kept};
use crate::control;
use crate::drain::Left;
use crate::node::{ClusterNetwork, NodeOptions, NodePlan};
use crate::up::{check_host, claim, ready_line};

/// How a machine joins a cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinOptions {
    /// Address of the API server, such as 10.0.0.1:6443.
    pub server: String,
    /// Token of the cluster; not needed by a node that has joined.
    #[arg(long, env = "CORACLE_JOIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Hash of the public key of the cluster's CA, sha256:<hex>. May be given again.
    #[arg(long)]
    pub ca_hash: Vec<String>,
    /// Address of this node, or one of each family, at which others reach it [default: those that lead to the API server, and
    /// away].
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    #[command(flatten)]
    pub node: NodeOptions,
    /// Servers that the node's own name server asks for names outside of the cluster [default: those of /etc/resolv.conf].
    #[arg(long, value_delimiter = ',')]
    pub dns_upstream: Vec<IpAddr>,
    /// End when standard input does.
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
}

/// Joins, or goes on as the node that this machine is, until `shutdown`. `say` gets each line for the user.
pub async fn join(
    mut options: JoinOptions,
    shutdown: CancellationToken,
    left: Arc<Left>,
    say: impl Fn(String),
) -> anyhow::Result<()> {
    let started = Instant::now();
    let server = admission::server(&options.server)?;
    let (name, allowed_sysctls) = options.node.check()?;
    check_host()?;
    let pipe = options.end_with_stdin.then(stdin).transpose()?;
    let data_dir = &options.node.data_dir;
    ensure!(!data_dir.join("store").exists(), "{} is the data directory of a cluster of its own", data_dir.display());
    let given = given_addresses(&options.node_ip, &server)?;
    let _claim = claim(options.node.names())?;
    let files = Files::in_data_dir(data_dir);
    let kept = admitted(&options, &server, &name, &files).await?;
    ensure!(
        kept.node == name && kept.server == server.to_string(),
        "{} is that of node {} of {}: `coracle leave` ends that, or choose another --data-dir",
        data_dir.display(),
        kept.node,
        kept.server
    );
    let client = Arc::new(LiveIdentity::default());
    let certificate = std::fs::read_to_string(files.client());
    let certificate = certificate.with_context(|| format!("read {}", files.client().display()))?;
    client.set(&certificate).with_context(|| files.client().display().to_string())?;
    check_validity(&client)?;
    let authorities = kept.authorities()?;
    let access = Server { url: server, authorities: Some(authorities.clone()) };
    let access = access.connect_as(Arc::clone(&client), "kubelet")?;
    let network = kept.network()?;
    let addresses = addresses(given, &network)?;
    let node = NodePlan { options: options.node, name, addresses, allowed_sysctls, network };
    let upstreams = options.dns_upstream;
    let joined = Joined { node, upstreams, files, client, access, authorities, left, started };
    tokio::select! {
        result = joined.run(&shutdown, &say) => result,
        () = end_of_stdin(pipe, &shutdown) => unreachable!("it never ends by itself"),
    }
}

/// What this node has kept, or else gets now.
async fn admitted(options: &JoinOptions, server: &Uri, node: &str, files: &Files) -> anyhow::Result<Kept> {
    if let Some(kept) = files.read()? {
        return Ok(kept);
    }
    let token = options
        .token
        .as_deref()
        .context("--token is missing: `coracle token create` on the control plane makes one")?;
    let admitted = Ticket { server, token, hashes: &options.ca_hash, node }.show().await?;
    files.write(&server.to_string(), node, &admitted)?;
    files.read()?.context("what was written a moment ago is gone")
}

fn check_validity(identity: &LiveIdentity) -> anyhow::Result<()> {
    let over = identity.validity().is_none_or(|(_, until)| until < std::time::SystemTime::now());
    ensure!(!over, "the certificate of this node has expired: `coracle leave`, then join again");
    Ok(())
}

/// The node's addresses: those given, or the one from which this machine sends to the API server.
fn given_addresses(given: &[IpAddr], server: &Uri) -> anyhow::Result<Vec<IpAddr>> {
    let towards = |own: &str| {
        let (host, port) = (server.host()?.trim_matches(['[', ']']), server.port_u16()?);
        let socket = UdpSocket::bind(own).ok()?;
        socket.connect((host, port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let found = || towards("0.0.0.0:0").or_else(|| towards("[::]:0"));
    let addresses = if given.is_empty() { found().into_iter().collect() } else { given.to_vec() };
    ensure!(!addresses.is_empty(), "no route leads to the API server: give --node-ip");
    for address in &addresses {
        ensure!(host::is_elsewhere(*address), "--node-ip {address}: other nodes cannot reach this address");
        let bound = UdpSocket::bind((*address, 0));
        bound.with_context(|| format!("--node-ip {address} is no address of this machine"))?;
    }
    Ok(addresses)
}

/// One address of each family of the cluster, in its order; what was not given is that of this machine's default route. A
/// node need not have the second family.
fn addresses(given: Vec<IpAddr>, network: &ClusterNetwork) -> anyhow::Result<Vec<IpAddr>> {
    let of_family = |range: &Cidr| {
        let given = given.iter().copied().find(|address| address.is_ipv4() == range.is_ipv4());
        given.or_else(|| host::of_default_route_in(range.is_ipv4()))
    };
    let found: Vec<Option<IpAddr>> = network.pods.iter().map(of_family).collect();
    let family = network.pods[0].family();
    ensure!(found[0].is_some(), "the cluster's nodes have {family} addresses: give --node-ip one");
    let strange = given.iter().find(|address| !found.contains(&Some(**address)));
    if let Some(strange) = strange {
        bail!("--node-ip {strange}: the cluster has one address of each of its families");
    }
    Ok(found.into_iter().flatten().collect())
}

/// Cancels `shutdown` when the pipe at standard input ends; never returns.
async fn end_of_stdin(pipe: Option<Receiver>, shutdown: &CancellationToken) {
    if let Some(mut pipe) = pipe {
        let mut buffer = [0; 64];
        while pipe.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        shutdown.cancel();
    }
    std::future::pending().await
}

/// Standard input, which whoever started this process holds.
fn stdin() -> anyhow::Result<Receiver> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned()?;
    Receiver::from_file(File::from(descriptor)).context("--end-with-stdin needs a pipe")
}

/// A node with what it needs to run.
struct Joined {
    node: NodePlan,
    /// Of DNS.
    upstreams: Vec<IpAddr>,
    files: Files,
    client: Arc<LiveIdentity>,
    access: kube::Client,
    /// DER.
    authorities: Vec<Vec<u8>>,
    left: Arc<Left>,
    started: Instant,
}

impl Joined {
    async fn run(&self, shutdown: &CancellationToken, say: &impl Fn(String)) -> anyhow::Result<()> {
        let runtime = Arc::new(LocalRuntime::open(self.node.runtime()?).await.context("container runtime")?);
        let options = &self.node.options;
        self.left.watch("join", &options.data_dir, &options.bridge, Arc::clone(&runtime));
        let process = Process::new(CancellationToken::new());
        let mut tasks = Supervisor::new(process.shutdown.clone());
        self.node.prepare().await?;
        let ending = Ending::default();
        let parts = Arc::<LocalRuntime>::clone(&runtime);
        let ready = self.add_components(&mut tasks, &process, parts, ending.clone(), shutdown)?;
        let components = async {
            let result = tasks.run().await;
            shutdown.cancel();
            result
        };
        let conduct = async {
            tokio::select! {
                () = self.announce(ready, say) => shutdown.cancelled().await,
                () = shutdown.cancelled() => {}
            }
            say(self.node.farewell(self.left.pods().len()));
            let ended = self.node.end_pods(&ending, &process.shutdown, say).await;
            process.shutdown.cancel();
            ended
        };
        let (components, ended) = tokio::join!(components, conduct);
        let stopped = self.node.stop(runtime, ended, say).await;
        components.and(stopped)
    }

    async fn announce(&self, ready: Vec<(&'static str, ReadyWatch)>, say: &impl Fn(String)) {
        let waits = ready.into_iter().map(|(name, mut watch)| async move {
            if watch.ready().await.is_some() {
                say(ready_line(name, self.started.elapsed()));
            }
        });
        let node = async {
            let api: Api<Node> = Api::all(self.access.clone());
            let is_ready = |node: Option<&Node>| node.is_some_and(nodes::is_ready);
            while kube::runtime::wait::await_condition(api.clone(), &self.node.name, is_ready).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            say(ready_line(&format!("node {}", self.node.name), self.started.elapsed()));
        };
        futures::future::join(futures::future::join_all(waits), node).await;
    }

    fn add_components(
        &self,
        tasks: &mut Supervisor,
        process: &Process,
        runtime: Arc<dyn Runtime>,
        ending: Ending,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Vec<(&'static str, ReadyWatch)>> {
        let mut ready = Vec::new();
        let mut start = |name: &'static str| {
            let process = process.component();
            ready.push((name, process.ready.watch()));
            (self.access.clone(), move |shutdown| Process { shutdown, ..process })
        };
        let kept = |identity: &Arc<LiveIdentity>, file| certificates::Kept { identity: Arc::clone(identity), file };
        let serving = Arc::new(LiveIdentity::default());
        let renewed = Certificates {
            client: Some(kept(&self.client, self.files.client())),
            serving: Some(kept(&serving, self.files.serving())),
        };
        if let Some(Err(err)) = renewed.serving.as_ref().map(certificates::Kept::read) {
            tracing::warn!(
                error = &err as &dyn std::error::Error,
                "the certificate of the kubelet's server is asked for anew"
            );
        }
        let authorities = self.authorities.iter().map(|der| der.clone().into()).collect();
        let server = kubelet::server::Config::live(self.node.kubelet_address(), Arc::clone(&serving), authorities)?;
        let (config, (client, make)) = (self.node.kubelet(Arc::clone(&runtime), server, ending), start("kubelet"));
        let config = kubelet::Config { certificates: renewed, ..config };
        tasks.add("kubelet", move |shutdown| kubelet::run(config, client, make(shutdown)));
        if self.node.has_routes() {
            let (config, (client, make)) = (self.node.routes(), start("network"));
            tasks.add("network", move |shutdown| network::run(config, client, make(shutdown)));
        }
        let (config, (client, make)) = (self.node.proxy(), start("proxy"));
        tasks.add("proxy", move |shutdown| proxy::run(config, client, make(shutdown)));
        if let Some(config) = self.node.policy() {
            let (client, make) = start("network-policy");
            tasks.add("network-policy", move |shutdown| policy::run(config, client, make(shutdown)));
        }
        if let Some(config) = self.node.announce() {
            let (client, make) = start("announce");
            tasks.add("announce", move |shutdown| announce::run(config, client, make(shutdown)));
        }
        if let Some(config) = self.node.dns(&self.upstreams)? {
            let (client, make) = start("dns");
            tasks.add("dns", move |shutdown| dns::run(config, client, make(shutdown)));
        }
        let (config, (client, make)) = (self.node.provisioner(), start("provisioner"));
        tasks.add("provisioner", move |shutdown| provisioner::run(config, client, make(shutdown)));
        let data_dir = self.node.options.data_dir.clone();
        let end = control::End { asked: shutdown.clone(), within: self.node.options.end() };
        tasks.add("control socket", move |shutdown| control::serve(data_dir, runtime, end, shutdown));
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_cannot_reach_is_refused() {
        let server = admission::server("127.0.0.1:6443").unwrap();
        for (given, words) in
            [(None, "cannot reach"), (Some("127.0.0.1"), "cannot reach"), (Some("192.0.2.77"), "no address of this")]
        {
            let given: Vec<IpAddr> = given.into_iter().map(|text| text.parse().unwrap()).collect();
            let err = format!("{:#}", given_addresses(&given, &server).unwrap_err());
            assert!(err.contains(words), "{err}");
        }
    }

    #[test]
    fn a_node_has_an_address_of_each_family_of_its_cluster_in_the_clusters_order() {
        let network = |pods: &[&str]| ClusterNetwork {
            pods: pods.iter().map(|range| range.parse().unwrap()).collect(),
            services: vec!["10.96.0.0/16".parse().unwrap()],
            balancers: Vec::new(),
            dns: [10, 96, 0, 10].into(),
            domain: "cluster.local".to_owned(),
        };
        let check = |given: &[&str], pods: &[&str]| {
            let given = given.iter().map(|text| text.parse().unwrap()).collect();
            addresses(given, &network(pods)).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let both = ["192.0.2.1", "fd00::1"];
        assert_eq!(check(&both, &["fd01::/56", "10.244.0.0/16"]).unwrap(), ["fd00::1", "192.0.2.1"]);
        assert_eq!(check(&both[..1], &["10.244.0.0/16"]).unwrap(), ["192.0.2.1"]);
        for (given, pods) in [(&both[..], &["10.244.0.0/16"][..]), (&["192.0.2.1", "192.0.2.2"], &["10.244.0.0/16"])] {
            let err = check(given, pods).unwrap_err().to_string();
            assert!(err.contains("--node-ip"), "{err}");
        }
    }
}
