//! Who may ask: client certificates and tokens say who it is, the API server says whether they may.
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::warn;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{PeerCertificate, Shared};

/// How long answers are remembered, as upstream.
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
const IDENTIFIED: Duration = Duration::from_secs(120);
const MAX_REMEMBERED: usize = 4096;

/// A client that is who it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

type Question = (User, &'static str, &'static str);

/// What the API server said, and when.
type Remembered<T> = (T, Instant);

/// Asks the API server and remembers what it said.
pub(super) struct Auth {
    client: kube::Client,
    node: String,
    users: Mutex<HashMap<Vec<u8>, Remembered<Option<User>>>>,
    answers: Mutex<HashMap<Question, Remembered<bool>>>,
}

impl Auth {
    pub(super) fn new(client: kube::Client, node: String) -> Self {
        Self { client, node, users: Mutex::default(), answers: Mutex::default() }
    }

    async fn identify(&self, certificate: &PeerCertificate, token: Option<&str>) -> kube::Result<Option<User>> {
        if let Some(user) = certificate.0.as_ref().and_then(|der| from_certificate(der)) {
            return Ok(Some(user));
        }
        let Some(token) = token else { return Ok(None) };
        let key = Sha256::digest(token.as_bytes()).to_vec();
        if let Some(user) = remembered(&self.users, &key) {
            return Ok(user);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        remember(&self.users, key, user.clone(), IDENTIFIED);
        Ok(user)
    }

    async fn is_allowed(&self, user: &User, verb: &'static str, subresource: &'static str) -> kube::Result<bool> {
        // This group may do everything in the API too; asking would only cost a round trip for every log.
        if user.groups.iter().any(|group| group == "system:masters") {
            return Ok(true);
        }
        let question = (user.clone(), verb, subresource);
        if let Some(answer) = remembered(&self.answers, &question) {
            return Ok(answer);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        remember(&self.answers, question, allowed, if allowed { ALLOWED } else { DENIED });
        Ok(allowed)
    }
}

fn remembered<K: std::hash::Hash + Eq, V: Clone>(cache: &Mutex<HashMap<K, (V, Instant)>>, key: &K) -> Option<V> {
    let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    cache.get(key).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
}

fn remember<K: std::hash::Hash + Eq, V>(cache: &Mutex<HashMap<K, (V, Instant)>>, key: K, value: V, hold: Duration) {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= MAX_REMEMBERED {
        cache.clear();
    }
    cache.insert(key, (value, Instant::now() + hold));
}

/// The common name is the user, organizations are the groups, as the API server reads them. TLS has verified the certificate.
fn from_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let daemon::Names { common, organizations } = daemon::names_of(certificate.subject())?;
    let groups = organizations.into_iter().chain(["system:authenticated".to_owned()]).collect();
    Some(User { name: common, uid: None, groups, extra: BTreeMap::new() })
}

/// The subresources of `nodes` that allow a path: a narrow one first, where there is one.
fn subresources(path: &str) -> &'static [&'static str] {
    let path = path.trim_end_matches('/');
    let under = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    if under("/metrics") {
        &["metrics"]
    } else if under("/stats") {
        &["stats"]
    } else if under("/logs") {
        &["log"]
    } else if under("/healthz") {
        &["healthz", "proxy"]
    } else if under("/pods") {
        &["pods", "proxy"]
    } else {
        &["proxy"]
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Lets a request through, or answers 401 or 403.
pub(super) async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let certificate = request.extensions().get::<PeerCertificate>().cloned().unwrap_or(PeerCertificate(None));
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let verb = verb(request.method());
    let path = request.uri().path().to_owned();
    let verdict = async {
        let Some(user) = shared.auth.identify(&certificate, token.as_deref()).await? else {
            return Ok(Err((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned())));
        };
        let mut last = "";
        for subresource in subresources(&path) {
            if shared.auth.is_allowed(&user, verb, subresource).await? {
                return Ok(Ok(()));
            }
            last = subresource;
        }
        let message = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{last}])", user.name);
        Ok::<_, kube::Error>(Err((StatusCode::FORBIDDEN, message)))
    };
    match verdict.await {
        Ok(Ok(())) => next.run(request).await,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(err) => {
            warn!(error = &err as &dyn std::error::Error, "cannot ask the API server who may do what");
            (StatusCode::INTERNAL_SERVER_ERROR, "Authorization error").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_need_the_rights_that_upstream_asks_for() {
        let check = |path: &str, expected: &[&str]| assert_eq!(subresources(path), expected, "{path}");
        check("/metrics/resource", &["metrics"]);
        check("/metricsx", &["proxy"]);
        check("/pods", &["pods", "proxy"]);
        check("/exec/a/b/c", &["proxy"]);
        check("/stats/summary", &["stats"]);
    }
}
