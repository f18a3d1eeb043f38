//! Calls of webhooks by their `clientConfig`: a URL or a Service, the CA that its certificate must come from, and
//! connections that are kept for the next call. Knows nothing of what is asked.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1::SendRequest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::outbound::dial::{self, DialError, Reach};
use crate::outbound::kubeconfig::Remote;
use crate::outbound::services::{Routing, Services, Unreachable};
use crate::watch_cache::WatchCache;

/// More of an answer is not read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Of an answer that is an error, this much is shown.
const MAX_SHOWN: usize = 1024;
/// Connections that wait for the next call of a webhook.
const MAX_IDLE: usize = 8;
/// Where systems keep the CAs that everybody trusts.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What all webhooks share: how Services are found, and who drives connections.
#[derive(Clone)]
pub struct Webhooks(Arc<Shared>);

#[derive(Clone)]
struct Shared {
    services: Services,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A `clientConfig` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("neither a url nor a service is given")]
    Nowhere,
    #[error("invalid url {0:?}")]
    Url(String),
    #[error("{0:?} is no name that a certificate can have")]
    Name(String),
    #[error("unable to load root certificates: {0}")]
    Roots(String),
    #[error("unable to use the credentials: {0}")]
    Credentials(String),
}

/// A call that brought no answer. Texts are those of Go's HTTP client, which others look for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("Post {url:?}: {why}")]
    Unreachable { url: String, why: String },
    #[error("Post {url:?}: context deadline exceeded")]
    Timeout { url: String },
    #[error("{why}")]
    Refused { code: u16, why: String },
}

impl CallError {
    /// Whether the same call may have an answer in a moment, as upstream judges.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Timeout { .. } => false,
            Self::Refused { code, .. } => matches!(code, 429 | 500..),
        }
    }
}

/// A call of a reviewer is repeated so often, with longer and longer pauses.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// A webhook, with the connections to it.
pub struct Webhook {
    shared: Arc<Shared>,
    place: Place,
    /// Name and port as in the URL.
    authority: String,
    path: String,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Host { host: String, port: u16 },
    Service { namespace: String, name: String, port: u16 },
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook(https://{}{})", self.authority, self.path)
    }
}

impl Webhooks {
    /// Connections are driven by `tasks`, until shutdown.
    pub fn new(cache: &WatchCache, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared { services: Services::new(cache), tasks, shutdown }))
    }

    /// The same, but with connections that are driven until `shutdown`.
    pub(crate) fn until(&self, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared { shutdown, ..(*self.0).clone() }))
    }

    /// The webhook of a `clientConfig`. Nothing is connected yet.
    pub fn webhook(&self, config: &Value) -> Result<Webhook, ConfigError> {
        let (place, authority, path) = match (config["url"].as_str(), config.get("service")) {
            (Some(url), _) => from_url(url)?,
            (None, Some(service)) if service.is_object() => from_service(service),
            _ => return Err(ConfigError::Nowhere),
        };
        let host = match &place {
            Place::Host { host, .. } => host.clone(),
            Place::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        };
        let server_name = ServerName::try_from(host.clone()).map_err(|_| ConfigError::Name(host))?;
        let tls = Arc::new(client_config(config["caBundle"].as_str().unwrap_or(""))?);
        let (shared, authorization, idle) = (self.0.clone(), None, Mutex::default());
        Ok(Webhook { shared, place, authority, path, server_name, tls, authorization, idle })
    }

    /// The webhook of a kubeconfig file: one that reviews tokens or requests, or takes audit events. Nothing is connected yet.
    pub(crate) fn reviewer(&self, remote: &Remote) -> Result<Webhook, ConfigError> {
        let bad = |why: &dyn fmt::Display| ConfigError::Credentials(why.to_string());
        let (place, authority, path) = from_url(&remote.url)?;
        let Place::Host { host, .. } = &place else { return Err(ConfigError::Nowhere) };
        let name = remote.server_name.as_ref().unwrap_or(host).clone();
        let server_name = ServerName::try_from(name.clone()).map_err(|_| ConfigError::Name(name))?;
        let builder = ClientConfig::builder().with_root_certificates(roots(remote.ca.as_deref())?);
        let tls = match &remote.identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|err| bad(&err))?;
                builder.with_client_auth_cert(chain.map_err(|err| bad(&err))?, key).map_err(|err| bad(&err))?
            }
        };
        let authorization = remote.authorization.as_ref().map(|text| HeaderValue::from_str(text)).transpose();
        let mut authorization = authorization.map_err(|err| bad(&err))?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let (shared, tls, idle) = (self.0.clone(), Arc::new(tls), Mutex::default());
        Ok(Webhook { shared, place, authority, path, server_name, tls, authorization, idle })
    }
}

