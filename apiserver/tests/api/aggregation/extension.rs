//! An extension API server on loopback: flunders of wardle.example.com, for whoever shows the front proxy's certificate.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::http::Edge;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
/// The CA's file, beside the certificate.
pub(super) const FRONT_PROXY_CA: &str = "front-proxy-ca.crt";
const BASE: &str = "/apis/wardle.example.com/v1alpha1";

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// 503 to everything.
    Down,
    /// Never.
    Hanging,
    /// A byte now and then.
    Dripping,
    /// Documents of discovery without end.
    Endless,
    /// Documents of discovery that are something else.
    Odd,
    /// Does not know aggregated discovery, nor OpenAPI v3.
    Old,
}

/// The certificates of a front proxy, in files as the flags name them.
pub(super) struct FrontProxy {
    ca: CertifiedIssuer<'static, KeyPair>,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl FrontProxy {
    pub(super) fn make(directory: &Path) -> Self {
        let ca = authority("front-proxy-ca");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "front-proxy-client");
        let signed = params.signed_by(&key, &ca).unwrap();
        let made = Self { ca, certificate: directory.join("front-proxy.crt"), key: directory.join("front-proxy.key") };
        std::fs::write(directory.join(FRONT_PROXY_CA), made.ca.pem()).unwrap();
        std::fs::write(&made.certificate, signed.pem()).unwrap();
        std::fs::write(&made.key, key.serialize_pem()).unwrap();
        made
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
}

impl Asked {
    /// All values of a header.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }
}

struct Content {
    mood: Mutex<Mood>,
    flunders: Mutex<BTreeMap<String, Value>>,
    events: broadcast::Sender<Value>,
    asked: Mutex<Vec<Asked>>,
}

/// A running server; dropping it stops it.
pub(super) struct Extension {
    pub(super) port: u16,
    /// The CA of its certificate, as APIServices carry it.
    pub(super) ca_bundle: String,
    content: Arc<Content>,
    _running: JoinSet<()>,
    _stop: DropGuard,
}

