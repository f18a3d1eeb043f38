//! A whole cluster in one process.
//!
//! ```text
//! claims -> keys -> node address -> store -> API server -> { controllers, scheduler, kubelet, proxy, ... } -> node Ready
//! ```
//! Down goes the other way: components, then pods, then the API server and its store.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use apiserver::ApiServer;
use apiserver::authn::Headers;
use bytes::Bytes;
use daemon::{Process, ReadyWatch, Supervisor};
use facts::cidr::Cidr;
use facts::nodes;
use host::{Claim, ClaimError, Resource};
use http::HeaderName;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use runtime::Runtime;
use runtime::local::LocalRuntime;
use store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::drain::Left;
use crate::fleet::{self, Fleet};
use crate::invitation::{self, Invitation};
use crate::keys::{FRONT_PROXY, Keys, NodeKeys};
use crate::link::Link;
use crate::node::NodePlan;
use crate::options::{Options, Plan};
use crate::pki::Pair;
use crate::{addons, control, kubeconfig, name_servers, routes};

/// How long the node may take to become Ready before `up` says that it waits.
const NODE_PATIENCE: Duration = Duration::from_secs(30);

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
    let plan = Plan::new(options)?;
    // Before anything of this machine is touched: another cluster may be using it.
    let _claim = claim([plan.resources(), fleet::resources(&plan)?].concat())?;
    plan.warnings(&routes::of_this_machine()).into_iter().for_each(&say);
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
    let store = open_store(plan).await?;
    let server = ApiServer::new(server_config(plan, keys), store.clone(), process.clone())?;
    let listeners = listen(plan).await?;
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

/// The interface with the node's address, unless the address is one that the machine has anyway; and whether it is new.
async fn own_link(plan: &Plan) -> anyhow::Result<(Option<Link>, bool)> {
    // Other nodes on this machine are on its link.
    let alone = plan.options.nodes == 1;
    let own = |address: &IpAddr| if alone { Cidr::new(*address, 128).bits() } else { fleet::near(*address).bits() };
    let addresses = plan.options.node_ip.iter().map(|address| (*address, own(address))).collect();
    let link = Link { name: plan.options.node.link_name(), addresses, routes: plan.routes() };
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

async fn open_store(plan: &Plan) -> anyhow::Result<Arc<dyn Store>> {
    if !plan.options.etcd.etcd_servers.is_empty() {
        return Ok(Arc::new(store::etcd::EtcdStore::open(plan.options.etcd.options()?).await?));
    }
    let path = plan.options.node.data_dir.join("store");
    let options = store::embedded::Options::at(&path);
    let opened = tokio::task::spawn_blocking(move || store::embedded::EmbeddedStore::open(options)).await?;
    Ok(Arc::new(opened.with_context(|| format!("open the store in {}", path.display()))?))
}

/// Loopback for this machine's users, the node's address for its pods.
async fn listen(plan: &Plan) -> anyhow::Result<Vec<TcpListener>> {
    let port = plan.options.secure_port;
    let mut listeners = Vec::new();
    for address in std::iter::once(IpAddr::V4(Ipv4Addr::LOCALHOST)).chain(plan.options.node_ip.iter().copied()) {
        let address = SocketAddr::new(address, port);
        let bound = TcpListener::bind(address).await;
        listeners.push(
            bound.with_context(|| format!("listen on {address} (another API server? choose another --secure-port)"))?,
        );
    }
    Ok(listeners)
}

fn server_config(plan: &Plan, keys: &Keys) -> apiserver::Config {
    let path = |file: &str| Some(keys.pki.path(file));
    apiserver::Config {
        secure_port: plan.options.secure_port,
        advertise_address: Some(plan.node_ip()),
        shares_store: !plan.options.etcd.etcd_servers.is_empty(),
        identity: host::name(),
        is_whole_control_plane: true,
        tls_certificate: path("apiserver.crt"),
        tls_private_key: path("apiserver.key"),
        client_ca: path("ca.crt"),
        service_cluster_ip_ranges: plan.services.clone(),
        service_account_keys: path("sa.pub").into_iter().collect(),
        service_account_signing_key: path("sa.key"),
        // Nodes join by them.
        bootstrap_tokens: true,
        service_account_issuers: vec![format!("https://kubernetes.default.svc.{}", plan.options.cluster_domain)],
        kubelet_client_certificate: path("apiserver-kubelet-client.crt"),
        kubelet_client_key: path("apiserver-kubelet-client.key"),
        kubelet_certificate_authority: path("ca.crt"),
        proxy_client_certificate: path("front-proxy-client.crt"),
        proxy_client_key: path("front-proxy-client.key"),
        front_proxies: front_proxies(keys),
        // The node's rules for Services may be made later than an aggregated server is there.
        aggregator_routing: true,
        ..apiserver::Config::default()
    }
}

/// Whom aggregated API servers believe, and in which headers: as kubeadm has it.
fn front_proxies(keys: &Keys) -> apiserver::FrontProxies {
    let name = |name| vec![HeaderName::from_static(name)];
    apiserver::FrontProxies {
        ca: Some(keys.pki.path("front-proxy-ca.crt")),
        allowed_names: vec![FRONT_PROXY.to_owned()],
        headers: Headers {
            username: name("x-remote-user"),
            uid: name("x-remote-uid"),
            group: name("x-remote-group"),
            extra_prefix: vec!["x-remote-extra-".to_owned()],
        },
    }
}

pub(crate) fn ready_line(name: &str, after: Duration) -> String {
    format!("{name:<20} ready after {:>5} ms", after.as_millis())
}

/// The components over a ready API server.
struct Cluster<'a> {
    plan: &'a Plan,
    node: NodePlan,
    keys: &'a Keys,
    node_keys: &'a NodeKeys,
    server: &'a ApiServer,
    /// For the user.
    kubeconfig: PathBuf,
    started: Instant,
    left: Arc<Left>,
    /// The other nodes on this machine.
    fleet: Fleet,
    /// Whether other machines can reach the API server.
    is_reached: bool,
}

