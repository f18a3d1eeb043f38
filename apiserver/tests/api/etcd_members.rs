//! Servers on an etcd of several members, of which some hang or die; and servers that begin together on a new one.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::Config;
use apiserver::testing::TestServer;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use store::Store;
use store::etcd::{EtcdStore, Options};
use tempfile::TempDir;

use crate::client::{Client, expect};
use crate::process::{free_port, is_installed};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";
const PATIENCE: Duration = Duration::from_secs(60);
/// A health check waits two seconds for the store; the rest is the machine's.
const HEALTH: Duration = Duration::from_millis(2900);
/// Without moving, a watch would wait for its connection to be found dead, which takes 40 seconds.
const MOVES: Duration = Duration::from_secs(20);

/// The members of an etcd; they are killed when it is dropped.
struct Etcd {
    directory: TempDir,
    urls: Vec<String>,
    arguments: Vec<Vec<String>>,
    members: Vec<Child>,
}

impl Etcd {
    fn start(size: usize) -> Option<Self> {
        if !is_installed("etcd") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let urls: Vec<String> = (0..size).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let peers: Vec<String> = (0..size).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let all: Vec<String> = peers.iter().enumerate().map(|(member, peer)| format!("{member}={peer}")).collect();
        let arguments = (0..size).map(|member| {
            vec![
                format!("--name={member}"),
                format!("--data-dir={}", directory.path().join(member.to_string()).display()),
                format!("--listen-client-urls={}", urls[member]),
                format!("--advertise-client-urls={}", urls[member]),
                format!("--listen-peer-urls={}", peers[member]),
                format!("--initial-advertise-peer-urls={}", peers[member]),
                format!("--initial-cluster={}", all.join(",")),
                "--unsafe-no-fsync=true".to_owned(),
            ]
        });
        let arguments: Vec<_> = arguments.collect();
        let members = arguments.iter().map(|arguments| spawn(arguments)).collect();
        Some(Self { directory, urls, arguments, members })
    }

    /// A store that begins with this member.
    async fn connect(&self, first: usize) -> Arc<dyn Store> {
        let options = Options { first: Some(first), ..Options::new(self.urls.clone()) };
        let end = Instant::now() + PATIENCE;
        loop {
            match EtcdStore::connect(options.clone()).await {
                Ok(store) => return Arc::new(store),
                Err(err) => assert!(Instant::now() < end, "{err}"),
            }
        }
    }

