//! Who may ask: client certificates and tokens say who it is, the API server says whether they may (upstream:
//! pkg/kubelet/server/auth.go).
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use client::delegated::{Deed, Memory, Reviews, User};
use daemon::{Names, PeerCertificate};
use http::{Method, StatusCode, header};
use tracing::warn;

use super::Shared;

/// How long answers are remembered, as upstream.
const MEMORY: Memory =
    Memory { identified: Duration::from_secs(120), allowed: Duration::from_secs(300), denied: Duration::from_secs(30) };

/// Asks the API server and remembers what it said.
pub(super) struct Auth {
    reviews: Reviews,
    node: String,
}

impl Auth {
    pub(super) fn new(client: kube::Client, node: String) -> Self {
        Self { reviews: Reviews::new(client, MEMORY), node }
    }

    async fn identify(&self, certificate: Option<Names>, token: Option<&str>) -> kube::Result<Option<User>> {
        match (certificate, token) {
            (Some(Names { common, organizations }), _) => Ok(Some(User::of_certificate(common, organizations))),
            (None, Some(token)) => self.reviews.identify(token).await,
            (None, None) => Ok(None),
        }
    }

    async fn is_allowed(&self, user: &User, verb: &'static str, subresource: &'static str) -> kube::Result<bool> {
        self.reviews.is_allowed(user, &Deed::Node { verb, name: self.node.clone(), subresource }).await
    }
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
    let certificate = request.extensions().get::<PeerCertificate>().and_then(PeerCertificate::names);
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let verb = verb(request.method());
    let path = request.uri().path().to_owned();
    let verdict = async {
        let Some(user) = shared.auth.identify(certificate, token.as_deref()).await? else {
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
