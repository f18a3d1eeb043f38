//! Authentication: who a request is from. A chain of authenticators, the first that recognises a credential decides.
//!
//! There is no switch that turns it off: an unknown client is `system:anonymous` where that is allowed, else 401.

mod bootstrap_token;
mod front_proxy;
pub(crate) mod impersonate;
mod token_file;
pub mod tokens;
mod x509;

use std::sync::Arc;

use api::strategy::User;
use async_trait::async_trait;
use http::request::Parts;

pub use bootstrap_token::BootstrapTokens;
pub use front_proxy::{FrontProxy, Headers};
pub use token_file::{Error as TokenFileError, TokenFile};
pub use x509::{PeerCertificate, Vouched, X509};

/// Name and group of who shows no credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of everyone who shows none.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group of everyone who shows some.
pub const AUTHENTICATED: &str = "system:authenticated";

/// One way to recognise users.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// `Ok(None)` when the request shows no credential of this kind, `Err` when it shows a bad one.
    async fn authenticate(&self, request: &Parts) -> Result<Option<User>, Rejected>;

    /// Whose bearer token this is, for one of these audiences; `Ok(None)` when it knows no such tokens.
    async fn review(&self, _token: &str, _audiences: &[String]) -> Result<Option<Reviewed>, Rejected> {
        Ok(None)
    }
}

/// The user of a token, and the audiences that it is good for among those asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    pub user: User,
    pub audiences: Vec<String>,
}

/// A credential that is not valid; the reason is for the log, not for the client.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Rejected {
    pub reason: String,
}

/// All authenticators in order.
pub struct Chain {
    authenticators: Vec<Arc<dyn Authenticator>>,
    anonymous: bool,
}

impl Chain {
    /// `anonymous` lets requests without credentials pass as `system:anonymous`.
    pub fn new(authenticators: Vec<Arc<dyn Authenticator>>, anonymous: bool) -> Self {
        Self { authenticators, anonymous }
    }

    /// Who the request is from; `None` is a 401. Like upstream, a bad credential does not stop the chain: another
    /// authenticator may know it. But it never falls back to anonymous.
    pub async fn authenticate(&self, request: &Parts) -> Option<User> {
        let mut rejected = false;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(request).await {
                Ok(Some(user)) => return Some(with_group(user, AUTHENTICATED)),
                Ok(None) => {}
                Err(err) => {
                    rejected = true;
                    tracing::debug!(error = &err as &dyn std::error::Error, "credential rejected");
                }
            }
        }
        let shows_one = bearer(request).is_some();
        (self.anonymous && !rejected && !shows_one).then(anonymous)
    }

    /// Whose bearer token this is, with the groups that all users have.
    pub async fn review(&self, token: &str, audiences: &[String]) -> Result<Reviewed, Rejected> {
        let mut why = Rejected { reason: "invalid bearer token".to_owned() };
        for authenticator in &self.authenticators {
            match authenticator.review(token, audiences).await {
                Ok(Some(Reviewed { user, audiences })) => {
                    return Ok(Reviewed { user: with_group(user, AUTHENTICATED), audiences });
                }
                Ok(None) => {}
                Err(err) => why = Rejected { reason: format!("[invalid bearer token, {err}]") },
            }
        }
        Err(why)
    }
}

/// Names the user in a review's answer.
pub(crate) fn user_value(user: &User) -> serde_json::Value {
    let mut tree = serde_json::json!({"username": user.name});
    if !user.uid.is_empty() {
        tree["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        tree["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(key, values)| (key.clone(), values.clone().into()));
        tree["extra"] = serde_json::Value::Object(extra.collect());
    }
    tree
}

/// The user without credentials.
pub fn anonymous() -> User {
    User { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..User::default() }
}

fn with_group(mut user: User, group: &str) -> User {
    let named = user.name == ANONYMOUS;
    if !named && !user.groups.iter().any(|known| known == group) {
        user.groups.push(group.to_owned());
    }
    user
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(request: &Parts) -> Option<&str> {
    let value = request.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let mut parts = value.trim().split(' ');
    let (scheme, token) = (parts.next()?, parts.next()?);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
