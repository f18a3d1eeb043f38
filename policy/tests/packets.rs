//! NetworkPolicies and packets: the enforcement against a real API server in the same process, and real connections between
//! network namespaces.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apiserver::testing::TestServer;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use policy::Config;
use serde_json::{Value, from_value, json};
use tokio_util::sync::CancellationToken;
use world::{Inside, World, can_run, echoes, nft, sh};

const PATIENCE: Duration = Duration::from_secs(60);
const NODE: &str = "here";

struct Cluster {
    world: World,
    client: kube::Client,
    table: String,
    enforcement: Option<(CancellationToken, tokio::task::JoinHandle<Result<(), policy::Error>>)>,
    ready: Option<daemon::ReadyWatch>,
    _server: TestServer,
}

impl Cluster {
    async fn new() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let world = World::new();
        let server = TestServer::start().await;
        let client = kube::Client::new(server.service(), "default");
        let table = format!("{}-policy", world.bridge);
        let mut cluster = Self { world, client, table, enforcement: None, ready: None, _server: server };
        cluster.start();
        Some(cluster)
    }

    fn start(&mut self) {
        let process = daemon::Process::new(CancellationToken::new());
        let shutdown = process.shutdown.clone();
        self.ready = Some(process.ready.watch());
        let config = Config { node_name: NODE.into(), bridge: self.world.bridge.clone(), table: self.table.clone() };
        self.enforcement = Some((shutdown, tokio::spawn(policy::run(config, self.client.clone(), process))));
    }

    async fn stop(&mut self) {
        let (shutdown, task) = self.enforcement.take().unwrap();
        shutdown.cancel();
        task.await.unwrap().unwrap();
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// A pod of this node that has a namespace of its own, and serves 80, which it calls `web`, and 81.
    async fn pod(&mut self, name: &str, last: u8) -> Inside {
        let inside = self.world.pod(last);
        inside.serve(&[80, 81]);
        self.announce(name, &inside).await;
        inside
    }

    /// Tells the API of a pod.
    async fn announce(&self, name: &str, inside: &Inside) {
        let pod = json!({
            "metadata": {"name": name, "labels": {"pod": name}},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 80}]}]},
        });
        self.pods().create(&PostParams::default(), &from_value(pod).unwrap()).await.unwrap();
        self.say(name, "Running", inside).await;
    }

    async fn say(&self, name: &str, phase: &str, inside: &Inside) {
        let ip = inside.address;
        let status = json!({"status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}]}});
        self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    async fn apply(&self, name: &str, spec: Value) {
        let policies: Api<NetworkPolicy> = Api::default_namespaced(self.client.clone());
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec});
        policies.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(policy)).await.unwrap();
    }

    async fn remove(&self, name: &str) {
        let policies: Api<NetworkPolicy> = Api::default_namespaced(self.client.clone());
        policies.delete(name, &DeleteParams::default()).await.unwrap();
    }

    fn is_ready(&self) -> Result<(), &'static str> {
        self.ready.as_ref().unwrap().now()
    }

    fn has_table(&self) -> bool {
        sh(&format!("nft list table ip {}", self.table)).is_ok()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}", sh(&format!("nft list table ip {}", self.table)));
        }
        for family in ["ip", "ip6", "bridge"] {
            let _gone = sh(&format!("nft delete table {family} {}", self.table));
        }
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

fn isolated(pod: &str, rest: Value) -> Value {
    let mut spec = json!({"podSelector": {"matchLabels": {"pod": pod}}});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    spec
}

