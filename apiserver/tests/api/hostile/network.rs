//! Connections, seen from the wire.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Config;
use apiserver::testing::TestServer;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use store::embedded::EmbeddedStore;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{assert_small, in_time};
use crate::client::{Client, expect};

const TOKEN: &str = "secret";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A server that listens, and what a client needs to talk to it.
struct Listening {
    server: TestServer,
    address: std::net::SocketAddr,
    roots: Arc<RootCertStore>,
    _directory: TempDir,
}

impl Listening {
    async fn start(request_timeout: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tokens = directory.path().join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
        let config = Config {
            certificate_directory: directory.path().to_owned(),
            token_auth_file: Some(tokens),
            request_timeout,
            ..Config::default()
        };
        let mut server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        let address = server.listen().await;
        let mut roots = RootCertStore::empty();
        let served = directory.path().join("apiserver.crt");
        // The server makes it when it begins to serve.
        while !served.exists() {
            tokio::task::yield_now().await;
        }
        for certificate in CertificateDer::pem_file_iter(served).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        Self { server, address, roots: Arc::new(roots), _directory: directory }
    }

    async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("kubernetes").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    /// The head of the answer to a request over HTTP/1.1, and as much of the body as came with it; empty when the
    /// server hangs up.
    async fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.connect(&["http/1.1"]).await;
        // The server may answer before it has read all.
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let mut got = vec![0; 64 * 1024];
        let written = async {
            let _refused = writer.write_all(request).await;
            std::future::pending::<()>().await;
        };
        let length = tokio::select! {
            length = reader.read(&mut got) => length.unwrap_or(0),
            () = written => 0,
        };
        String::from_utf8_lossy(&got[..length]).into_owned()
    }

    async fn assert_alive(&self) {
        let answer = in_time("a small request", self.answer(&get("/readyz", ""))).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{headers}\r\n").into_bytes()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn heads_of_requests_are_limited() {
    let listening = Listening::start(Duration::from_secs(60)).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let headers = |count: usize, size: usize| {
        (0..count).map(|at| format!("X-Header-{at}: {}\r\n", "x".repeat(size))).collect::<String>()
    };
    for (what, request, want) in [
        ("many headers", get(maps, &headers(900, 10)), "200"),
        ("too many headers", get(maps, &headers(3_000, 10)), "431"),
        ("a long header", get(maps, &headers(1, 100_000)), "200"),
        ("too long a header", get(maps, &headers(1, 300_000)), "431"),
        ("a long query", get(&format!("{maps}?labelSelector=a%3Db&x={}", "x".repeat(60_000)), ""), "200"),
        ("too long a query", get(&format!("{maps}?x={}", "x".repeat(70_000)), ""), "414"),
        ("no host", b"GET /readyz HTTP/1.1\r\n\r\n".to_vec(), "200"),
        ("no request", b"\r\n\r\n\x00\x01\x02 nothing\r\n\r\n".to_vec(), "400"),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
            "400",
        ),
    ] {
        let answer = in_time(what, listening.answer(&request)).await;
        assert_eq!(status(&answer), want, "{what}: {answer:.200}");
    }
    listening.assert_alive().await;
    assert_small();
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_long() {
    let listening = Listening::start(Duration::from_secs(1)).await;
    let head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\
                Content-Type: application/json\r\n";
    for body in ["Content-Length: 1000\r\n\r\n{\"metadata\":", "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":"] {
        let answer = in_time("half a body", listening.answer(format!("{head}{body}").as_bytes())).await;
        assert_eq!(status(&answer), "504", "{answer}");
        assert!(answer.contains("request did not complete within the allotted timeout"), "{answer}");
    }
    // What goes on for as long as its client likes is not cut.
    let mut stream = listening.connect(&["http/1.1"]).await;
    stream.write_all(&get("/api/v1/namespaces/default/configmaps?watch=1", "")).await.unwrap();
    let client = Client::admin(&listening.server);
    let mut seen = String::new();
    for at in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let map = json!({"metadata": {"name": format!("m{at}")}});
        expect(client.post("/api/v1/namespaces/default/configmaps", &map).await, 201);
        while !seen.contains(&format!("\"name\":\"m{at}\"")) {
            let mut buffer = vec![0; 16 * 1024];
            let length = in_time("an event", stream.read(&mut buffer)).await.unwrap();
            assert!(length > 0, "the watch goes on");
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

#[tokio::test]
async fn a_client_may_set_an_earlier_deadline() {
    let listening = Listening::start(Duration::from_secs(60)).await;
    let head = "POST /api/v1/namespaces/default/configmaps?timeout=200ms HTTP/1.1\r\nHost: x\r\n\
                Authorization: Bearer secret\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let answer = in_time("half a body", listening.answer(head.as_bytes())).await;
    assert_eq!(status(&answer), "504", "{answer}");
}

/// Heads that never end are given up. The clock of the test leaps to the next timeout while everybody waits.
#[tokio::test]
async fn heads_that_trickle_in_are_given_up() {
    let listening = Listening::start(Duration::from_secs(60)).await;
    for (protocols, sent) in [
        (vec!["http/1.1"], b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: ".to_vec()),
        (vec!["http/1.1"], Vec::new()),
        (vec!["h2"], PREFACE[..10].to_vec()),
    ] {
        let mut stream = listening.connect(&protocols).await;
        stream.write_all(&sent).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::pause();
        let ended = tokio::time::timeout(Duration::from_secs(120), async {
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        });
        let ended = ended.await;
        tokio::time::resume();
        assert!(ended.is_ok(), "{protocols:?} after {} bytes: still open", sent.len());
    }
    listening.assert_alive().await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A block of header fields, none of them indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        }
    }
    out
}

fn get_fields(path: &str) -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "x"),
        ("authorization", "Bearer secret"),
    ])
}

