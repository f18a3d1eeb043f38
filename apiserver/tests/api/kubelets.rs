//! What goes on to kubelets: logs, and the proxies; and answers over WebSockets, as browsers ask for them.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Config;
use apiserver::http::Edge;
use apiserver::testing::TestServer;
use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{Client, MERGE, expect};
use crate::hook_server::certificates;

const TOKEN: &str = "secret";
const PODS: &str = "/api/v1/namespaces/default/pods";
const BASE64: &str = "base64.binary.k8s.io";

/// A server with a node, whose kubelet says what it was asked, and a pod there.
struct Cluster {
    server: TestServer,
    /// Where the server listens without TLS.
    address: std::net::SocketAddr,
    kubelet_port: u16,
    _directory: TempDir,
    _running: JoinSet<()>,
    _stop: DropGuard,
}

/// Says what it was asked.
async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers: serde_json::Map<String, Value> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
    let uri = parts.uri.to_string();
    let said = json!({"method": parts.method.as_str(), "uri": uri, "headers": headers, "body": body.len()});
    ([("access-control-allow-origin", "*")], said.to_string()).into_response()
}

fn kubelet() -> Router {
    Router::new()
        .route("/containerLogs/default/p/c", get(async || "one\ntwo\n"))
        .route("/away", get(async || Redirect::temporary("/there?a=b")))
        .route("/page", get(async || Html("<a href=\"/x\">/x</a><img src='y'>")))
        .fallback(any(echo))
}

impl Cluster {
    async fn start() -> Self {
        daemon::install_crypto_provider();
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (authority, tls) = certificates();
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubelet_port = listener.local_addr().unwrap().port();
        running.spawn(apiserver::http::serve(listener, Arc::new(Edge::new(tls)), kubelet(), stop.clone()));
        let config = Config {
            token_auth_file: Some(file("tokens.csv", format!("{TOKEN},admin,1,\"system:masters\"\n").as_bytes())),
            kubelet_certificate_authority: Some(file("ca.crt", &STANDARD.decode(authority).unwrap())),
            ..Config::default()
        };
        let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = server.server().router();
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let cluster =
            Self { server, address, kubelet_port, _directory: directory, _running: running, _stop: stop.drop_guard() };
        cluster.furnish().await;
        cluster
    }

    async fn furnish(&self) {
        let admin = self.admin();
        expect(admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await, 201);
        let status = json!({"status": {"addresses": [{"type": "Hostname", "address": "localhost"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.kubelet_port}}}});
        expect(admin.patch("/api/v1/nodes/n/status", MERGE, &status).await, 200);
        let pod =
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
        expect(admin.post(PODS, &pod).await, 201);
    }

    fn admin(&self) -> Client {
        Client::admin(&self.server)
    }

    /// Asks for a WebSocket; the status of the answer, its head, and the connection.
    async fn open(&self, path: &str, headers: &[&str]) -> (u16, String, TcpStream) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
        head.push_str("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            got.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(got).unwrap().to_ascii_lowercase();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head, stream)
    }

    async fn open_as_admin(&self, path: &str, protocols: &str) -> (u16, String, TcpStream) {
        let authorization = format!("Authorization: Bearer {TOKEN}");
        let protocols = format!("Sec-WebSocket-Protocol: {protocols}");
        let headers: &[&str] = if protocols.ends_with(' ') { &[&authorization] } else { &[&authorization, &protocols] };
        self.open(path, headers).await
    }
}