fn from_url(text: &str) -> Result<(Place, String, String), ConfigError> {
    let bad = || ConfigError::Url(text.to_owned());
    let uri: http::Uri = text.parse().map_err(|_| bad())?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(bad)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let place = Place::Host { host, port: authority.port_u16().unwrap_or(443) };
    Ok((place, authority.as_str().to_owned(), uri.path().to_owned()))
}

fn from_service(service: &Value) -> (Place, String, String) {
    let text = |field: &str| service[field].as_str().unwrap_or("").to_owned();
    let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
    let (namespace, name) = (text("namespace"), text("name"));
    let authority = format!("{name}.{namespace}.svc:{port}");
    let path = format!("/{}", text("path").trim_start_matches('/'));
    (Place::Service { namespace, name, port }, authority, path)
}

/// Trusts the CAs of a bundle (PEM, in base64), or of the system if there is none.
fn client_config(bundle: &str) -> Result<ClientConfig, ConfigError> {
    let decoded = (!bundle.is_empty()).then(|| STANDARD.decode(bundle)).transpose();
    let pem = decoded.map_err(|err| ConfigError::Roots(err.to_string()))?;
    Ok(ClientConfig::builder().with_root_certificates(roots(pem.as_deref())?).with_no_client_auth())
}

/// The CAs of a bundle in PEM, or of the system if there is none.
pub(crate) fn roots(bundle: Option<&[u8]>) -> Result<RootCertStore, ConfigError> {
    let bad = |why: &dyn fmt::Display| ConfigError::Roots(why.to_string());
    let pem = match bundle {
        Some(bundle) => bundle.to_vec(),
        None => {
            let file = SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
            let file = file.ok_or_else(|| bad(&"no caBundle is given, and this system has no roots"))?;
            std::fs::read(file).map_err(|err| bad(&err))?
        }
    };
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|err| bad(&err))?;
    let mut roots = RootCertStore::empty();
    // Systems have odd roots among theirs; those of a bundle are all meant.
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    if added == 0 || (ignored > 0 && bundle.is_some()) {
        return Err(bad(&"unable to parse bytes as PEM block"));
    }
    Ok(roots)
}

impl Webhook {
    /// Posts JSON and returns the answer's body.
    pub async fn call(&self, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let path = format!("{}?timeout={seconds}s", self.path);
        let url = format!("https://{}{path}", self.authority);
        match tokio::time::timeout(timeout, self.exchange(&path, &url, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout { url }),
        }
    }

    /// Posts JSON to just where its file says, once, and returns the answer's body.
    pub(crate) async fn post(&self, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let url = format!("https://{}{}", self.authority, self.path);
        let answer = tokio::time::timeout(timeout, self.exchange(&self.path, &url, body)).await;
        answer.unwrap_or_else(|_| Err(CallError::Timeout { url }))
    }

    /// Posts a review to just where its file says, a few times if need be, and returns the answer's body. All tries
    /// together take no longer than `timeout`.
    pub(crate) async fn ask(&self, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let url = format!("https://{}{}", self.authority, self.path);
        let tries = async {
            let mut pause = PAUSE;
            for _ in 1..TRIES {
                match self.exchange(&self.path, &url, body.clone()).await {
                    Err(err) if err.may_pass() => tracing::debug!(error = &err as &dyn std::error::Error, "ask again"),
                    answer => return answer,
                }
                tokio::time::sleep(pause).await;
                pause = pause * 3 / 2;
            }
            self.exchange(&self.path, &url, body).await
        };
        tokio::time::timeout(timeout, tries).await.unwrap_or_else(|_| Err(CallError::Timeout { url: url.clone() }))
    }

