//! Authentication: who a request is from. A chain of authenticators, the first that recognises a credential decides.
//! Upstream: `authentication/request/union`.
//!
//! There is no switch that turns it off: an unknown client is `system:anonymous` where that is allowed, else 401.

mod anonymous;
mod bootstrap_token;
mod configured;
mod front_proxy;
mod jwt;
mod made;
pub(crate) mod protocols;
mod token_file;
pub mod tokens;
mod webhook;
mod x509;

use std::borrow::Cow;
use std::sync::Arc;

use api::ApiError;
use api::strategy::User;
use async_trait::async_trait;
use http::request::Parts;

use crate::request::headers as header;

pub use anonymous::Anonymous;
pub use bootstrap_token::BootstrapTokens;
pub use configured::AuthenticationConfig;
pub use front_proxy::{FrontProxy, Headers};
pub(crate) use jwt::Jwt;
pub use jwt::OidcArgs;
pub use jwt::testing::SigningKey;
pub(crate) use made::chain;
pub use token_file::TokenFile;
pub use webhook::TokenWebhookConfig;
pub use x509::X509;

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
    reason: String,
    /// What the client is told of a header that is there and cannot be read. Nobody else is asked then.
    unreadable: Option<Box<ApiError>>,
}

impl Rejected {
    /// It is not valid.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), unreadable: None }
    }

    /// It cannot even be read.
    pub(crate) fn unreadable(err: ApiError) -> Self {
        Self { reason: err.to_string(), unreadable: Some(Box::new(err)) }
    }
}

/// All authenticators in order.
pub struct Chain {
    authenticators: Vec<Arc<dyn Authenticator>>,
    anonymous: Anonymous,
}

impl Chain {
    /// `anonymous` lets requests without credentials pass as `system:anonymous`.
    pub fn new(authenticators: Vec<Arc<dyn Authenticator>>, anonymous: impl Into<Anonymous>) -> Self {
        Self { authenticators, anonymous: anonymous.into() }
    }

    /// Who the request is from; `None` is a 401. Like upstream, a bad credential does not stop the chain: another
    /// authenticator may know it. But it never falls back to anonymous. What cannot be read is an error: without it the
    /// request would be another one's.
    pub async fn authenticate(&self, request: &Parts) -> Result<Option<User>, ApiError> {
        let mut rejected = match bearer(request) {
            Ok(token) => token.is_some(),
            Err(Rejected { unreadable: Some(err), .. }) => return Err(*err),
            Err(_) => true,
        };
        for authenticator in &self.authenticators {
            match authenticator.authenticate(request).await {
                Ok(Some(user)) => return Ok(Some(with_group(user, AUTHENTICATED))),
                Ok(None) => {}
                Err(Rejected { unreadable: Some(err), .. }) => return Err(*err),
                Err(err) => {
                    rejected = true;
                    tracing::debug!(error = &err as &dyn std::error::Error, "credential rejected");
                }
            }
        }
        Ok((!rejected && self.anonymous.passes(request.uri.path())).then(anonymous))
    }

    /// Whose bearer token this is, with the groups that all users have.
    pub async fn review(&self, token: &str, audiences: &[String]) -> Result<Reviewed, Rejected> {
        let mut why = Rejected::because("invalid bearer token");
        for authenticator in &self.authenticators {
            match authenticator.review(token, audiences).await {
                Ok(Some(Reviewed { user, audiences })) => {
                    return Ok(Reviewed { user: with_group(user, AUTHENTICATED), audiences });
                }
                Ok(None) => {}
                Err(err) => why = Rejected::because(format!("[invalid bearer token, {err}]")),
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

/// The token of an `Authorization: Bearer` header, or that of a WebSocket's protocols.
pub fn bearer(request: &Parts) -> Result<Option<Cow<'_, str>>, Rejected> {
    let value = header::text(&request.headers, http::header::AUTHORIZATION.as_str()).map_err(Rejected::unreadable)?;
    let token = value.and_then(|value| {
        let mut parts = value.trim().split(' ');
        let (scheme, token) = (parts.next()?, parts.next()?);
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    });
    match token {
        Some(token) => Ok(Some(token.into())),
        None => Ok(protocols::token(&request.headers)?.map(Cow::Owned)),
    }
}