impl Cluster<'_> {
    /// Whether there can be other nodes.
    fn may_grow(&self) -> bool {
        self.is_reached || !self.fleet.is_empty()
    }

    async fn run(&self, shutdown: &CancellationToken, say: &impl Fn(String)) -> anyhow::Result<()> {
        let runtime = Arc::new(LocalRuntime::open(self.node.runtime()?).await.context("container runtime")?);
        let options = &self.node.options;
        self.left.watch("up", &options.data_dir, &options.bridge, Arc::clone(&runtime));
        let process = Process::new(CancellationToken::new());
        let mut tasks = Supervisor::new(process.shutdown.clone());
        let admin = self.client(&self.keys.admin, "coracle")?;
        // Before the components: the DNS server's rights are among them.
        let dns_server = Some(self.plan.node_ip()).filter(|_| !self.may_grow());
        addons::ensure(&admin, self.plan.dns_service, dns_server).await.context("DNS Service")?;
        self.node.prepare().await?;
        let invitation = if self.may_grow() { Some(self.invite(&admin).await?) } else { None };
        let ready =
            self.add_components(&mut tasks, &process, Arc::<LocalRuntime>::clone(&runtime), shutdown.clone())?;
        let components = async {
            let result = tasks.run().await;
            shutdown.cancel();
            result
        };
        let conduct = async {
            let running = async {
                let fleet = async {
                    self.fleet.start(invitation.as_ref()).await?;
                    self.fleet.keep(invitation.as_ref(), say).await;
                    Ok(())
                };
                let announce = self.announce(ready, admin, invitation.as_ref(), say);
                tokio::try_join!(fleet, announce).map(|_| ())
            };
            let result = tokio::select! {
                result = running => result,
                () = shutdown.cancelled() => Ok(()),
            };
            if result.is_ok() {
                shutdown.cancelled().await;
            }
            say(self.node.farewell(self.left.pods().len()));
            // While there is still an API server that hears from them.
            let fleet = self.fleet.stop().await;
            process.shutdown.cancel();
            shutdown.cancel();
            result.and(fleet)
        };
        let (components, conducted) = tokio::join!(components, conduct);
        let stopped = self.node.stop(runtime, say).await;
        components.and(conducted).and(stopped)
    }

    /// Lets nodes join.
    async fn invite(&self, admin: &kube::Client) -> anyhow::Result<Invitation> {
        let server = format!("https://{}", SocketAddr::new(self.plan.node_ip(), self.plan.options.secure_port));
        let door = invitation::Door { server, authority: &self.keys.pki.ca().certificate };
        invitation::open(admin, &door, &self.node.network).await.context("let nodes join")?;
        let file = self.keys.pki.path("join-token");
        Invitation::kept(admin, &door, &file).await.context("token by which nodes join")
    }

    /// Tells of each component when it is ready, and of the node, then where to go from here.
    async fn announce(
        &self,
        ready: Vec<(&'static str, ReadyWatch)>,
        admin: kube::Client,
        invitation: Option<&Invitation>,
        say: &impl Fn(String),
    ) -> anyhow::Result<()> {
        let waits = ready.into_iter().map(|(name, mut watch)| async move {
            if let Some(at) = watch.ready().await {
                say(ready_line(name, at.duration_since(self.started)));
            }
        });
        let role = async {
            if let Err(err) = addons::name_role(admin.clone(), &self.plan.node_name).await {
                warn!(error = &err as &dyn std::error::Error, "the node's role is not shown");
            }
        };
        let names = std::iter::once(&self.plan.node_name).chain(self.fleet.names());
        let nodes = futures::future::join_all(names.map(|name| self.announce_node(&admin, name, say)));
        let told = async {
            futures::future::join(futures::future::join_all(waits), nodes).await;
            let path = self.kubeconfig.display();
            let join = invitation.filter(|_| self.is_reached).map(|invitation| format!("join:       {invitation}\n"));
            let join = join.unwrap_or_default();
            say(format!("\nkubeconfig: {path}\ntry:        kubectl --kubeconfig {path} get pods -A\n{join}"));
        };
        futures::future::join(told, role).await;
        Ok(())
    }

    async fn announce_node(&self, admin: &kube::Client, name: &str, say: &impl Fn(String)) {
        let api: Api<Node> = Api::all(admin.clone());
        let wait =
            kube::runtime::wait::await_condition(api, name, |node: Option<&Node>| node.is_some_and(nodes::is_ready));
        if tokio::time::timeout(NODE_PATIENCE, wait).await.is_err() {
            say(format!("node {name} is not Ready yet: kubectl describe node {name}"));
        } else {
            say(ready_line(&format!("node {name}"), self.started.elapsed()));
        }
    }

    fn add_components(
        &self,
        tasks: &mut Supervisor,
        process: &Process,
        runtime: Arc<dyn Runtime>,
        end: CancellationToken,
    ) -> anyhow::Result<Vec<(&'static str, ReadyWatch)>> {
        let mut ready = Vec::new();
        let mut start = |name: &'static str| {
            let process = process.component();
            ready.push((name, process.ready.watch()));
            move |shutdown| Process { shutdown, ..process }
        };
        let (config, client, make) = (
            self.controllers_config()?,
            self.client(&self.keys.controller_manager, "kube-controller-manager")?,
            start("controller-manager"),
        );
        tasks.add("controller-manager", move |shutdown| controllers::run(config, client, make(shutdown)));
        let (client, make) = (self.client(&self.keys.scheduler, "kube-scheduler")?, start("scheduler"));
        tasks.add("scheduler", move |shutdown| scheduler::run(scheduler::Config::default(), client, make(shutdown)));
        let (config, client, make) = (
            self.kubelet_config(Arc::clone(&runtime))?,
            self.client(&self.node_keys.kubelet, "kubelet")?,
            start("kubelet"),
        );
        tasks.add("kubelet", move |shutdown| kubelet::run(config, client, make(shutdown)));
        if self.may_grow() {
            let (config, client, make) =
                (self.node.routes(), self.client(&self.node_keys.kubelet, "coracle-network")?, start("network"));
            tasks.add("network", move |shutdown| network::run(config, client, make(shutdown)));
        }
        let (config, client, make) =
            (self.node.proxy(), self.client(&self.node_keys.proxy, "kube-proxy")?, start("proxy"));
        tasks.add("proxy", move |shutdown| proxy::run(config, client, make(shutdown)));
        if let Some(config) = self.node.policy() {
            let (client, make) =
                (self.client(&self.node_keys.network_policy, "coracle-network-policy")?, start("network-policy"));
            tasks.add("network-policy", move |shutdown| policy::run(config, client, make(shutdown)));
        }
        let (data_dir, control) = (self.plan.options.node.data_dir.clone(), Arc::clone(&runtime));
        tasks.add("control socket", move |shutdown| control::serve(data_dir, control, end, shutdown));
        if let Some(config) = self.node.announce() {
            let (client, make) = (self.client(&self.node_keys.proxy, "coracle-announce")?, start("announce"));
            tasks.add("announce", move |shutdown| announce::run(config, client, make(shutdown)));
        }
        if let Some(config) = self.node.dns(&[])? {
            let (client, make) = (self.client(&self.node_keys.dns, "coracle-dns")?, start("dns"));
            tasks.add("dns", move |shutdown| dns::run(config, client, make(shutdown)));
        }
        if self.may_grow() {
            let (client, network) = (self.client(&self.keys.admin, "coracle")?, self.node.network.clone());
            tasks.add("name servers", move |shutdown| name_servers::run(client, network, shutdown));
        }
        let (config, client, make) = (
            self.node.provisioner(),
            self.client(&self.node_keys.provisioner, "coracle-provisioner")?,
            start("provisioner"),
        );
        tasks.add("provisioner", move |shutdown| provisioner::run(config, client, make(shutdown)));
        Ok(ready)
    }

    /// A client over the in-memory transport that shows this certificate and calls itself so.
    fn client(&self, identity: &Pair, agent: &'static str) -> anyhow::Result<kube::Client> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate.as_bytes())
            .context("a certificate of this cluster")?;
        let service = self.server.in_process(Some(Bytes::from(pem.contents))).named(agent);
        Ok(kube::Client::new(service, "default"))
    }

    /// Tokens are looked after where nodes join by them.
    fn controllers(&self) -> Vec<String> {
        let tokens: &[&str] = if self.may_grow() { &["bootstrapsigner", "tokencleaner"] } else { &[] };
        std::iter::once("*").chain(tokens.iter().copied()).map(str::to_owned).collect()
    }

    fn controllers_config(&self) -> anyhow::Result<controllers::Config> {
        let ca = self.keys.pki.ca();
        let token_key = daemon::TokenKey::from_pem(&self.keys.pki.service_account_key()?);
        let token_key = token_key.context("sa.key holds no usable private key")?;
        Ok(controllers::Config {
            controllers: self.controllers(),
            ranges: controllers::Ranges::out_of(self.node.network.pods_text()),
            root_ca: Some(ca.certificate.clone()),
            load_balancer_pool: self.plan.options.load_balancer_pool.clone(),
            enforced: controllers::Enforced { network_policy: self.plan.options.node.network_policy },
            signing: Some(controllers::Signing { certificate: ca.certificate.clone(), key: ca.key.clone() }),
            token_key: Some(Arc::new(token_key)),
            approve_serving: self.may_grow().then(|| [self.plan.services.clone(), self.plan.pods.clone()].concat()),
            ..controllers::Config::default()
        })
    }

    fn kubelet_config(&self, runtime: Arc<dyn Runtime>) -> anyhow::Result<kubelet::Config> {
        let tls = kubelet::Tls {
            certificate: self.keys.pki.path("kubelet-server.crt"),
            key: self.keys.pki.path("kubelet-server.key"),
            client_ca: self.keys.pki.path("ca.crt"),
            options: daemon::TlsOptions::default(),
        };
        let server = kubelet::server::Config::from_files(self.node.kubelet_address(), &tls)?;
        Ok(self.node.kubelet(runtime, server))
    }
}
