//! What runs over a ready API server: the components, the node, and other nodes on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use apiserver::ApiServer;
use bytes::Bytes;
use daemon::{Process, ReadyWatch, Supervisor};
use facts::nodes;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kubelet::Ending;
use runtime::Runtime;
use runtime::local::LocalRuntime;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ready_line;
use crate::drain::Left;
use crate::fleet::Fleet;
use crate::invitation::{self, Invitation};
use crate::keys::{Keys, NodeKeys};
use crate::node::NodePlan;
use crate::options::Plan;
use crate::pki::Pair;
use crate::{addons, control, name_servers};

/// How long the node may take to become Ready before `up` says that it waits.
const NODE_PATIENCE: Duration = Duration::from_secs(30);

/// The components over a ready API server.
pub(super) struct Cluster<'a> {
    pub(super) plan: &'a Plan,
    pub(super) node: NodePlan,
    pub(super) keys: &'a Keys,
    pub(super) node_keys: &'a NodeKeys,
    pub(super) server: &'a ApiServer,
    /// For the user.
    pub(super) kubeconfig: PathBuf,
    pub(super) started: Instant,
    pub(super) left: Arc<Left>,
    /// The other nodes on this machine.
    pub(super) fleet: Fleet,
    /// Whether other machines can reach the API server.
    pub(super) is_reached: bool,
}

impl Cluster<'_> {
    /// Whether there can be other nodes.
    fn may_grow(&self) -> bool {
        self.is_reached || !self.fleet.is_empty()
    }

    pub(super) async fn run(&self, shutdown: &CancellationToken, say: &impl Fn(String)) -> anyhow::Result<()> {
        let runtime = Arc::new(LocalRuntime::open(self.node.runtime()?).await.context("container runtime")?);
        let options = &self.node.options;
        let name = &self.plan.options.name;
        let command = if name.is_default() { "up".to_owned() } else { format!("up --name {name}") };
        self.left.watch(&command, &options.data_dir, &options.bridge, Arc::clone(&runtime));
        let process = Process::new(CancellationToken::new());
        let mut tasks = Supervisor::new(process.shutdown.clone());
        let admin = self.client(&self.keys.admin, "coracle")?;
        // Before the components: the DNS server's rights are among them.
        let dns_server = Some(self.plan.node_ip()).filter(|_| !self.may_grow());
        addons::ensure(&admin, self.plan.dns_service, dns_server).await.context("DNS Service")?;
        self.node.prepare().await?;
        let invitation = if self.may_grow() { Some(self.invite(&admin).await?) } else { None };
        let ending = Ending::default();
        let ready = self.add_components(
            &mut tasks,
            &process,
            Arc::<LocalRuntime>::clone(&runtime),
            ending.clone(),
            shutdown.clone(),
        )?;
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
            // While there is still everything that pods may need to end, and an API server that hears from them.
            let own = self.node.end_pods(&ending, &process.shutdown, say);
            let (fleet, ended) = tokio::join!(self.fleet.stop(), own);
            process.shutdown.cancel();
            shutdown.cancel();
            (result.and(fleet), ended)
        };
        let (components, (conducted, ended)) = tokio::join!(components, conduct);
        let stopped = self.node.stop(runtime, ended, say).await;
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
        ending: Ending,
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
            self.kubelet_config(Arc::clone(&runtime), ending)?,
            self.client(&self.node_keys.kubelet, "kubelet")?,
            start("kubelet"),
        );
        tasks.add("kubelet", move |shutdown| kubelet::run(config, client, make(shutdown)));
        if self.may_grow() && self.node.has_routes() {
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
        let end = control::End { asked: end, within: self.node.options.end() };
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
            enforced: controllers::Enforced { network_policy: self.plan.options.node.enforces_policies() },
            signing: Some(controllers::Signing { certificate: ca.certificate.clone(), key: ca.key.clone() }),
            token_key: Some(Arc::new(token_key)),
            approve_serving: self.may_grow().then(|| [self.plan.services.clone(), self.plan.pods.clone()].concat()),
            ..controllers::Config::default()
        })
    }

    fn kubelet_config(&self, runtime: Arc<dyn Runtime>, ending: Ending) -> anyhow::Result<kubelet::Config> {
        let tls = kubelet::Tls {
            certificate: self.keys.pki.path("kubelet-server.crt"),
            key: self.keys.pki.path("kubelet-server.key"),
            client_ca: self.keys.pki.path("ca.crt"),
            options: daemon::TlsOptions::default(),
        };
        let server = kubelet::server::Config::from_files(self.node.kubelet_address(), &tls)?;
        Ok(self.node.kubelet(runtime, server, ending))
    }
}
