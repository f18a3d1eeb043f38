use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::testing::TestServer;
use k8s_openapi::api::core::v1::ConfigMap;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;

async fn refusal(content: Option<&str>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    if let Some(content) = content {
        std::fs::write(&path, content).unwrap();
    }
    let err = connect(Some(&path), "test").await.err().expect("refused");
    format!("{err}: {}", err.source().unwrap())
}

#[tokio::test]
async fn a_missing_or_broken_kubeconfig_is_named() {
    let missing = refusal(None).await;
    assert!(missing.contains("/config") && missing.contains("No such file"), "{missing}");
    let garbage = refusal(Some("{{{")).await;
    assert!(garbage.contains("parse"), "{garbage}");
    let empty = refusal(Some("apiVersion: v1\nkind: Config\n")).await;
    assert!(empty.contains("use kubeconfig") && empty.contains("context"), "{empty}");
}

#[tokio::test]
async fn a_plain_kubeconfig_makes_a_client_without_contacting_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(
        &path,
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
         clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n",
    )
    .unwrap();
    assert_eq!(connect(Some(&path), "coracle-test/1").await.unwrap().default_namespace(), "default");
    assert!(matches!(connect(Some(&path), "bad\nagent").await, Err(Error::UserAgent(_))));
}

/// What happens to the connections that a proxy carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Bytes are no longer carried, and nobody is told.
    Forgotten,
    Reset,
}

/// A TCP proxy whose connections can be made to fail; new ones work.
struct Proxy {
    address: SocketAddr,
    fates: broadcast::Sender<Fate>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fates = broadcast::Sender::new(4);
        let strike = fates.clone();
        let task = tokio::spawn(async move {
            let mut carried = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(server).await.unwrap();
                carried.spawn(carry(client, server, strike.subscribe()));
            }
        });
        Self { address, fates, _task: AbortOnDropHandle::new(task) }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut fates: broadcast::Receiver<Fate>) {
    tokio::select! {
        _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        Ok(fate) = fates.recv() => match fate {
            Fate::Forgotten => std::future::pending().await,
            Fate::Reset => client.set_zero_linger().unwrap(),
        }
    }
}

/// An informer of ConfigMaps that watches through a proxy.
struct Follower {
    server: TestServer,
    proxy: Proxy,
    names: mpsc::Receiver<String>,
    _directory: TempDir,
    _task: AbortOnDropHandle<()>,
}

impl Follower {
    async fn start(patience: Patience) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tokens = directory.path().join("tokens.csv");
        std::fs::write(&tokens, "t,admin,1,\"system:masters\"\n").unwrap();
        let config = apiserver::Config {
            token_auth_file: Some(tokens),
            certificate_directory: directory.path().join("certs"),
            ..apiserver::Config::default()
        };
        let mut server = TestServer::with(config, Arc::new(store::embedded::EmbeddedStore::in_memory())).await;
        let proxy = Proxy::to(server.listen().await).await;
        let path = directory.path().join("kubeconfig");
        let file = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://{}', insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n",
            proxy.address
        );
        std::fs::write(&path, file).unwrap();
        let client = transport::client(from_file(&path).await.unwrap(), patience, None).unwrap();
        let informers = crate::Informers::new(client);
        let (seen, names) = mpsc::channel(1000);
        let maps = informers.with_fields::<ConfigMap>("metadata.namespace=default");
        maps.on_event(move |event| seen.try_send(event.key().name).unwrap());
        let task = tokio::spawn(async move { informers.run(CancellationToken::new()).await.unwrap() });
        maps.synced().await;
        Self { server, proxy, names, _directory: directory, _task: AbortOnDropHandle::new(task) }
    }

    /// Creates a ConfigMap past the proxy and waits until it arrives through it.
    async fn sees(&mut self, name: &str) {
        let direct = kube::Client::new(self.server.service(), "default");
        let maps: kube::Api<ConfigMap> = kube::Api::default_namespaced(direct);
        let metadata = kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
        maps.create(&Default::default(), &ConfigMap { metadata, ..Default::default() }).await.unwrap();
        let arrived = async { while self.names.recv().await.unwrap() != name {} };
        // Far less than the 295 s after which a watch gives up by itself.
        tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap_or_else(|_| panic!("{name} never arrived"));
    }
}

#[tokio::test]
async fn a_watch_outlives_a_connection_that_leads_nowhere() {
    let patience = Patience { silence: Duration::from_millis(300), answer: Duration::from_millis(200) };
    let mut follower = Follower::start(patience).await;
    follower.sees("before").await;
    assert_eq!(follower.proxy.fates.send(Fate::Forgotten).unwrap(), 1, "all requests share a connection");
    follower.sees("after").await;
}

#[tokio::test]
async fn a_watch_outlives_a_reset_at_once() {
    // Pings do not help here, and are not needed.
    let mut follower = Follower::start(Patience { silence: Duration::from_secs(3600), ..Patience::default() }).await;
    for round in 0..3 {
        follower.proxy.fates.send(Fate::Reset).unwrap();
        follower.sees(&format!("after-{round}")).await;
    }
}
