//! A whole cluster in one process.
//!
//! ```text
//! claims -> keys -> node address -> store -> API server -> { controllers, scheduler, kubelet, proxy, ... } -> node Ready
//! ```
//! Down goes the other way: components, then pods, then the API server and its store.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use apiserver::ApiServer;
use apiserver::authn::Headers;
use bytes::Bytes;
use daemon::{Process, ReadyWatch, Supervisor};
use facts::nodes;
use host::{Claim, ClaimError};
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
use crate::keys::{FRONT_PROXY, Keys};
use crate::link::Link;
use crate::options::{Options, Plan};
use crate::pki::Pair;
use crate::{addons, control, drain, kubeconfig, routes};

/// Pods the node takes: as many as its /24 has addresses, with room for those that are on their way out.
const MAX_PODS: usize = 220;
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
    let _claim = claim(&plan)?;
    plan.warnings(&routes::of_this_machine()).into_iter().for_each(&say);
    let keys = Keys::make(&plan.options.data_dir.join("pki"), plan.subjects()).context("keys and certificates")?;
    let (link, made) = own_link(&plan).await?;
    let result = run(&plan, &keys, link.clone(), shutdown, Output { started, left, say }).await;
    match link {
        // An interface that was there before, by a cluster that crashed, may be what running pods need.
        Some(link) if !plan.options.keep_pods && (made || result.is_ok()) => {
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
    shutdown: CancellationToken,
    output: Output<Say>,
) -> anyhow::Result<()> {
    let process = Process::new(CancellationToken::new());
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
        let cluster = Cluster { plan, keys, server: &server, kubeconfig, started: output.started, left };
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

/// Claims all names and addresses; the error says which option chooses what is taken.
fn claim(plan: &Plan) -> anyhow::Result<Claim> {
    let (options, resources): (Vec<_>, Vec<_>) = plan.resources().into_iter().unzip();
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
fn check_host() -> anyhow::Result<()> {
    ensure!(cfg!(target_os = "linux"), "pods need Linux");
    ensure!(rustix::process::geteuid().is_root(), "`coracle up` runs containers and needs root: run it with sudo");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join("nft").is_file());
    ensure!(found, "`nft` is not on the PATH: install the package nftables");
    Ok(())
}

/// The interface with the node's address, unless the address is one that the machine has anyway; and whether it is new.
async fn own_link(plan: &Plan) -> anyhow::Result<(Option<Link>, bool)> {
    let address = plan.options.node_ip;
    let link = Link { name: plan.link_name(), address, routes: plan.routes() };
    let ours = std::path::Path::new("/sys/class/net").join(&link.name).exists();
    if !ours && std::net::UdpSocket::bind((address, 0)).is_ok() {
        return Ok((None, false));
    }
    let made = link.ensure().await?;
    Ok((Some(link), made))
}

async fn open_store(plan: &Plan) -> anyhow::Result<Arc<dyn Store>> {
    if !plan.options.etcd.etcd_servers.is_empty() {
        return Ok(Arc::new(store::etcd::EtcdStore::connect(plan.options.etcd.options()?).await?));
    }
    let path = plan.options.data_dir.join("store");
    let options = store::embedded::Options::at(&path);
    let opened = tokio::task::spawn_blocking(move || store::embedded::EmbeddedStore::open(options)).await?;
    Ok(Arc::new(opened.with_context(|| format!("open the store in {}", path.display()))?))
}

/// Loopback for this machine's users, the node's address for its pods.
async fn listen(plan: &Plan) -> anyhow::Result<Vec<TcpListener>> {
    let port = plan.options.secure_port;
    let mut listeners = Vec::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), plan.options.node_ip] {
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
        advertise_address: Some(plan.options.node_ip),
        shares_store: !plan.options.etcd.etcd_servers.is_empty(),
        identity: host::name(),
        is_whole_control_plane: true,
        tls_certificate: path("apiserver.crt"),
        tls_private_key: path("apiserver.key"),
        client_ca: path("ca.crt"),
        service_cluster_ip_ranges: vec![plan.services],
        service_account_keys: path("sa.pub").into_iter().collect(),
        service_account_signing_key: path("sa.key"),
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

fn ready_line(name: &str, after: Duration) -> String {
    format!("{name:<20} ready after {:>5} ms", after.as_millis())
}

/// The components over a ready API server.
struct Cluster<'a> {
    plan: &'a Plan,
    keys: &'a Keys,
    server: &'a ApiServer,
    /// For the user.
    kubeconfig: PathBuf,
    started: Instant,
    left: Arc<Left>,
}

impl Cluster<'_> {
    async fn run(&self, shutdown: &CancellationToken, say: &impl Fn(String)) -> anyhow::Result<()> {
        let runtime = Arc::new(LocalRuntime::open(self.runtime_config()?).await.context("container runtime")?);
        self.left.watch(&self.plan.options, Arc::clone(&runtime));
        let process = Process::new(CancellationToken::new());
        let mut tasks = Supervisor::new(process.shutdown.clone());
        let admin = self.client(&self.keys.admin)?;
        // Before the components: the DNS server's rights are among them.
        addons::ensure(&admin, self.plan.dns_service, self.plan.options.node_ip).await.context("DNS Service")?;
        if !self.plan.options.network_policy {
            // Rules of an earlier run would shut out the pods of this one.
            policy::cleanup(&self.plan.policy_table()).await?;
        }
        let ready = self.add_components(&mut tasks, &process, Arc::<LocalRuntime>::clone(&runtime))?;
        let components = async {
            let result = tasks.run().await;
            shutdown.cancel();
            result
        };
        let conduct = async {
            tokio::select! {
                result = self.announce(ready, admin, say) => result?,
                () = shutdown.cancelled() => {}
            }
            shutdown.cancelled().await;
            say(self.farewell());
            process.shutdown.cancel();
            anyhow::Ok(())
        };
        let (components, conducted) = tokio::join!(components, conduct);
        let stopped = self.stop_pods(runtime, say).await;
        components.and(conducted).and(stopped)
    }

    /// What happens now, at the moment in which somebody asks for the end.
    fn farewell(&self) -> String {
        match (self.plan.options.keep_pods, self.left.pods().len()) {
            (true, _) => "shutting down; pods keep running (--keep-pods)".to_owned(),
            (_, 0) => "shutting down".to_owned(),
            (_, count) => format!(
                "shutting down: stopping {}, each within {} s (again to leave them running)",
                drain::pods(count),
                drain::GRACE.as_secs()
            ),
        }
    }

    async fn stop_pods(&self, runtime: Arc<LocalRuntime>, say: &impl Fn(String)) -> anyhow::Result<()> {
        if self.plan.options.keep_pods {
            return Ok(());
        }
        let stopped = drain::stop_pods(runtime, drain::GRACE, say).await.context("stop pods")?;
        drain::unmount_volumes(&self.plan.options.data_dir.join("kubelet")).await?;
        say(format!("{} stopped; the next `coracle up` starts them again", drain::pods(stopped)));
        policy::cleanup(&self.plan.policy_table()).await?;
        Ok(proxy::cleanup(&self.plan.table()).await?)
    }

    /// Tells of each component when it is ready, and of the node, then where to go from here.
    async fn announce(
        &self,
        ready: Vec<(&'static str, ReadyWatch)>,
        admin: kube::Client,
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
        let node = async {
            let api: Api<Node> = Api::all(admin.clone());
            let wait = kube::runtime::wait::await_condition(api, &self.plan.node_name, |node: Option<&Node>| {
                node.is_some_and(nodes::is_ready)
            });
            if tokio::time::timeout(NODE_PATIENCE, wait).await.is_err() {
                say(format!("node {} is not Ready yet: kubectl describe node {0}", self.plan.node_name));
            } else {
                say(ready_line(&format!("node {}", self.plan.node_name), self.started.elapsed()));
            }
        };
        let told = async {
            futures::future::join(futures::future::join_all(waits), node).await;
            let path = self.kubeconfig.display();
            say(format!("\nkubeconfig: {path}\ntry:        kubectl --kubeconfig {path} get pods -A\n"));
        };
        futures::future::join(told, role).await;
        Ok(())
    }

    fn add_components(
        &self,
        tasks: &mut Supervisor,
        process: &Process,
        runtime: Arc<dyn Runtime>,
    ) -> anyhow::Result<Vec<(&'static str, ReadyWatch)>> {
        let mut ready = Vec::new();
        let mut start = |name: &'static str| {
            let process = process.component();
            ready.push((name, process.ready.watch()));
            move |shutdown| Process { shutdown, ..process }
        };
        let (config, client, make) =
            (self.controllers_config()?, self.client(&self.keys.controller_manager)?, start("controller-manager"));
        tasks.add("controller-manager", move |shutdown| controllers::run(config, client, make(shutdown)));
        let (client, make) = (self.client(&self.keys.scheduler)?, start("scheduler"));
        tasks.add("scheduler", move |shutdown| scheduler::run(scheduler::Config::default(), client, make(shutdown)));
        let (config, client, make) =
            (self.kubelet_config(Arc::clone(&runtime))?, self.client(&self.keys.kubelet)?, start("kubelet"));
        tasks.add("kubelet", move |shutdown| kubelet::run(config, client, make(shutdown)));
        let (config, client, make) = (self.proxy_config(), self.client(&self.keys.proxy)?, start("proxy"));
        tasks.add("proxy", move |shutdown| proxy::run(config, client, make(shutdown)));
        if self.plan.options.network_policy {
            let (config, client, make) =
                (self.policy_config(), self.client(&self.keys.network_policy)?, start("network-policy"));
            tasks.add("network-policy", move |shutdown| policy::run(config, client, make(shutdown)));
        }
        let (data_dir, control) = (self.plan.options.data_dir.clone(), Arc::clone(&runtime));
        tasks.add("control socket", move |shutdown| control::serve(data_dir, control, shutdown));
        let listen = vec![SocketAddr::new(self.plan.options.node_ip, 53)];
        let config = dns::Config::new(&self.plan.options.cluster_domain, listen)?;
        let (client, make) = (self.client(&self.keys.dns)?, start("dns"));
        tasks.add("dns", move |shutdown| dns::run(config, client, make(shutdown)));
        let (config, client, make) =
            (self.provisioner_config(), self.client(&self.keys.provisioner)?, start("provisioner"));
        tasks.add("provisioner", move |shutdown| provisioner::run(config, client, make(shutdown)));
        Ok(ready)
    }

    /// A client over the in-memory transport that shows this certificate.
    fn client(&self, identity: &Pair) -> anyhow::Result<kube::Client> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate.as_bytes())
            .context("a certificate of this cluster")?;
        Ok(kube::Client::new(self.server.in_process(Some(Bytes::from(pem.contents))), "default"))
    }

    fn runtime_config(&self) -> anyhow::Result<runtime::local::Config> {
        let options = &self.plan.options;
        let network = runtime::local::NetworkConfig {
            bridge: options.bridge.clone(),
            table: self.plan.pods_table(),
            unmasqueraded: vec![options.cluster_cidr.clone()],
            mtu: 0,
        };
        Ok(runtime::local::Config {
            root: options.data_dir.join("runtime"),
            // Sockets and network namespaces of another cluster on this machine have another bridge's name.
            run: std::path::Path::new("/run").join("coracle").join(&options.bridge),
            insecure_registries: options.insecure_registry.clone(),
            syscall_policy: options.syscall_policy,
            network,
            ..runtime::local::Config::new()?
        })
    }

    fn controllers_config(&self) -> anyhow::Result<controllers::Config> {
        let ca = self.keys.pki.ca();
        let token_key = daemon::TokenKey::from_pem(&self.keys.pki.service_account_key()?);
        let token_key = token_key.context("sa.key holds no usable private key")?;
        Ok(controllers::Config {
            ranges: controllers::Ranges::out_of(&self.plan.options.cluster_cidr),
            root_ca: Some(ca.certificate.clone()),
            load_balancer_pool: self.plan.options.load_balancer_pool.clone(),
            enforced: controllers::Enforced { network_policy: self.plan.options.network_policy },
            signing: Some(controllers::Signing { certificate: ca.certificate.clone(), key: ca.key.clone() }),
            token_key: Some(Arc::new(token_key)),
            ..controllers::Config::default()
        })
    }

    fn kubelet_config(&self, runtime: Arc<dyn Runtime>) -> anyhow::Result<kubelet::Config> {
        let options = &self.plan.options;
        let tls = kubelet::Tls {
            certificate: self.keys.pki.path("kubelet-server.crt"),
            key: self.keys.pki.path("kubelet-server.key"),
            client_ca: self.keys.pki.path("ca.crt"),
            options: daemon::TlsOptions::default(),
        };
        let listen = SocketAddr::new(options.node_ip, options.kubelet_port);
        Ok(kubelet::Config {
            node_name: self.plan.node_name.clone(),
            node_ips: vec![options.node_ip],
            root_dir: options.data_dir.join("kubelet"),
            log_dir: options.data_dir.join("logs"),
            runtime,
            cluster_dns: vec![self.plan.dns_service],
            cluster_domain: options.cluster_domain.clone(),
            resolv_conf: "/etc/resolv.conf".into(),
            registration: kubelet::node::Registration {
                register: true,
                labels: BTreeMap::new(),
                taints: Vec::new(),
                max_pods: MAX_PODS,
                reserved: BTreeMap::new(),
                port: i32::from(options.kubelet_port),
                pod_cidr: None,
                provider_id: None,
            },
            pod_pids_limit: options.pod_max_pids.max(0),
            allowed_sysctls: self.plan.allowed_sysctls.clone(),
            static_pod_path: None,
            max_parallel_image_pulls: None,
            tuning: kubelet::Tuning::default(),
            server: Some(kubelet::server::Config::from_files(listen, &tls)?),
        })
    }

    fn provisioner_config(&self) -> provisioner::Config {
        provisioner::Config {
            node_name: self.plan.node_name.clone(),
            // As the kubelet labels its node.
            hostname: self.plan.node_name.clone(),
            directory: self.plan.options.data_dir.join("volumes"),
        }
    }

    fn policy_config(&self) -> policy::Config {
        policy::Config {
            node_name: self.plan.node_name.clone(),
            bridge: self.plan.options.bridge.clone(),
            table: self.plan.policy_table(),
        }
    }

    fn proxy_config(&self) -> proxy::Config {
        let mut config = proxy::Config::new(self.plan.node_name.clone(), vec![self.plan.options.cluster_cidr.clone()]);
        config.table = self.plan.table();
        // Nothing listens beyond this machine.
        config.health_check_address = self.plan.options.node_ip;
        config
    }
}
