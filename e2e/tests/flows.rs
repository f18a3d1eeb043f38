//! Connections that nobody answers yet, to an endpoint that goes away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Cluster, Run as _, can_run, eventually};

/// The kernel remembers an attempt to connect for two minutes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is sent there goes nowhere, without a word.
const VOID: &str = "coracle-void";

/// Removes the interface.
struct Void;

impl Void {
    fn make() -> Self {
        let void = Self;
        for arguments in [
            &["link", "add", VOID, "type", "veth", "peer", "name", "coracle-void1"][..],
            &["link", "set", VOID, "up"],
            &["link", "set", "coracle-void1", "up"],
            &["route", "add", "198.51.100.0/24", "dev", VOID],
            // Nobody at the other end has this hardware address.
            &["neigh", "add", "198.51.100.7", "lladdr", "02:00:00:00:00:07", "nud", "permanent", "dev", VOID],
        ] {
            Command::new("ip").args(arguments).run().ok();
        }
        void
    }
}

impl Drop for Void {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "delete", VOID]).run();
    }
}

fn slice(endpoint: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: void, labels: {{kubernetes.io/service-name: void}}}}
addressType: IPv4
ports: [{{port: 80}}]
endpoints: [{{addresses: [{endpoint}], conditions: {{ready: true}}}}]
"
    )
}

#[test]
fn who_waits_for_an_endpoint_that_is_gone_is_sent_to_another_one() {
    if !can_run() {
        return;
    }
    let _void = Void::make();
    let cluster = Cluster::up();
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: void}\nspec: {ports: [{port: 80}]}\n");
    cluster.apply(&slice("198.51.100.7"));
    cluster.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: page}}
spec: {{containers: [{{name: c, image: {}, command: [httpd, -f, -p, '80']}}]}}
",
        cluster.image("busybox:1")
    ));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/page", "--timeout=60s"]).ok();
    let address: SocketAddr =
        format!("{}:80", cluster.value(&["service", "void"], "{.spec.clusterIP}")).parse().unwrap();
    // Refused while there are no rules of it; then nobody answers.
    eventually("the Service leads nowhere", PATIENCE, || {
        let tried = TcpStream::connect_timeout(&address, Duration::from_millis(500));
        tried.is_err_and(|err| err.kind() == std::io::ErrorKind::TimedOut).then_some(())
    });
    let waiting = std::thread::spawn(move || {
        let before = Instant::now();
        TcpStream::connect_timeout(&address, PATIENCE).map(|_| before.elapsed())
    });
    // Its first packet is on its way.
    std::thread::sleep(Duration::from_secs(1));
    cluster.apply(&slice(&cluster.value(&["pod", "page"], "{.status.podIP}")));
    let took = waiting.join().unwrap().expect("it is connected to the other endpoint");
    assert!(took > Duration::from_millis(900), "{took:?}: it was never without an answer");
}
