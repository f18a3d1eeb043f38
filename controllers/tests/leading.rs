//! Processes of the controller manager that compete for its lease, against a real API server in this process: one that is
//! stopped and goes on writes nothing that its successor has done by then, and of one that ends in whatever way the lease
//! passes on at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::testing::TestServer;
use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde_json::{from_value, json};
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use store::embedded::EmbeddedStore;
use tempfile::TempDir;
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
const REPLICAS: usize = 300;

/// An API server that processes can reach.
struct Server {
    client: Client,
    kubeconfig: PathBuf,
    _directory: TempDir,
    _server: TestServer,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tokens = directory.path().join("tokens.csv");
        std::fs::write(&tokens, "t,admin,1,\"system:masters\"\n").unwrap();
        let config = apiserver::Config {
            token_auth_file: Some(tokens),
            certificate_directory: directory.path().join("certs"),
            ..apiserver::Config::default()
        };
        let mut server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        let address = server.listen().await;
        let kubeconfig = directory.path().join("kubeconfig");
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": format!("https://{address}"), "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        std::fs::write(&kubeconfig, file.to_string()).unwrap();
        let client = Client::new(server.service(), "default");
        Self { client, kubeconfig, _directory: directory, _server: server }
    }

    /// Waits until another than `last` holds the lease, and returns who does.
    async fn next_holder(&self, last: &str) -> String {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-system");
        let end = Instant::now() + PATIENCE;
        loop {
            let lease = leases.get_opt("kube-controller-manager").await.unwrap();
            let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
            if !holder.is_empty() && holder != last {
                return holder;
            }
            assert!(Instant::now() < end, "nobody follows {last:?}");
            sleep(PAUSE).await;
        }
    }
}

/// A controller manager that only looks after ReplicaSets.
struct Manager(Child);

impl Manager {
    fn start(kubeconfig: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controller-manager"));
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.args(["--secure-port=0", "--controllers=replicaset-controller"]).args(flags);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    async fn ends(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "it does not end");
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Counts the pods that were ever created until there are so many, and then for as long as `also` takes.
async fn created(pods: &Api<Pod>, at_least: usize, also: impl Future<Output = ()>) -> usize {
    let (mut seen, mut version) = (HashSet::new(), "0".to_owned());
    let mut also = std::pin::pin!(also);
    let mut events = Box::pin(pods.watch(&WatchParams::default(), &version).await.unwrap());
    loop {
        let event = tokio::select! {
            event = events.try_next() => event.unwrap(),
            () = &mut also, if seen.len() >= at_least => return seen.len(),
        };
        match event {
            Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod)) => {
                version = pod.resource_version().unwrap();
                seen.insert(pod.uid().unwrap());
            }
            Some(_) => {}
            None => events = Box::pin(pods.watch(&WatchParams::default(), &version).await.unwrap()),
        }
    }
}

async fn at_least(pods: &Api<Pod>, count: usize) {
    let end = Instant::now() + PATIENCE;
    while pods.list_metadata(&Default::default()).await.unwrap().items.len() < count {
        assert!(Instant::now() < end, "there are never {count} pods");
    }
}

fn replicas() -> ReplicaSet {
    let labels = json!({"app": "a"});
    from_value(json!({
        "metadata": {"name": "a"},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_and_goes_on_writes_nothing_any_more() {
    let server = Server::start().await;
    let times =
        ["--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=500ms"];
    let mut first = Manager::start(&server.kubeconfig, &times);
    let holder = server.next_holder("").await;
    let _second = Manager::start(&server.kubeconfig, &times);

    let pods: Api<Pod> = Api::default_namespaced(server.client.clone());
    let sets: Api<ReplicaSet> = Api::default_namespaced(server.client.clone());
    sets.create(&PostParams::default(), &replicas()).await.unwrap();
    at_least(&pods, 3).await;
    first.signal("STOP");
    assert!(
        pods.list_metadata(&Default::default()).await.unwrap().items.len() < REPLICAS,
        "it was stopped in its work"
    );

    server.next_holder(&holder).await;
    let goes_on = async {
        first.signal("CONT");
        first.ends().await;
    };
    assert_eq!(created(&pods, REPLICAS, goes_on).await, REPLICAS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_passes_on_within_three_seconds_however_a_process_ends() {
    if std::fs::create_dir_all("/run/coracle/presence").is_err() {
        assert!(std::env::var_os("E2E_REQUIRED").is_none(), "/run/coracle cannot be written");
        eprintln!("SKIP: /run/coracle cannot be written: of a process that is killed nobody hears");
        return;
    }
    let server = Server::start().await;
    let mut leader = Manager::start(&server.kubeconfig, &[]);
    let mut holder = server.next_holder("").await;
    for signal in ["TERM", "INT", "KILL"] {
        let next = Manager::start(&server.kubeconfig, &[]);
        // It has seen who holds the lease.
        sleep(Duration::from_secs(1)).await;
        leader.signal(signal);
        let began = Instant::now();
        holder = server.next_holder(&holder).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{signal}: {:?}", began.elapsed());
        leader.ends().await;
        leader = next;
    }
}