/// The next message from a server: what kind it is, and what it says.
async fn message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let read = async {
        let (kind, length) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
        let length = match length {
            126 => stream.read_u16().await.unwrap().into(),
            length => usize::from(length),
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        (kind & 0xf, body)
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("a message comes in time")
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

#[tokio::test]
async fn logs_come_over_websockets_in_the_protocol_that_is_asked_for() {
    let cluster = Cluster::start().await;
    let path = format!("{PODS}/p/log?container=c");
    for (protocols, kind, content) in [
        ("", BINARY, b"one\ntwo\n".to_vec()),
        ("binary.k8s.io", BINARY, b"one\ntwo\n".to_vec()),
        (BASE64, TEXT, STANDARD.encode("one\ntwo\n").into_bytes()),
        ("unknown, base64.binary.k8s.io", TEXT, STANDARD.encode("one\ntwo\n").into_bytes()),
    ] {
        let (status, head, mut stream) = cluster.open_as_admin(&path, protocols).await;
        assert_eq!(status, 101, "{head}");
        let spoken = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: ")).unwrap_or("");
        assert_eq!(spoken, protocols.trim_start_matches("unknown, "));
        assert_eq!(message(&mut stream).await, (kind, Vec::new()), "that it is open");
        assert_eq!(message(&mut stream).await, (kind, content), "{protocols}");
        assert_eq!(message(&mut stream).await, (CLOSE, 1000_u16.to_be_bytes().to_vec()));
    }
    assert_eq!(cluster.open_as_admin(&path, "v4.channel.k8s.io").await.0, 403);
    assert_eq!(cluster.open_as_admin(&format!("{PODS}/q/log"), "").await.0, 404);
    let (status, text) = cluster.admin().get(&path).await;
    assert_eq!((status, text), (StatusCode::OK, "one\ntwo\n".into()));
}

#[tokio::test]
async fn a_watch_over_a_websocket_sends_each_event_as_a_message() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let (status, head, mut stream) = cluster.open_as_admin(&format!("{maps}?watch=1"), BASE64).await;
    assert!(status == 101 && head.contains("sec-websocket-protocol: base64.binary.k8s.io"), "{head}");
    for name in ["a", "b"] {
        expect(cluster.admin().post(maps, &json!({"metadata": {"name": name}})).await, 201);
    }
    for name in ["a", "b"] {
        let (kind, event) = message(&mut stream).await;
        let event: Value = serde_json::from_slice(&event).unwrap();
        assert_eq!((kind, &event["type"], &event["object"]["metadata"]["name"]), (TEXT, &"ADDED".into(), &name.into()));
    }
}

#[tokio::test]
async fn a_browser_shows_its_token_as_a_protocol() {
    let cluster = Cluster::start().await;
    let with = |token: &str| {
        let encoded = URL_SAFE_NO_PAD.encode(token);
        format!("Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{encoded}, {BASE64}")
    };
    let path = format!("{PODS}?watch=1");
    let (status, head, _stream) = cluster.open(&path, &[&with(TOKEN)]).await;
    assert!(status == 101 && head.contains("sec-websocket-protocol: base64.binary.k8s.io\r\n"), "{head}");
    assert_eq!(cluster.open(&path, &[&with("wrong")]).await.0, 401);
    let alone = with(TOKEN).replace(&format!(", {BASE64}"), "");
    assert_eq!(cluster.open(&path, &[&alone]).await.0, 401);
    assert_eq!(cluster.open(&path, &[]).await.0, 403, "nobody is who shows nothing");
}

#[tokio::test]
async fn a_node_is_reached_by_its_kubelets_port_whether_or_not_it_is_named() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let port = cluster.kubelet_port;
    for name in ["n".to_owned(), format!("n:{port}"), format!("https:n:{port}"), "https:n:".to_owned()] {
        let path = format!("/api/v1/nodes/{name}/proxy//proxy/x%2Fy?a=b");
        let said = expect(admin.get(&path).await, 200);
        assert_eq!((&said["uri"], &said["method"]), (&"//proxy/x%2Fy?a=b".into(), &"GET".into()), "{name}");
    }
    assert_eq!(admin.get("/api/v1/nodes/ftp:n:1/proxy/").await.1["message"], "invalid node request \"ftp:n:1\"");
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let said = expect(admin.send(method.clone(), "/api/v1/nodes/n/proxy", &[], b"abc".to_vec()).await, 200);
        assert_eq!((&said["method"], &said["uri"], &said["body"]), (&method.as_str().into(), &"/".into(), &3.into()));
    }
}

#[tokio::test]
async fn backends_are_told_whom_the_client_asked_and_nothing_of_its_token() {
    let cluster = Cluster::start().await;
    let headers = [
        ("host", "api.example.com"),
        ("authorization", "Bearer secret"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
    ];
    let path = "/api/v1/nodes/n/proxy/x/";
    let said = expect(cluster.admin().send(http::Method::GET, path, &headers, Vec::new()).await, 200);
    let headers = &said["headers"];
    assert_eq!((&headers["host"], &headers["x-forwarded-uri"]), (&"api.example.com".into(), &path.into()));
    assert_eq!((&headers["authorization"], &headers["accept-encoding"]), (&Value::Null, &"identity".into()));
}

#[tokio::test]
async fn what_a_backend_says_of_its_places_leads_through_the_proxy() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let root = "/api/v1/nodes/n/proxy";
    let raw = async |path: &str| {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let answer = admin.raw(request).await;
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, location, origin) = (answer.status(), header("location"), header("access-control-allow-origin"));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, location.unwrap_or_default(), origin, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, location, ..) = raw(&format!("{root}?a=b")).await;
    assert_eq!((status, location), (StatusCode::MOVED_PERMANENTLY, format!("{root}/?a=b")));
    let (status, location, ..) = raw(&format!("{root}/away")).await;
    assert_eq!((status, location), (StatusCode::TEMPORARY_REDIRECT, format!("{root}/there?a=b")));
    let (_, _, _, page) = raw(&format!("{root}/page")).await;
    assert_eq!(page, format!("<a href=\"{root}/x\">/x</a><img src='y'>"));
    let (_, _, origin, _) = raw(&format!("{root}/other")).await;
    assert_eq!(origin, None, "what other origins may do is not the backend's to say");
    let missing = expect(admin.get("/api/v1/nodes/m/proxy").await, 404);
    assert_eq!(missing["message"], "nodes \"m\" not found");
}

#[tokio::test]
async fn a_backend_that_does_not_switch_is_an_error() {
    let cluster = Cluster::start().await;
    let (status, head, mut stream) = cluster.open_as_admin("/api/v1/nodes/n/proxy/x", "").await;
    assert_eq!(status, 500, "{head}");
    let mut body = vec![0; 4096];
    let length = stream.read(&mut body).await.unwrap();
    let said = String::from_utf8_lossy(&body[..length]).into_owned();
    assert!(said.contains("invalid upgrade response: status code 200"), "{said}");
}