    async fn exchange(&self, path: &str, url: &str, body: Bytes) -> Result<Bytes, CallError> {
        let unreachable = |why: String| CallError::Unreachable { url: url.to_owned(), why };
        while let Some(sender) = self.idle_connection() {
            match self.send(sender, path, body.clone()).await {
                // The other side had closed it: that says nothing about the webhook.
                Err(SendError::Http(err)) if err.is_canceled() || err.is_closed() || err.is_incomplete_message() => {}
                Err(err) => return Err(unreachable(err.to_string())),
                Ok(answer) => return outcome(answer),
            }
        }
        let sender = self.dial().await.map_err(unreachable)?;
        self.send(sender, path, body).await.map_err(|err| unreachable(err.to_string())).and_then(outcome)
    }

    fn idle_connection(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }

    fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }

    async fn dial(&self) -> Result<SendRequest<Body>, String> {
        let (host, port) = self.shared.address(&self.place).map_err(|err| err.to_string())?;
        let tls = (self.tls.clone(), self.server_name.clone());
        let (tasks, shutdown) = (&self.shared.tasks, &self.shared.shutdown);
        let dialled = dial::connect(&host, port, Some(tls), Reach::Anywhere, tasks, shutdown).await;
        dialled.map_err(|err| match err {
            DialError::Tls(err) => format!("tls: {err}"),
            err => format!("dial tcp {}: {err}", dial::host_port(&host, port)),
        })
    }

    async fn send(&self, mut sender: SendRequest<Body>, path: &str, body: Bytes) -> Result<Answer, SendError> {
        sender.ready().await?;
        let mut request = Request::post(path);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let request = request
            .header(HOST, &self.authority)
            .header(USER_AGENT, "kube-apiserver-admission")
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .body(Body::from(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(SendError::Body)?.to_bytes();
        self.keep(sender);
        Ok(Answer { status, body })
    }
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("read the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// The body of a success; what a client of Kubernetes says of anything else.
fn outcome(answer: Answer) -> Result<Bytes, CallError> {
    let code = answer.status.as_u16();
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let shown = String::from_utf8_lossy(&answer.body[..answer.body.len().min(MAX_SHOWN)]);
    let why = match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => format!("forbidden: {}", shown.trim()),
        404 => "the server could not find the requested resource".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        500.. => format!("an error on the server ({:?}) has prevented the request from succeeding", shown.trim()),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    };
    Err(CallError::Refused { code, why })
}

impl Shared {
    /// Where to connect to: an endpoint of the Service, since this server need not stand where Service addresses work.
    fn address(&self, place: &Place) -> Result<(String, u16), Unreachable> {
        match place {
            Place::Host { host, port } => Ok((host.clone(), *port)),
            Place::Service { namespace, name, port } => {
                self.services.address((namespace, name), *port, Routing::Endpoints)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_and_services_say_where_a_webhook_is() {
        let (place, authority, path) = from_url("https://[::1]:8443/a/b").unwrap();
        assert_eq!(place, Place::Host { host: "::1".into(), port: 8443 });
        assert_eq!((authority.as_str(), path.as_str()), ("[::1]:8443", "/a/b"));
        let (place, _, path) = from_url("https://hooks.example.com").unwrap();
        assert_eq!((place, path.as_str()), (Place::Host { host: "hooks.example.com".into(), port: 443 }, "/"));
        for bad in ["http://a", "a", "", "https://"] {
            assert!(from_url(bad).is_err(), "{bad:?}");
        }
        let (_, authority, path) = from_service(&json!({"namespace": "n", "name": "s", "port": 8443, "path": "x"}));
        assert_eq!((authority.as_str(), path.as_str()), ("s.n.svc:8443", "/x"));
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        daemon::install_crypto_provider();
        for bundle in ["!", "bm8gUEVN"] {
            assert!(client_config(bundle).is_err(), "{bundle}");
        }
    }

    #[test]
    fn errors_of_a_webhook_read_as_those_of_other_clients() {
        let text = |code: u16, body: &'static str| {
            let status = StatusCode::from_u16(code).unwrap();
            outcome(Answer { status, body: Bytes::from_static(body.as_bytes()) }).unwrap_err().to_string()
        };
        assert_eq!(text(404, ""), "the server could not find the requested resource");
        assert_eq!(text(500, "boom\n"), "an error on the server (\"boom\") has prevented the request from succeeding");
        assert!(text(302, "").contains("302"));
    }
}
