//! A whole cluster in memory, for tests of operators and controllers.
//!
//! Everything is real but the containers: they run in a fake runtime that can be told how they behave.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = cluster::TestCluster::start().await?;
//! let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::default_namespaced(cluster.client());
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use apiserver::testing::TestServer;
use daemon::{Process, Supervisor, TokenKey};
use runtime::fake::FakeRuntime;
use store::embedded::EmbeddedStore;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kubeconfig;
use crate::pki::{Identity, Pki, PkiError};

/// Name of the one node.
pub const NODE: &str = "test-node";

/// A running cluster of one node. Dropping it stops it; [`TestCluster::stop`] waits until it has stopped.
pub struct TestCluster {
    server: TestServer,
    runtime: Arc<FakeRuntime>,
    shutdown: CancellationToken,
    components: JoinHandle<anyhow::Result<()>>,
    pki: Pki,
    /// Holds keys and volumes until the end.
    directory: TempDir,
}

impl TestCluster {
    /// Starts a cluster and waits until its components are ready.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(Vec::new(), scheduler::Config::default()).await
    }

    /// The same with what `--runtime-config` of the API server says, and with this configuration of the scheduler.
    pub async fn with(runtime_config: Vec<apiserver::Served>, scheduler: scheduler::Config) -> anyhow::Result<Self> {
        let directory = TempDir::new().context("make a directory for keys and volumes")?;
        let pki = Pki::open(&directory.path().join("pki"))?;
        let config = apiserver::Config { runtime_config, ..server_config(&pki)? };
        let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        let runtime = Arc::new(FakeRuntime::new());
        let process = Process::new(CancellationToken::new());
        let mut tasks = Supervisor::new(process.shutdown.clone());
        let mut ready = Vec::new();
        let mut start = |process: &Process| {
            let process = process.component();
            ready.push(process.ready.watch());
            move |shutdown| Process { shutdown, ..process }
        };
        let client = |name| kube::Client::new(server.service().named(name), "default");
        let (config, access, make) = (controllers_config(&pki)?, client("kube-controller-manager"), start(&process));
        tasks.add("controller-manager", move |shutdown| controllers::run(config, access, make(shutdown)));
        let (access, make) = (client("kube-scheduler"), start(&process));
        tasks.add("scheduler", move |shutdown| scheduler::run(scheduler, access, make(shutdown)));
        let (config, access, make) =
            (kubelet_config(&directory, Arc::clone(&runtime)), client("kubelet"), start(&process));
        tasks.add("kubelet", move |shutdown| kubelet::run(config, access, make(shutdown)));
        let components = tokio::spawn(tasks.run());
        for mut watch in ready {
            watch.ready().await.context("a component of the cluster ended at once")?;
        }
        Ok(Self { server, runtime, shutdown: process.shutdown, components, pki, directory })
    }

    /// A client with all rights (`system:masters`), over the in-memory transport.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.server.service(), "default")
    }

    /// A client of another user, subject to RBAC.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> kube::Client {
        kube::Client::new(self.server.service_as(user, groups), "default")
    }

    /// Serves TLS on a free port of the loopback interface and writes a kubeconfig with all rights, for clients in other
    /// processes: kubectl, or an operator in any language. The file is gone when the cluster is dropped.
    pub async fn kubeconfig(&mut self) -> anyhow::Result<PathBuf> {
        let address = self.server.listen().await;
        let admin = self.pki.client("admin", Identity { user: "test-admin", group: "system:masters" })?;
        let (server, ca) = (format!("https://{address}"), &self.pki.ca().certificate);
        let path = self.directory.path().join("kubeconfig");
        kubeconfig::write(&path, &kubeconfig::kubeconfig("test", &server, ca, "test-admin", &admin))?;
        Ok(path)
    }

    /// The containers: make them exit, fail or not start.
    pub fn runtime(&self) -> &FakeRuntime {
        &self.runtime
    }

    /// The API server, for a port that other processes can connect to.
    pub fn server(&self) -> &TestServer {
        &self.server
    }

    /// Stops the cluster; an error is one that ended a component before.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        (&mut self.components).await.context("the components of the cluster")?
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Certificates for loopback, should the test let other processes in ([`TestServer::listen`]).
fn server_config(pki: &Pki) -> anyhow::Result<apiserver::Config> {
    pki.server(
        "apiserver",
        Identity { user: "kube-apiserver", group: "" },
        &["localhost"],
        &[Ipv4Addr::LOCALHOST.into()],
    )?;
    pki.service_account_key()?;
    Ok(apiserver::Config {
        service_account_signing_key: Some(pki.path("sa.key")),
        tls_certificate: Some(pki.path("apiserver.crt")),
        tls_private_key: Some(pki.path("apiserver.key")),
        client_ca: Some(pki.path("ca.crt")),
        ..apiserver::Config::default()
    })
}

fn controllers_config(pki: &Pki) -> Result<controllers::Config, PkiError> {
    let token_key = TokenKey::from_pem(&pki.service_account_key()?).map(Arc::new);
    Ok(controllers::Config {
        token_key,
        ranges: controllers::Ranges::out_of(vec!["10.244.0.0/16".to_owned()]),
        root_ca: Some(pki.ca().certificate.clone()),
        ..controllers::Config::default()
    })
}

fn kubelet_config(directory: &TempDir, runtime: Arc<FakeRuntime>) -> kubelet::Config {
    kubelet::Config {
        node_name: NODE.to_owned(),
        node_ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        root_dir: directory.path().join("kubelet"),
        log_dir: directory.path().join("logs"),
        runtime,
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: "/etc/resolv.conf".into(),
        registration: kubelet::node::Registration {
            register: true,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            capacity: BTreeMap::new(),
            reserved: BTreeMap::new(),
            port: 0,
            pod_cidr: None,
            provider_id: None,
        },
        certificates: kubelet::certificates::Certificates::default(),
        ending: kubelet::Ending::default(),
        hollow: false,
        cgroup_root: String::new(),
        pod_pids_limit: 0,
        allowed_sysctls: kubelet::Allowlist::safe(),
        static_pod_path: None,
        max_parallel_image_pulls: None,
        tuning: kubelet::Tuning::default(),
        server: None,
    }
}