/// A client's end of HTTP/2.
struct Http2(TlsStream<TcpStream>);

impl Http2 {
    async fn start(listening: &Listening) -> Self {
        let mut stream = listening.connect(&["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        stream.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self(stream)
    }

    /// The next frame: kind, flags, stream and payload; `None` at the end.
    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        in_time("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        in_time("a payload", self.0.read_exact(&mut payload)).await.ok()?;
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Reads until a frame of one of these kinds.
    async fn until(&mut self, kinds: &[u8]) -> Option<(u8, Vec<u8>)> {
        loop {
            let (kind, _, _, payload) = self.next().await?;
            if kinds.contains(&kind) {
                return Some((kind, payload));
            }
        }
    }
}

#[tokio::test]
async fn streams_are_upgrades_of_http_1_only() {
    const ENABLE_CONNECT_PROTOCOL: u8 = 8;
    let listening = Listening::start(Duration::from_secs(60)).await;
    // Clients that want to upgrade offer HTTP/1.1 alone, and get it.
    assert_eq!(listening.connect(&["http/1.1"]).await.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    let mut client = Http2::start(&listening).await;
    let (_, settings) = client.until(&[SETTINGS]).await.unwrap();
    let known: Vec<u8> = settings.chunks(6).map(|setting| setting[1]).collect();
    assert!(!known.contains(&ENABLE_CONNECT_PROTOCOL), "{known:?}");
    let connect = block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "x"),
        (":path", "/api/v1/namespaces/default/pods/p/exec"),
        ("authorization", "Bearer secret"),
    ]);
    client.0.write_all(&frame(HEADERS, END_HEADERS, 1, &connect)).await.unwrap();
    let (kind, _) = client.until(&[HEADERS, RST_STREAM, GOAWAY]).await.unwrap();
    assert_eq!(kind, RST_STREAM, "extended CONNECT is refused");
    // Without an upgrade the request is refused as upstream refuses it, which looks for the node first.
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    let admin = Client::admin(&listening.server);
    expect(admin.post("/api/v1/namespaces/default/pods", &pod).await, 201);
    let exec = "/api/v1/namespaces/default/pods/p/exec?command=ls&stdout=1";
    assert_eq!(expect(admin.get(exec).await, 404)["message"], r#"pods "n" not found"#);
    let node =
        json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}});
    expect(admin.post("/api/v1/nodes", &node).await, 201);
    let refused = expect(admin.get(exec).await, 400);
    assert_eq!(refused["message"], "Upgrade request required");
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_the_connection() {
    let listening = Listening::start(Duration::from_secs(60)).await;
    let mut client = Http2::start(&listening).await;
    let fields = get_fields("/api/v1/pods?watch=1");
    let mut flood = Vec::new();
    for id in (1..40_000_u32).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &fields));
        flood.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    let _cut_off = in_time("a flood", client.0.write_all(&flood)).await;
    let end = client.until(&[GOAWAY]).await;
    // Either it says so, or it has hung up already.
    assert!(end.is_none_or(|(_, payload)| payload[4..8] == 11_u32.to_be_bytes()), "ENHANCE_YOUR_CALM");
    listening.assert_alive().await;
    assert_small();
}