fn peer(pod: &str) -> Value {
    json!([{"podSelector": {"matchLabels": {"pod": pod}}}])
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_speak_to_whom_is_as_the_policies_say() {
    let Some(mut cluster) = Cluster::new().await else { return };
    let (db, app, evil) = (cluster.pod("db", 2).await, cluster.pod("app", 3).await, cluster.pod("evil", 4).await);
    let node = cluster.world.node();
    assert!(app.reaches(&db, 80) && evil.reaches(&db, 80) && evil.reaches_by_udp(&db, 80), "without policies");
    assert!(!cluster.has_table());

    cluster.apply("db", isolated("db", json!({}))).await;
    let took = eventually("nobody reaches it", || !app.reaches(&db, 80)).await;
    eprintln!("the first policy held after {took:?}");
    assert!(!evil.reaches(&db, 80) && !evil.reaches_by_udp(&db, 80));
    assert!(node.reaches(&db, 80) && db.reaches(&node_server(&node), 7780), "its own node and it reach each other");
    assert!(db.reaches(&app, 80), "it reaches others, and hears their answers");
    assert!(db.reaches(&db, 80), "and itself");
    assert!(app.reaches(&evil, 80), "others are not meant");

    let ports = json!([{"port": "web"}, {"port": 81, "protocol": "UDP"}]);
    cluster.apply("db", isolated("db", json!({"ingress": [{"from": peer("app"), "ports": ports}]}))).await;
    eventually("the app reaches it", || app.reaches(&db, 80)).await;
    assert!(!app.reaches(&db, 81) && app.reaches_by_udp(&db, 81) && !app.reaches_by_udp(&db, 80));
    assert!(!evil.reaches(&db, 80) && !evil.reaches_by_udp(&db, 81));

    // An open connection ends with the permission for it.
    let mut open = app.connect((db.address, 80)).unwrap();
    assert!(echoes(&mut open));
    let block = json!([{"ipBlock": {"cidr": format!("{}/24", cluster.world.address(0)), "except": [format!("{}/32", app.address)]}}]);
    cluster.apply("db", isolated("db", json!({"ingress": [{"from": block}]}))).await;
    eventually("all but the app reach it", || evil.reaches(&db, 81)).await;
    assert!(!app.reaches(&db, 80) && !echoes(&mut open));

    let out =
        json!({"policyTypes": ["Egress"], "egress": [{"to": peer("app"), "ports": [{"port": 80, "endPort": 80}]}]});
    cluster.apply("evil", isolated("evil", out)).await;
    eventually("it may no longer go there", || !evil.reaches(&db, 80)).await;
    assert!(evil.reaches(&app, 80) && !evil.reaches(&app, 81) && evil.reaches(&node_server(&node), 7780));

    // What a pod sends to another by itself does not pass, whether or not the kernel shows bridged packets to these rules.
    cluster.world.bypass(&evil, &db);
    let through = u64::from(evil.reaches(&db, 80)) + u64::from(evil.reaches_by_udp(&db, 80));
    faults::Attack::new("network policy: frames from pod to pod past the node").tried(2, through).record();
    assert_eq!(through, 0);

    for name in ["db", "evil"] {
        cluster.remove(name).await;
    }
    eventually("the rules go with the last policy", || !cluster.has_table()).await;
    assert!(evil.reaches(&db, 80) && app.reaches(&db, 81));
    cluster.stop().await;
}

/// The node as somewhere to connect to: port 7780.
fn node_server(node: &Inside) -> Inside {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| node.serve(&[7780]));
    node.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_nobody_past_a_policy() {
    let Some(mut cluster) = Cluster::new().await else { return };
    let (db, app, evil) = (cluster.pod("db", 2).await, cluster.pod("app", 3).await, cluster.pod("evil", 4).await);
    cluster.apply("db", isolated("db", json!({"ingress": [{"from": peer("app"), "ports": [{"port": 80}]}]}))).await;
    eventually("it is isolated", || !evil.reaches(&db, 80)).await;
    let (table, service) = (format!("{}-services", cluster.world.bridge), cluster.world.address(200));
    // As the proxy has it, with the caller's own way back to itself.
    nft(&format!(
        "table ip {table} {{
           chain prerouting {{ type nat hook prerouting priority -100 ; ip daddr {service} tcp dport 8080 dnat to {db}:80 ; }}
           chain postrouting {{ type nat hook postrouting priority 100 ; ct status dnat ip saddr {db} ip daddr {db} masquerade ; }}
         }}",
        db = db.address
    ));
    let to = |from: &Inside| from.connect((std::net::IpAddr::from(service), 8080)).is_some();
    let (allowed, forbidden, own) = (to(&app), to(&evil), to(&db));
    sh(&format!("nft delete table ip {table}")).unwrap();
    assert!(allowed && !forbidden && own, "app {allowed}, evil {forbidden}, itself {own}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_have_the_rights_of_the_pods_that_have_them_now() {
    let Some(mut cluster) = Cluster::new().await else { return };
    let (db, app) = (cluster.pod("db", 2).await, cluster.pod("app", 3).await);
    cluster.apply("db", isolated("db", json!({"ingress": [{"from": peer("app")}]}))).await;
    let stranger = cluster.world.pod(4);
    stranger.serve(&[80]);
    eventually("the stranger is nobody", || !stranger.reaches(&app, 80)).await;
    assert!(app.reaches(&db, 80) && !app.reaches(&stranger, 80), "before its policies are known nobody reaches a pod");
    assert!(cluster.world.node().reaches(&stranger, 80) && stranger.reaches(&node_server(&cluster.world.node()), 7780));
    cluster.announce("stranger", &stranger).await;
    eventually("the stranger is somebody", || stranger.reaches(&app, 80)).await;
    assert!(!stranger.reaches(&db, 80));

    // The app ends, and its address is given to another pod, of which the API hears later.
    let next = cluster.world.pod(5);
    cluster.say("app", "Succeeded", &app).await;
    eventually("a pod that has ended has no rights", || !app.reaches(&db, 80)).await;
    let next = cluster.world.move_address(&app, next);
    let mut through = 0;
    for _ in 0..3 {
        through += u64::from(next.reaches(&db, 80));
    }
    cluster.announce("next", &next).await;
    eventually("the next one is somebody", || next.reaches(&stranger, 80)).await;
    through += u64::from(next.reaches(&db, 80));
    assert_eq!(through, 0);
    faults::Attack::new("network policy: an address of a pod with more rights, used again").tried(4, through).record();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_outlive_the_process_and_come_back_when_they_are_removed() {
    let Some(mut cluster) = Cluster::new().await else { return };
    let (db, app) = (cluster.pod("db", 2).await, cluster.pod("app", 3).await);
    cluster.apply("db", isolated("db", json!({}))).await;
    eventually("it is isolated", || !app.reaches(&db, 80)).await;
    let list = format!("nft -s list table ip {}", cluster.table);
    let before = sh(&list).unwrap();
    let mut slowest = Duration::ZERO;
    for removal in ["delete table ip", "flush table ip"] {
        sh(&format!("nft {removal} {}", cluster.table)).unwrap();
        slowest = slowest.max(eventually(removal, || sh(&list).is_ok_and(|now| now == before)).await);
    }
    sh(&format!("nft flush chain ip {} forward", cluster.table)).unwrap();
    slowest = slowest.max(eventually("the chain", || sh(&list).is_ok_and(|now| now == before)).await);
    faults::Attack::new("network policy: rules removed from outside")
        .tried(3, 0)
        .figure("slowest repair, ms", slowest.as_millis())
        .record();
    cluster.stop().await;
    assert!(!app.reaches(&db, 80), "nobody keeps them, and they hold");
    cluster.start();
    cluster.apply("db", isolated("db", json!({"ingress": [{"from": peer("app")}]}))).await;
    eventually("the next process goes on", || app.reaches(&db, 80)).await;
    cluster.stop().await;
    cluster.remove("db").await;
    policy::cleanup(&cluster.table).await.unwrap();
    assert!(!cluster.has_table());
}

/// Somebody who owns a table of nftables, and lets nobody else change it.
struct Owner(std::process::Child);

impl Owner {
    fn of(table: &str) -> Self {
        let mut nft = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let text = format!("add table ip {table} {{ flags owner; }}\n");
        nft.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        Self(nft)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Its table goes with it.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nft_refuses_the_rules_the_enforcement_is_not_ready() {
    const REFUSED: Result<(), &str> = Err("nft refuses the rules of network policies");
    let Some(mut cluster) = Cluster::new().await else { return };
    let (db, app) = (cluster.pod("db", 2).await, cluster.pod("app", 3).await);
    eventually("without policies it is ready", || cluster.is_ready().is_ok()).await;
    let owner = Owner::of(&cluster.table);
    eventually("the table is somebody else's", || cluster.has_table()).await;
    cluster.apply("db", isolated("db", json!({}))).await;
    eventually("it tells that it cannot work", || cluster.is_ready() == REFUSED).await;
    assert!(app.reaches(&db, 80), "that is what it tells of");
    drop(owner);
    eventually("it is ready again", || cluster.is_ready().is_ok()).await;
    assert!(!app.reaches(&db, 80), "and then the policy holds");
    cluster.remove("db").await;
    eventually("the rules go", || !cluster.has_table()).await;
    // Nor does it end where there is nothing to enforce and the table cannot be removed.
    cluster.stop().await;
    let owner = Owner::of(&cluster.table);
    eventually("the table is somebody else's again", || cluster.has_table()).await;
    cluster.start();
    eventually("it tells so", || cluster.is_ready() == REFUSED).await;
    drop(owner);
    eventually("it is ready in the end", || cluster.is_ready().is_ok()).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_policy_keeps_others_from_being_enforced() {
    let Some(mut cluster) = Cluster::new().await else { return };
    let (db, app) = (cluster.pod("db", 2).await, cluster.pod("app", 3).await);
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let label = json!({"metadata": {"labels": {"a.b/c": "d"}}});
    namespaces.patch("default", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let blocks: Vec<Value> = (0..2000)
        .map(|n| {
            let cidr = format!("10.{}.{}.0/24", n / 256, n % 256);
            json!({"ipBlock": {"cidr": cidr, "except": [format!("10.{}.{}.7/32", n / 256, n % 256)]}})
        })
        .collect();
    let ports: Vec<Value> = (1..2000).map(|port| json!({"port": port * 2, "endPort": port * 2 + port % 2})).collect();
    let all = json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0", "except": ["fd00::/8"]}}]);
    let rules = [
        json!([{"from": blocks}]),
        json!([{"ports": ports}]),
        json!([{"from": all, "ports": [{"port": 1, "endPort": 65535}, {"protocol": "SCTP"}]}]),
        json!([{"from": [{"namespaceSelector": {"matchExpressions": [{"key": "a.b/c", "operator": "In", "values": vec!["v"; 500]}]}}]}]),
        json!([{"ports": [{"port": "no-such-name"}, {"port": "web", "protocol": "SCTP"}]}, {"from": peer("nobody")}]),
        Value::Array(
            (0..500).map(|n| json!({"from": peer(&format!("p{n}")), "ports": [{"port": 1000 + n}]})).collect(),
        ),
    ];
    let count = rules.len() as u64;
    for (number, rules) in rules.into_iter().enumerate() {
        let name = format!("{number}{}", ".x".repeat(120));
        for pod in ["app", "nobody"] {
            cluster.apply(&format!("{pod}{name}"), isolated(pod, json!({"ingress": rules, "egress": [{}]}))).await;
        }
    }
    cluster.apply("db", isolated("db", json!({}))).await;
    let took = eventually("the last one holds", || !app.reaches(&db, 80)).await;
    assert!(db.reaches(&app, 80), "of all that is said of the app, one policy allows this");
    faults::Attack::new("network policy: odd and large policies beside a plain one")
        .tried(2 * count, 0)
        .figure("until the plain one held, ms", took.as_millis())
        .record();
    cluster.stop().await;
}
