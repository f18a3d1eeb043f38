//! The kubelet's HTTPS server, asked by an administrator and by strangers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod node;

use std::sync::Arc;

use node::{TestNode, condition};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, organization: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (certificate, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
    }
}

struct Client {
    tls: tokio_rustls::TlsConnector,
    port: u16,
}

impl Client {
    fn new(authority: &Authority, port: u16, identity: Option<(&str, &str)>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            Some((name, organization)) => {
                let (certificate, key) = authority.issue(name, organization);
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Self { tls: Arc::new(config).into(), port }
    }

    /// Sends one request and returns everything up to the end of the connection.
    async fn ask(&self, path: &str, headers: &str) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = self.tls.connect(name, stream).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server may cut the connection without TLS's farewell.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends a request for an upgrade, and returns the answer's headers.
    async fn switch(&self, path: &str, headers: &str) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = self.tls.connect(name, stream).await.unwrap();
        stream.write_all(format!("POST {path} HTTP/1.1\r\nHost: node\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        self.ask(path, "Connection: close\r\n").await
    }
}

/// What pods use, in all the forms in which it is asked for.
async fn tells_what_is_used(node: &TestNode, admin: &Client) {
    let sent = runtime::Flow { bytes: 77, ..runtime::Flow::default() };
    let network = Some(runtime::Traffic { sent, ..runtime::Traffic::default() });
    let stats = |network| runtime::Stats {
        cgroup: "kubepods/x".into(),
        cpu_nanos: 1_500_000_000,
        memory_working_set: 4096,
        memory_usage: 8192,
        network,
        ..runtime::Stats::default()
    };
    node.runtime.set_stats("c", stats(None));
    node.runtime.set_stats("web", stats(network));
    let resource = admin.get("/metrics/resource").await;
    assert!(resource.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{resource}");
    for line in [
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"web\"} 1.5 1",
        "container_memory_working_set_bytes{container=\"c\",namespace=\"default\",pod=\"web\"} 4096 1",
        "container_start_time_seconds{container=\"c\",namespace=\"default\",pod=\"web\"} 1",
        "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} 1.5 1",
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 4096 1",
        "node_cpu_usage_seconds_total ",
        "node_memory_working_set_bytes ",
        "resource_scrape_error 0\n",
    ] {
        assert!(resource.contains(&format!("\n{line}")), "{line}\n{resource}");
    }
    let cadvisor = admin.get("/metrics/cadvisor").await;
    for line in [
        "container_cpu_usage_seconds_total{container=\"c\",id=\"/kubepods/x\",image=\"busybox:1\",name=\"",
        "container_memory_usage_bytes{container=\"\",id=\"/kubepods/x\",image=\"\",name=\"\",namespace=\"default\",pod=\"web\"} 8192 1",
        "container_network_transmit_bytes_total{container=\"\",id=\"/kubepods/x\",image=\"\",interface=\"eth0\",name=\"\",namespace=\"default\",pod=\"web\"} 77 1",
        "container_spec_memory_limit_bytes{container=\"c\",",
        "container_memory_working_set_bytes{container=\"\",id=\"/\",",
        "machine_cpu_cores{boot_id=\"",
        "machine_memory_bytes{boot_id=\"",
    ] {
        assert!(cadvisor.contains(&format!("\n{line}")), "{line}\n{cadvisor}");
    }
    assert!(!cadvisor.contains("container_cpu_cfs_periods_total"), "nothing has a limit of CPU");
    let summary = admin.get("/stats/summary").await;
    for part in
        ["\"nodeName\":\"node-1\"", "\"usageCoreNanoSeconds\":1500000000", "\"txBytes\":77", "\"ephemeral-storage\":{"]
    {
        assert!(summary.contains(part), "{part} {summary}");
    }
    let short = admin.get("/stats/summary?only_cpu_and_memory=true").await;
    assert!(short.contains("\"workingSetBytes\":4096") && !short.contains("txBytes"), "{short}");
    assert!(admin.get("/metrics/probes").await.contains("# TYPE prober_probe_total counter"));
    assert!(admin.get("/metrics").await.contains("# TYPE kubelet_terminated_containers_total counter"));
}

#[tokio::test]
async fn the_server_shows_logs_and_runs_commands_for_those_who_may() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("node-1", "system:nodes");
    let ca = vec![authority.certificate.clone()];
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = ([127, 0, 0, 1], port).into();
    let config = kubelet::server::Config::new(address, vec![certificate], key, ca).unwrap();
    let node = TestNode::with_server(Some(config)).await;
    node.runtime.on_exec(|_, command| runtime::ExecOutput {
        stdout: command.join(" ").into_bytes(),
        stderr: Vec::new(),
        exit_code: 7,
    });
    node.create("web", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    let pod = node.wait_for("web", |pod| condition(pod, "Ready") == Some("True")).await;
    let id = node::container(&pod, "c").container_id.unwrap().trim_start_matches("coracle://").to_owned();
    node.runtime.print(&id, "one").unwrap();
    node.runtime.print(&id, "two").unwrap();

    let admin = Client::new(&authority, port, Some(("admin", "system:masters")));
    let stranger = Client::new(&authority, port, Some(("eve", "nobody")));
    let anonymous = Client::new(&authority, port, None);
    assert!(anonymous.get("/pods").await.starts_with("HTTP/1.1 401"));
    let answer = stranger.get("/pods").await;
    assert!(!answer.starts_with("HTTP/1.1 200") && !answer.contains("\"web\""), "{answer}");
    assert!(admin.get("/pods").await.contains("\"web\""));
    assert!(admin.get("/healthz").await.ends_with("ok"));
    let logs = admin.get("/containerLogs/default/web/c?tailLines=1").await;
    assert!(logs.contains("two") && !logs.contains("one"), "{logs}");
    assert!(admin.get("/containerLogs/default/web/x").await.starts_with("HTTP/1.1 400"));
    assert!(admin.get("/containerLogs/default/none/c").await.starts_with("HTTP/1.1 404"));
    tells_what_is_used(&node, &admin).await;
    assert!(admin.get("/exec/default/web/c?command=id&output=1").await.starts_with("HTTP/1.1 400"));

    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
    let answer = admin.ask("/exec/default/web/c?command=echo&command=hi&output=1&error=1", upgrade).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("\u{1}echo hi"), "{answer}");
    assert!(answer.contains("command terminated with non-zero exit code") && answer.contains("\"7\""), "{answer}");
    // The last bytes are a close frame with code 1000: kubectl takes any other end for a failure.
    assert!(answer.ends_with("\u{2}\u{3}\u{fffd}"), "{answer:?}");

    let spdy = |protocol: &str| {
        format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n")
    };
    let path = "/exec/default/web/c?command=echo&output=1";
    let answer = admin.ask(path, &(spdy("v9.channel.k8s.io") + "Connection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("v4.channel.k8s.io"), "{answer}");
    // The client's order counts. This one leaves without opening a stream.
    let answer = admin.switch(path, &spdy("channel.k8s.io,v4.channel.k8s.io")).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.to_lowercase().contains("x-stream-protocol-version: channel.k8s.io\r\n"), "{answer}");
}

/// Of each kind: nothing at all, half a handshake, and half a request after a handshake.
#[tokio::test]
async fn connections_without_credentials_hold_little_and_stop_nobody() {
    const OF_EACH_KIND: usize = 150;
    let authority = Authority::new();
    let (certificate, key) = authority.issue("node-1", "system:nodes");
    let ca = vec![authority.certificate.clone()];
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = kubelet::server::Config::new(([127, 0, 0, 1], port).into(), vec![certificate], key, ca).unwrap();
    let node = TestNode::with_server(Some(config)).await;
    let admin = Client::new(&authority, port, Some(("admin", "system:masters")));
    let anonymous = Client::new(&authority, port, None);
    let listens = async { while TcpStream::connect(("127.0.0.1", port)).await.is_err() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), listens).await.unwrap();
    let mut raw = Vec::new();
    let mut secured = Vec::new();
    for number in 0..2 * OF_EACH_KIND {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a ClientHello. One that was cut already cannot be written to.
            let _cut = stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await;
        }
        raw.push(stream);
    }
    for _ in 0..OF_EACH_KIND {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = anonymous.tls.connect(name, stream).await.unwrap();
        let _cut = stream.write_all(b"GET /pods HTTP/1.1\r\nHost: node\r\nX-").await;
        secured.push(stream);
    }
    let mut refused = u64::from(!admin.get("/healthz").await.ends_with("ok"));
    // Who was refused keeps no connection either.
    assert!(anonymous.ask("/pods", "").await.starts_with("HTTP/1.1 401"));
    // The API server of the same process takes a write.
    node.create("web", json!({"containers": [{"name": "c", "image": "busybox:1"}]})).await;
    node.wait_for("web", |pod| condition(pod, "Ready") == Some("True")).await;
    let mut held = 0;
    let moment = std::time::Duration::from_millis(5);
    for stream in &mut raw {
        held += usize::from(tokio::time::timeout(moment, stream.read(&mut [0; 1])).await.is_err());
    }
    for stream in &mut secured {
        held += usize::from(tokio::time::timeout(moment, stream.read(&mut [0; 1])).await.is_err());
    }
    refused += u64::from(held > 64);
    faults::Attack::new("kubelet: half-open connections without credentials")
        .tried(3 * OF_EACH_KIND as u64, refused)
        .figure("connections held", held)
        .record();
}