impl Extension {
    /// A server for the Service `default/sample`.
    pub(super) async fn start(front_proxy: &FrontProxy) -> Self {
        daemon::install_crypto_provider();
        let (ca_bundle, tls) = serving(front_proxy);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let content = Arc::new(Content {
            mood: Mutex::new(Mood::Well),
            flunders: Mutex::default(),
            events: broadcast::channel(16).0,
            asked: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(content.clone());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(apiserver::http::serve(listener, Arc::new(Edge::new(tls)), router, stop.clone()));
        Self { port, ca_bundle, content, _running: running, _stop: stop.drop_guard() }
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.content.mood.lock().unwrap() = mood;
    }

    /// What clients have asked since the last call of this; not what the aggregator asks for itself.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let mut all = std::mem::take(&mut *self.content.asked.lock().unwrap());
        all.retain(|asked| !asked.all("x-remote-user").concat().starts_with("system:"));
        all
    }

    /// How often the aggregator has looked at it since the last call of [`Self::asked`].
    pub(super) fn looks(&self) -> usize {
        let is_look = |asked: &&Asked| {
            asked.line == format!("GET {BASE}") && asked.all("x-remote-user") == ["system:kube-aggregator"]
        };
        self.content.asked.lock().unwrap().iter().filter(is_look).count()
    }
}

/// A bundle, and a configuration that lets nobody in but the front proxy.
fn serving(front_proxy: &FrontProxy) -> (String, rustls::ServerConfig) {
    let ca = authority("sample-ca");
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(["sample.default.svc".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(front_proxy.ca.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder().with_client_cert_verifier(verifier);
    let tls = tls.with_single_cert(vec![certificate.der().clone()], private).unwrap();
    (STANDARD.encode(ca.pem()), tls)
}

async fn answer(State(content): State<Arc<Content>>, request: Request) -> Response {
    let line = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let asked = Asked { line: format!("{} {line}", request.method()), headers: request.headers().clone() };
    content.asked.lock().unwrap().push(asked);
    let mood = *content.mood.lock().unwrap();
    let path = request.uri().path().to_owned();
    match mood {
        Mood::Down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Hanging => std::future::pending().await,
        Mood::Dripping => return dripping(),
        Mood::Endless if !path.starts_with(FLUNDERS) => return endless(),
        Mood::Odd if path == "/apis" || path == "/openapi/v3" => return json_of(&json!([[["odd"]], 7])),
        Mood::Old if path == "/apis" || path.starts_with("/openapi/") => return StatusCode::NOT_FOUND.into_response(),
        _ => {}
    }
    match path.as_str() {
        "/apis" => json_of(&discovery()),
        BASE => json_of(&resources()),
        "/openapi/v3" => json_of(&json!({"paths": {
            "apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=A"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=EVIL"},
        }})),
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => {
            json_of(&json!({"openapi": "3.0.0", "info": {"title": "wardle"}}))
        }
        "/openapi/v2" => json_of(&whole()),
        path if path == format!("{BASE}/moved") => {
            (StatusCode::FOUND, [(header::LOCATION, "https://elsewhere.example.com/")]).into_response()
        }
        path if path == format!("{BASE}/echo") => echo(request),
        path if path.starts_with(FLUNDERS) => flunders(&content, request).await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A document of OpenAPI v2, with more in it than there should be.
fn whole() -> Value {
    let flunder = json!({"type": "object", "properties": {
        "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
    }});
    let get = json!({"responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/wardle.Flunder"}}}});
    json!({
        "swagger": "2.0",
        "paths": {(format!("{BASE}/flunders")): {"get": get}, "/apis/apps/v1/deployments": {"get": {"evil": true}}},
        "definitions": {"wardle.Flunder": flunder,
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"description": "of an older library"}},
    })
}

fn json_of(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn dripping() -> Response {
    let drops = futures::stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(Bytes::from_static(b" "))
    });
    Body::from_stream(drops).into_response()
}

fn endless() -> Response {
    let block = Bytes::from(vec![b' '; 64 * 1024]);
    Body::from_stream(futures::stream::repeat_with(move || Ok::<_, Infallible>(block.clone()))).into_response()
}

fn kind() -> Value {
    json!({"group": "", "version": "", "kind": "Flunder"})
}

fn discovery() -> Value {
    let resource = json!({"resource": "flunders", "responseKind": kind(), "scope": "Namespaced",
        "singularResource": "flunder", "verbs": ["create", "get", "list", "watch"]});
    let version = json!({"version": "v1alpha1", "resources": [resource], "freshness": "Current"});
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{"metadata": {"name": "wardle.example.com"}, "versions": [version]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": []}]}]})
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
            "verbs": ["create", "get", "list", "watch"]}]})
}

/// Whatever is sent after the switch comes back.
fn echo(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..length]).await.unwrap();
        }
    });
    let headers = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn flunders(content: &Content, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Value = serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap_or_default();
    let name = parts.uri.path().trim_start_matches(FLUNDERS).trim_start_matches('/').to_owned();
    if parts.uri.query().is_some_and(|query| query.contains("watch=")) {
        return watch(content);
    }
    let mut all = content.flunders.lock().unwrap();
    let tell = |kind: &str, object: &Value| {
        // Nobody may be watching.
        let _told = content.events.send(json!({"type": kind, "object": object}));
    };
    let not_found = || (StatusCode::NOT_FOUND, "{}").into_response();
    match (parts.method, name.as_str()) {
        (Method::GET, "") => {
            json_of(&json!({"kind": "FlunderList", "items": all.values().cloned().collect::<Vec<_>>()}))
        }
        (Method::POST, "") => {
            all.insert(body["metadata"]["name"].as_str().unwrap().to_owned(), body.clone());
            tell("ADDED", &body);
            (StatusCode::CREATED, json_of(&body)).into_response()
        }
        (Method::GET, name) => all.get(name).map_or_else(not_found, json_of),
        (Method::PATCH, name) => match all.get_mut(name) {
            Some(flunder) => {
                flunder["spec"] = body["spec"].clone();
                tell("MODIFIED", flunder);
                json_of(flunder)
            }
            None => not_found(),
        },
        (Method::DELETE, name) => all.remove(name).map_or_else(not_found, |gone| json_of(&gone)),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn watch(content: &Content) -> Response {
    let events = futures::stream::unfold(content.events.subscribe(), |mut events| async move {
        let event = events.recv().await.ok()?;
        Some((Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))), events))
    });
    Body::from_stream(events).into_response()
}
