//! A webhook on loopback, with a CA of its own.

use std::sync::{Arc, Mutex};

use apiserver::http::Edge;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Makes the `response` of a review of its `request`.
type Respond = dyn Fn(&Value) -> Value + Send + Sync;

/// Answers a body, and remembers what it was asked.
type Answer = fn(&[u8], &Mutex<Vec<Value>>, &Respond) -> String;

/// A running webhook; dropping it stops it.
pub(crate) struct HookServer {
    pub(crate) port: u16,
    /// The CA of its certificate, as configurations carry it.
    pub(crate) ca_bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
    _running: JoinSet<()>,
    _stop: DropGuard,
}

impl HookServer {
    /// Answers reviews below `/`, and those below `/hang` never.
    pub(crate) async fn start(respond: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::answering(answer, respond).await
    }

    /// Answers reviews of tokens and requests below `/` with the status that `respond` makes of their spec.
    pub(crate) async fn reviewing(respond: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::answering(review, respond).await
    }

    /// Takes what it is sent below `/` with the status that `respond` chooses.
    pub(crate) async fn receiving(respond: impl Fn(&Value) -> u16 + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (memory, respond) = (asked.clone(), Arc::new(respond));
        let answer = move |body: Bytes| {
            let body: Value = serde_json::from_slice(&body).unwrap();
            let status = StatusCode::from_u16(respond(&body)).unwrap();
            memory.lock().unwrap().push(body);
            std::future::ready(status)
        };
        Self::serving(Router::new().fallback(post(answer)), asked).await
    }

    async fn answering(answer: Answer, respond: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (memory, respond): (_, Arc<Respond>) = (asked.clone(), Arc::new(respond));
        let answer = move |body: Bytes| {
            let (memory, respond) = (memory.clone(), respond.clone());
            async move { Body::from(answer(&body, &memory, &*respond)) }
        };
        Self::serving(Router::new().fallback(post(answer)), asked).await
    }

    async fn serving(router: Router, asked: Arc<Mutex<Vec<Value>>>) -> Self {
        daemon::install_crypto_provider();
        let (ca_bundle, tls) = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = router.route("/hang", post(std::future::pending::<&str>));
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(apiserver::http::serve(listener, Arc::new(Edge::new(tls)), router, stop.clone()));
        Self { port, ca_bundle, asked, _running: running, _stop: stop.drop_guard() }
    }

    /// How a configuration says to reach it.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({"url": format!("https://localhost:{}{path}", self.port), "caBundle": self.ca_bundle})
    }

    /// The requests that it was asked about since the last call of this.
    pub(crate) fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn answer(body: &[u8], memory: &Mutex<Vec<Value>>, respond: &Respond) -> String {
    let review: Value = serde_json::from_slice(body).unwrap();
    let request = review["request"].clone();
    let mut response = respond(&request);
    if response.get("uid").is_none() {
        response["uid"] = request["uid"].clone();
    }
    memory.lock().unwrap().push(request);
    json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).to_string()
}

fn review(body: &[u8], memory: &Mutex<Vec<Value>>, respond: &Respond) -> String {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    review["status"] = respond(&review["spec"]);
    memory.lock().unwrap().push(review.clone());
    review.to_string()
}

/// A bundle, and a server's configuration whose certificate for `localhost` and a Service its CA has signed.
pub(crate) fn certificates() -> (String, rustls::ServerConfig) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost", "hook.default.svc"].map(str::to_owned);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let tls = tls.with_single_cert(vec![certificate.der().clone()], private).unwrap();
    (STANDARD.encode(ca.pem()), tls)
}

/// Lets everything pass.
pub(crate) fn allow(_request: &Value) -> Value {
    json!({"allowed": true})
}

/// Refuses with a message.
pub(crate) fn deny(why: &str) -> Value {
    json!({"allowed": false, "status": {"message": why, "reason": "Forbidden", "code": 403}})
}

/// Lets pass with a JSON patch.
pub(crate) fn patched(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}
