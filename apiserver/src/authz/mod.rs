//! Authorisation: whether a user may do what the request asks. A chain of authorisers; the first opinion counts, and
//! without any the answer is no. Upstream: `authorization/union`.

pub(crate) mod bootstrap_policy;
mod conditions;
mod configured;
pub(crate) mod follow;
mod made;
mod node;
mod rbac;
mod rule;
mod webhook;

use std::sync::{Arc, PoisonError, RwLock};

use api::ApiError;
use api::status::Qualified;
use api::strategy::User;
use async_trait::async_trait;

use crate::authn::UNAUTHENTICATED;
use crate::request::info::RequestInfo;

pub use conditions::Conditions;
pub use made::AuthorizationConfig;
pub(crate) use made::Maker;
pub use node::{Nodes, node_of};
pub use rbac::{Rbac, Rules};
pub use rule::{Rule, covers, uncovered};
pub use webhook::{FailurePolicy, WebhookConfig};

pub use crate::outbound::review_version::ReviewVersion;

/// Members may do everything; this cannot be configured away.
pub const MASTERS: &str = "system:masters";

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub user: User,
    pub verb: String,
    pub namespace: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// The path of a request that is not for a resource.
    pub path: String,
    pub is_resource: bool,
    /// The field selector of lists and watches, as written (for the node authoriser).
    pub field_selector: String,
    /// The label selector of lists and watches, as written.
    pub label_selector: String,
}

impl Attributes {
    /// The attributes of a request.
    pub fn new(user: &User, info: &RequestInfo) -> Self {
        Self {
            user: user.clone(),
            verb: info.verb().to_owned(),
            namespace: info.namespace.clone(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
            is_resource: info.is_resource,
            ..Self::default()
        }
    }

    /// The error that a refused request gets.
    pub fn forbidden(&self, reason: &str) -> ApiError {
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let user = format!("User {:?}", self.user.name);
        if !self.is_resource {
            let message = format!("{user} cannot {} path {:?}{why}", self.verb, self.path);
            return ApiError::forbidden(Qualified { group: "", resource: "" }, "", &message);
        }
        let resource = if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        let message =
            format!("{user} cannot {} resource {resource:?} in API group {:?} {place}{why}", self.verb, self.group);
        ApiError::forbidden(Qualified { group: &self.group, resource: &self.resource }, &self.name, &message)
    }
}

/// One authoriser's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; the reason is shown to who asks with a review.
    Allow(String),
    /// No, whatever others say.
    Deny(String),
    /// Ask the next; the reason is shown if nobody allows.
    NoOpinion(String),
}

/// One way to decide.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Decides on the attributes alone.
    async fn authorize(&self, attributes: &Attributes) -> Decision;
}

/// Authorisers in order.
pub(crate) type Authorizers = Vec<Arc<dyn Authorizer>>;

/// All authorisers in order, after the built-in rule for `system:masters`.
pub struct Chain(RwLock<Arc<Authorizers>>);

impl Chain {
    /// `authorizers` are asked in order.
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self(RwLock::new(Arc::new(authorizers)))
    }

    /// Puts others in their place: what is decided from now on, they decide.
    pub(crate) fn replace(&self, authorizers: Authorizers) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(authorizers);
    }

    fn authorizers(&self) -> Arc<Authorizers> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What all of them together say, with all reasons.
    pub async fn decide(&self, attributes: &Attributes) -> Decision {
        if attributes.user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for authorizer in self.authorizers().iter() {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(why) if why.is_empty() => {}
                Decision::NoOpinion(why) => reasons.push(why),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join(", "))
    }

    /// Whether it is allowed, else why not.
    pub async fn authorize(&self, attributes: &Attributes) -> Result<(), String> {
        match self.decide(attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(why) | Decision::NoOpinion(why) => Err(why),
        }
    }

    /// As [`Self::authorize`], with the error that the client gets.
    pub async fn require(&self, attributes: &Attributes) -> Result<(), ApiError> {
        self.authorize(attributes).await.map_err(|why| attributes.forbidden(&why))
    }
}

/// Health paths, which probes read before roles are known (upstream's `--authorization-always-allow-paths`).
pub struct PublicPaths;

#[async_trait]
impl Authorizer for PublicPaths {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let public = ["/healthz", "/livez", "/readyz"];
        let allowed = !attributes.is_resource && attributes.verb == "get" && public.contains(&attributes.path.as_str());
        if allowed { Decision::Allow(String::new()) } else { Decision::NoOpinion(String::new()) }
    }
}

/// Lets everyone do everything whose name is known (`AlwaysAllow`, as a mode or in a configuration that is followed):
/// nobody who says nothing of himself owns the cluster.
pub struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, attributes: &Attributes) -> Decision {
        let is_unknown = attributes.user.groups.iter().any(|group| group == UNAUTHENTICATED);
        if is_unknown { Decision::NoOpinion(String::new()) } else { Decision::Allow(String::new()) }
    }
}

/// Refuses everyone but `system:masters` (`--authorization-mode=AlwaysDeny`).
pub struct AlwaysDeny;

#[async_trait]
impl Authorizer for AlwaysDeny {
    async fn authorize(&self, _attributes: &Attributes) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".into())
    }
}
