//! Admission: plugins that change a write (mutating) or refuse it (validating), after authorisation and before commit.
//!
//! Mutating plugins run in order on the decoded and defaulted object; validating ones see what will be stored. Deletes
//! and connects pass through as well, without an object.

mod escalation;
mod namespace_lifecycle;

use std::sync::Arc;

use api::strategy::User;
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use store::Store;

use crate::authz::{self, Rbac};
use crate::config::Config;
use crate::error::Error;
use crate::watch_cache::WatchCache;

pub use escalation::Escalation;
pub use namespace_lifecycle::NamespaceLifecycle;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As webhooks and policies spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What a plugin may know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty while a generated name is not decided.
    pub name: &'a str,
    pub user: &'a User,
    pub dry_run: bool,
    /// The stored object that is changed or deleted.
    pub old: Option<&'a Object>,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions as sent.
    pub options: Option<&'a serde_json::Value>,
}

impl Attributes<'_> {
    /// Whether this is a write to the resource itself in `group`, not to a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural && self.subresource.is_empty()
    }
}

/// Texts for `Warning` headers that plugins leave behind.
pub type Warnings = Vec<String>;

/// A plugin that may change objects.
#[async_trait]
pub trait MutatingAdmission: Send + Sync {
    /// The plugin's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Changes `object` (absent on delete and connect) or refuses.
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, warnings: &mut Warnings) -> Result<(), ApiError>;
}

/// A plugin that may refuse.
#[async_trait]
pub trait ValidatingAdmission: Send + Sync {
    /// The plugin's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Refuses with an error.
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, warnings: &mut Warnings) -> Result<(), ApiError>;
}

/// All plugins in order.
#[derive(Default)]
pub struct Chain {
    pub mutating: Vec<Arc<dyn MutatingAdmission>>,
    pub validating: Vec<Arc<dyn ValidatingAdmission>>,
}

impl Chain {
    /// Runs the mutating plugins.
    pub async fn mutate(&self, attributes: &Attributes<'_>, mut object: Option<&mut Object>, warnings: &mut Warnings) -> Result<(), ApiError> {
        for plugin in &self.mutating {
            plugin.admit(attributes, object.as_deref_mut(), warnings).await?;
        }
        Ok(())
    }

    /// Runs the validating plugins.
    pub async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, warnings: &mut Warnings) -> Result<(), ApiError> {
        for plugin in &self.validating {
            plugin.validate(attributes, object, warnings).await?;
        }
        Ok(())
    }
}

/// The plugins that a configuration asks for, in upstream's order.
pub(crate) fn builtin(
    config: &Config,
    cache: &Arc<WatchCache>,
    store: &Arc<dyn Store>,
    rbac: &Arc<Rbac>,
    authz: &Arc<authz::Chain>,
) -> Result<Chain, Error> {
    let mut chain = Chain::default();
    if let Some(namespaces) = cache.resource("namespaces") {
        chain.mutating.push(Arc::new(NamespaceLifecycle::new(namespaces, cache.clone(), store.clone())));
    }
    chain.mutating.retain(|plugin| !config.disable_admission_plugins.iter().any(|name| name == plugin.name()));
    chain.validating.retain(|plugin| !config.disable_admission_plugins.iter().any(|name| name == plugin.name()));
    chain.validating.push(Arc::new(Escalation::new(rbac.clone(), authz.clone())));
    Ok(chain)
}