    fn signal(&self, member: usize, name: &str) {
        let id = self.members[member].id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn kill(&mut self, member: usize) {
        self.members[member].kill().unwrap();
        self.members[member].wait().unwrap();
    }

    fn start_again(&mut self, member: usize) {
        assert!(self.directory.path().exists());
        self.members[member] = spawn(&self.arguments[member]);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("etcd");
    command.args(["--logger=zap", "--log-outputs=/dev/null"]).args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn replica(address: &str) -> Config {
    Config { advertise_address: address.parse().ok(), shares_store: true, ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_begin_together_on_an_empty_etcd_all_come_up() {
    for round in 0..4 {
        let Some(etcd) = Etcd::start(1) else { return };
        let (one, two) = tokio::join!(etcd.connect(0), etcd.connect(0));
        let (one, two) =
            tokio::join!(TestServer::with(replica("192.0.2.1"), one), TestServer::with(replica("192.0.2.2"), two));
        for server in [one, two] {
            let service = expect(Client::admin(&server).get(SERVICE).await, 200);
            assert_eq!(service["spec"]["clusterIP"], "10.96.0.1", "round {round}");
            server.stop().await;
        }
    }
}

/// An answer's status, whether it says when to ask again, and its text; and how long it took.
async fn ask(client: &Client, path: &str) -> (u16, bool, String, Duration) {
    let began = Instant::now();
    let asking = client.raw(Request::get(path).body(Body::empty()).unwrap());
    let answer = tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{path} hangs"));
    let waits = answer.headers().contains_key("retry-after");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, waits, String::from_utf8_lossy(&body).into_owned(), began.elapsed())
}

async fn says_that_it_cannot(client: &Client) {
    let object = format!("{MAPS}/a");
    for path in [object.as_str(), MAPS, "/api/v1/namespaces"] {
        let (status, waits, body, took) = ask(client, path).await;
        assert!(matches!(status, 503 | 504) && waits, "{path}: {status}, {body}");
        assert!(took < Duration::from_secs(15), "{path}: {took:?}");
    }
    let (status, _, body, took) = ask(client, &format!("{MAPS}?timeout=1s")).await;
    assert!(matches!(status, 503 | 504) && took < Duration::from_secs(3), "{status} after {took:?}: {body}");
    for path in ["/livez", "/readyz", "/healthz"] {
        let (status, _, body, took) = ask(client, path).await;
        assert!(status == 500 && body.contains("[-]etcd failed"), "{path}: {status}, {body}");
        assert!(took < HEALTH, "{path}: {took:?}");
    }
}

async fn recovers(client: &Client) {
    let end = Instant::now() + PATIENCE;
    let object = format!("{MAPS}/a");
    for path in [object.as_str(), MAPS, "/livez", "/readyz"] {
        while ask(client, path).await.0 != 200 {
            assert!(Instant::now() < end, "{path} does not recover");
        }
    }
    let mut events = client.watch(&format!("{MAPS}?watch=true&resourceVersion=0")).await;
    let after = json!({"metadata": {"name": "after"}});
    while !matches!(client.post(MAPS, &after).await.0.as_u16(), 201 | 409) {
        assert!(Instant::now() < end, "it does not write");
    }
    while events.soon().await.unwrap()["object"]["metadata"]["name"] != "after" {}
    expect(client.delete(&format!("{MAPS}/after")).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_a_server_says_so_soon_and_works_again_with_one() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let server = TestServer::with(replica("192.0.2.1"), etcd.connect(0).await).await;
    let client = Client::admin(&server);
    expect(client.post(MAPS, &json!({"metadata": {"name": "a"}})).await, 201);

    for member in [0, 1] {
        etcd.kill(member);
    }
    says_that_it_cannot(&client).await;
    for member in [0, 1] {
        etcd.start_again(member);
    }
    recovers(&client).await;

    for member in [1, 2] {
        etcd.signal(member, "STOP");
    }
    says_that_it_cannot(&client).await;
    for member in [1, 2] {
        etcd.signal(member, "CONT");
    }
    recovers(&client).await;
}

async fn keep_asking(client: &Client) {
    loop {
        client.get(MAPS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_of_clients_go_on_when_a_member_hangs() {
    let Some(etcd) = Etcd::start(3) else { return };
    let server = TestServer::with(replica("192.0.2.1"), etcd.connect(0).await).await;
    let other = TestServer::with(replica("192.0.2.2"), etcd.connect(1).await).await;
    let mut events = Client::admin(&server).watch(&format!("{MAPS}?watch=true&resourceVersion=0")).await;
    etcd.signal(0, "STOP");
    let other = Client::admin(&other);
    let end = Instant::now() + PATIENCE;
    // Where the member that hangs led the others, they first agree on another; a write before that may be done, or not.
    while !matches!(other.post(MAPS, &json!({"metadata": {"name": "b"}})).await.0.as_u16(), 201 | 409) {
        assert!(Instant::now() < end, "the other server cannot write");
    }
    let written = Instant::now();
    // The server itself asks the store now and then, as for its lease.
    let client = Client::admin(&server);
    tokio::select! {
        () = async { while events.soon().await.unwrap()["object"]["metadata"]["name"] != "b" {} } => {}
        () = keep_asking(&client) => {}
    }
    assert!(written.elapsed() < MOVES, "{:?}", written.elapsed());
    etcd.signal(0, "CONT");
}
