//! An issuer of OpenID Connect on loopback, with a CA of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use apiserver::http::Edge;
use apiserver::testing::SigningKey;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::hook_server::certificates;

/// What tokens are for.
pub(crate) const AUDIENCE: &str = "us";

/// A running issuer; dropping it stops it.
pub(crate) struct IssuerServer {
    pub(crate) url: String,
    /// The CA of its certificate, in PEM.
    pub(crate) ca: String,
    content: Arc<Content>,
    _running: JoinSet<()>,
    _stop: DropGuard,
}

struct Content {
    url: String,
    keys: Mutex<Vec<Value>>,
    broken: AtomicBool,
    discoveries: AtomicU64,
    fetches: AtomicU64,
}

impl IssuerServer {
    /// Below `/` is an issuer with these keys. The document at `/stranger` speaks of another one, that at `/moved` has
    /// moved, and that at `/plain` leads to a place without TLS.
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        daemon::install_crypto_provider();
        let (bundle, tls) = certificates();
        let ca = String::from_utf8(STANDARD.decode(bundle).unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let content = Arc::new(Content {
            url: url.clone(),
            keys: Mutex::default(),
            broken: AtomicBool::new(false),
            discoveries: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
        });
        let router = Router::new().fallback(answer).with_state(content.clone());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(apiserver::http::serve(listener, Arc::new(Edge::new(tls)), router, stop.clone()));
        let server = Self { url, ca, content, _running: running, _stop: stop.drop_guard() };
        server.publish(keys);
        server
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        *self.content.keys.lock().unwrap() = keys.iter().map(|key| key.document().clone()).collect();
    }

    /// From now on nothing is answered but errors, or things again.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.content.broken.store(broken, Ordering::SeqCst);
    }

    /// How often it was asked who it is.
    pub(crate) fn discoveries(&self) -> u64 {
        self.content.discoveries.load(Ordering::SeqCst)
    }

    /// How often its keys were fetched.
    pub(crate) fn fetches(&self) -> u64 {
        self.content.fetches.load(Ordering::SeqCst)
    }

    /// The claims of a good token for jane, with changes.
    pub(crate) fn claims(&self, changes: &[(&str, Value)]) -> Value {
        let mut claims = json!({"iss": self.url, "aud": AUDIENCE, "sub": "jane", "iat": now(), "exp": now() + 600});
        changes.iter().for_each(|(name, value)| claims[*name] = value.clone());
        claims
    }

    /// It in a file, with user names as they are.
    pub(crate) fn configured(&self) -> Value {
        json!({
            "issuer": {"url": self.url, "certificateAuthority": self.ca, "audiences": [AUDIENCE]},
            "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        })
    }
}

/// The time of tokens.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn answer(State(content): State<Arc<Content>>, uri: Uri) -> Response {
    let document = |issuer: &str| {
        content.discoveries.fetch_add(1, Ordering::SeqCst);
        Json(json!({"issuer": issuer, "jwks_uri": format!("{}/keys", content.url)})).into_response()
    };
    let moved = |to: &str| (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response();
    let broken = content.broken.load(Ordering::SeqCst);
    match uri.path() {
        "/keys" => {
            content.fetches.fetch_add(1, Ordering::SeqCst);
            let keys = content.keys.lock().unwrap().clone();
            if broken { StatusCode::BAD_GATEWAY.into_response() } else { Json(json!({"keys": keys})).into_response() }
        }
        _ if broken => StatusCode::BAD_GATEWAY.into_response(),
        "/.well-known/openid-configuration" => document(&content.url),
        "/stranger" => document("https://stranger"),
        "/moved" => moved("/.well-known/openid-configuration"),
        "/plain" => {
            content.discoveries.fetch_add(1, Ordering::SeqCst);
            moved("http://localhost/document")
        }
        "/round" => {
            content.discoveries.fetch_add(1, Ordering::SeqCst);
            moved("/round")
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