#[tokio::test]
async fn heads_that_go_on_for_ever_end_the_connection() {
    let listening = Listening::start(Duration::from_secs(60)).await;
    let mut client = Http2::start(&listening).await;
    client.0.write_all(&frame(HEADERS, END_STREAM, 1, &get_fields("/readyz"))).await.unwrap();
    let more = block(&[("x-more", "x".repeat(100).as_str()); 100]);
    let flood = frame(CONTINUATION, 0, 1, &more).repeat(2_000);
    let _cut_off = in_time("a flood", client.0.write_all(&flood)).await;
    let end = client.until(&[GOAWAY, RST_STREAM]).await;
    assert!(end.is_none_or(|(kind, _)| kind == GOAWAY || kind == RST_STREAM));
    listening.assert_alive().await;
    assert_small();
}

/// A client whose window is closed gets no event; what waits for it is let go in the end.
#[tokio::test]
async fn watches_behind_a_closed_window_are_cut() {
    const WATCHES: u32 = 500;
    let listening = Listening::start(Duration::from_secs(60)).await;
    let admin = Client::admin(&listening.server);
    let maps = "/api/v1/namespaces/default/configmaps";
    expect(admin.post(maps, &json!({"metadata": {"name": "x"}})).await, 201);
    let cache = listening.server.server().registry().named("", "configmaps").unwrap();
    let before = cache.watchers();
    let mut client = Http2::start(&listening).await;
    const INITIAL_WINDOW_SIZE: u8 = 4;
    client.0.write_all(&frame(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE, 0, 0, 0, 0])).await.unwrap();
    for id in (1..2 * WATCHES).step_by(2) {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, id, &get_fields(&format!("{maps}?watch=1")));
        client.0.write_all(&request).await.unwrap();
        client.until(&[HEADERS]).await.unwrap();
    }
    assert_eq!(cache.watchers(), before + WATCHES as usize);
    for at in 0..150 {
        let data = json!({"data": {"a": "x".repeat(600_000), "at": at.to_string()}});
        expect(admin.patch(&format!("{maps}/x"), crate::client::MERGE, &data).await, 200);
    }
    assert_eq!(cache.watchers(), before, "all that fell behind are cut");
    listening.assert_alive().await;
    assert_small();
}

/// Clients that send a body that nobody reads are told so, each of them, and no stream ends in an error.
#[tokio::test]
async fn answers_reach_those_who_are_still_sending() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    const CLIENTS: usize = 8;
    let listening = Listening::start(Duration::from_secs(60)).await;
    let (mut tried, mut lost) = (0, 0);
    for round in 0..3 {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let stream = listening.connect(&["h2"]).await;
            all.spawn(async move {
                let io = TokioIo::new(stream);
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                let connection = tokio::spawn(connection);
                let request = http::Request::post("https://x/api/v1/namespaces/default/configmaps")
                    .header("authorization", "Bearer nobody")
                    .body(Full::new(bytes::Bytes::from(vec![b'x'; 2 << 20])))
                    .unwrap();
                let answer = async {
                    let answer = sender.send_request(request).await.map_err(|err| err.to_string())?;
                    let status = answer.status().as_u16();
                    answer.into_body().collect().await.map_err(|err| err.to_string())?;
                    Ok::<_, String>(status)
                };
                let answer = in_time("an answer", answer).await;
                connection.abort();
                answer
            });
        }
        while let Some(answer) = all.join_next().await {
            tried += 1;
            lost += u64::from(answer.unwrap() != Ok(401));
        }
        assert!(tried == (round + 1) * CLIENTS as u64);
    }
    faults::Attack::new("apiserver: answers to clients that are still sending").tried(tried, lost).record();
}
