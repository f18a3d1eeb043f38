//! Clients of a Service while its rules change, in a network namespace of its own: none may leave untranslated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proxy::Config;
use proxy::bench::Planner;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, from_value, json};

/// The Service is nobody's address: who comes there untranslated finds nobody.
const SERVICE: &str = "10.251.9.9:80";
/// Addresses of pods: `10.251.8.1` and so on.
const PODS: usize = 5;
const CLIENTS: usize = 6;
/// Changes of the rules, and how long they may take in all.
const CHANGES: usize = 2000;
const TIME: Duration = Duration::from_secs(20);
/// A translated connection to an address of this machine takes microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A network namespace; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let namespace = Self(format!("cpx{}", std::process::id()));
        let name = &namespace.0;
        let pods: Vec<String> =
            (1..=PODS).map(|pod| format!("ip -n {name} address add 10.251.8.{pod}/32 dev lo")).collect();
        sh(&format!(
            "ip netns add {name} && ip -n {name} link set lo up && {} && \
             ip -n {name} link add d0 type veth peer name d1 && ip -n {name} link set d0 up && \
             ip -n {name} link set d1 up && ip -n {name} address add 10.251.9.1/24 dev d0",
            pods.join(" && ")
        ))
        .unwrap();
        namespace
    }

    /// Moves this thread, and those that it makes, into it.
    fn enter(&self) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = sh(&format!("ip netns delete {}", self.0));
    }
}

fn sh(command: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-c", command]).output().map_err(|err| err.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Gives nft a text.
fn nft(text: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

fn can_run() -> bool {
    let tools = ["nft list tables", "ip link"].iter().all(|command| sh(command).is_ok());
    let can = rustix::process::geteuid().is_root() && tools;
    assert!(can || std::env::var_os("E2E_REQUIRED").is_none(), "root, nft and ip are needed");
    if !can {
        eprintln!("SKIP: root, nft and ip are needed");
    }
    can
}

fn slice(pods: usize) -> Value {
    let endpoints: Vec<Value> = (1..=pods).map(|pod| json!({"addresses": [format!("10.251.8.{pod}")]})).collect();
    json!({
        "metadata": {"name": "web-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints,
    })
}

/// Answers whoever connects by closing.
fn serve(pod: usize) {
    let listener = TcpListener::bind(format!("10.251.8.{pod}:8080")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
}

/// Connects again and again; how often somebody was there, and what else became of it.
fn ask(end: &AtomicBool) -> (usize, Vec<String>) {
    let service: SocketAddr = SERVICE.parse().unwrap();
    let (mut reached, mut lost) = (0, Vec::new());
    while !end.load(Ordering::Relaxed) {
        match TcpStream::connect_timeout(&service, PATIENCE) {
            Ok(mut stream) => {
                reached += 1;
                // Whoever ends first keeps the port for a minute: not the client.
                let _ended = stream.read(&mut [0]);
            }
            Err(err) => lost.push(err.to_string()),
        }
    }
    (reached, lost)
}

#[test]
fn no_connection_is_lost_between_a_chain_and_its_map_while_both_are_replaced() {
    if !can_run() {
        return;
    }
    let namespace = Namespace::new();
    let name = namespace.0.clone();
    // Only threads below this one are in the namespace.
    let asked = std::thread::scope(|scope| scope.spawn(|| lost_while_rules_change(&namespace)).join().unwrap());
    let (changes, reached, lost) = asked;
    assert!(changes >= CHANGES / 10 && reached > changes, "{name}: {reached} connections, {changes} changes");
    assert!(lost.is_empty(), "{} of {reached} lost in {changes} changes: {:?}", lost.len(), &lost[..lost.len().min(5)]);
}

fn lost_while_rules_change(namespace: &Namespace) -> (usize, usize, Vec<String>) {
    namespace.enter();
    (1..=PODS).for_each(serve);
    let mut planner = Planner::new(Config::new("n".into(), Vec::new()));
    planner.set_service(
        from_value(json!({
            "metadata": {"name": "web", "namespace": "d"},
            "spec": {"clusterIP": "10.251.9.9", "ports": [{"port": 80}]},
        }))
        .unwrap(),
    );
    planner.set_slice(from_value(slice(PODS)).unwrap());
    nft(&planner.text());
    assert!(TcpStream::connect_timeout(&SERVICE.parse().unwrap(), PATIENCE).is_ok(), "the Service is there");
    let mut command = Command::new("nft");
    let mut running =
        command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut kernel = running.stdin.take().unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let end = Arc::clone(&end);
            std::thread::spawn(move || ask(&end))
        })
        .collect();
    let (began, mut changes) = (Instant::now(), 0);
    while changes < CHANGES && began.elapsed() < TIME {
        planner.set_slice(from_value(slice(PODS - 1 - changes % 2)).unwrap());
        // A line is a transaction.
        writeln!(kernel, "{}", planner.text().lines().collect::<Vec<_>>().join("; ")).unwrap();
        changes += 1;
    }
    drop(kernel);
    assert!(running.wait().unwrap().success());
    end.store(true, Ordering::Relaxed);
    let last = sh("nft list table ip coracle-proxy").unwrap();
    let endpoints = PODS - 1 - (changes - 1) % 2;
    assert!(last.contains(&format!("random mod {endpoints} ")), "what was told last is there: {last}");
    let asked = clients.into_iter().map(|client| client.join().unwrap());
    asked.fold((changes, 0, Vec::new()), |(changes, reached, lost), (more, also)| {
        (changes, reached + more, [lost, also].concat())
    })
}
