//! Admission (upstream's `apiserver/pkg/admission`): plugins that change a write (mutating) or refuse it (validating),
//! after authorisation and before commit.
//!
//! Mutating plugins run in order on the decoded and defaulted object; validating ones see what will be stored. Deletes
//! and connects pass through as well, without an object.

mod config;
mod configuration;
mod environment;
pub mod expression;
pub mod matching;
mod metrics;
mod namespaces;
mod plugins;
mod reinvocation;
mod versions;

use std::sync::Arc;

use api::catalog::Catalog;
use api::strategy::User;
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use serde_json::Value;

use self::metrics::{Phase, Times};

pub(crate) use configuration::Configuration;
pub(crate) use environment::{Environment, Swap};
pub(crate) use metrics::Metrics;
pub(crate) use plugins::{chain, groups_asked_for};

pub use config::{AdmissionConfig, ConfigMapKey};
pub use namespaces::Namespaces;
pub use plugins::DefaultTolerationSeconds;
pub use reinvocation::Reinvocation;
pub use versions::kind_of;

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
    /// The resource in its storage version: that of `old` and of objects on their way through the plugins.
    pub resource: &'a Resource,
    /// The resource in the version that the client speaks.
    pub requested: &'a Resource,
    /// What resources there are.
    pub catalog: &'a Catalog,
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
    /// What mutating plugins remember between their rounds; the chain gives it to them.
    pub reinvocation: Option<&'a Reinvocation>,
}

impl Attributes<'_> {
    /// Whether this is about namespaces themselves.
    pub fn is_namespace(&self) -> bool {
        self.resource.group.is_empty() && self.resource.plural == "namespaces"
    }

    /// The namespace that this is about; a namespace counts as lying in itself.
    pub fn namespace_name(&self) -> &str {
        if self.is_namespace() { self.name } else { self.namespace }
    }

    /// Whether this is a write to the resource itself in `group`, not to a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural && self.subresource.is_empty()
    }

    /// Whether this creates such a resource.
    pub fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.is(group, plural)
    }

    /// The error that refuses this.
    pub fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(self.resource.qualified(), self.name, why)
    }
}

/// Texts for `Warning` headers that plugins leave behind.
pub type Warnings = Vec<String>;

/// What a plugin says: go on, or why not.
pub type Outcome = Result<(), ApiError>;

/// A plugin that may change objects.
#[async_trait]
pub trait MutatingAdmission: Send + Sync {
    /// Changes `object` (absent on delete and connect) or refuses.
    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Object>, warnings: &mut Warnings)
    -> Outcome;
}

/// A plugin that may refuse.
#[async_trait]
pub trait ValidatingAdmission: Send + Sync {
    /// Refuses with an error.
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>, warnings: &mut Warnings) -> Outcome;
}

/// All plugins in order, each with the times that it took.
pub struct Chain {
    mutating: Vec<(Times, Arc<dyn MutatingAdmission>)>,
    validating: Vec<(Times, Arc<dyn ValidatingAdmission>)>,
    /// The times of all mutating plugins together, and of all validating ones.
    steps: (Times, Times),
}

impl Chain {
    fn new(metrics: &Metrics) -> Self {
        let steps = (metrics.times(None, Phase::Admit), metrics.times(None, Phase::Validate));
        Self { mutating: Vec::new(), validating: Vec::new(), steps }
    }

    /// Runs the mutating plugins, and once more when one of them asks for it.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Object>,
        warnings: &mut Warnings,
    ) -> Outcome {
        let rounds = Reinvocation::default();
        let attributes = Attributes { reinvocation: Some(&rounds), ..*attributes };
        self.round(&attributes, object.as_deref_mut(), warnings).await?;
        if rounds.goes_on() { self.round(&attributes, object, warnings).await } else { Ok(()) }
    }

    async fn round(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Object>,
        warnings: &mut Warnings,
    ) -> Outcome {
        let operation = attributes.operation;
        let all = async {
            for (times, plugin) in &self.mutating {
                times.of(operation, plugin.admit(attributes, object.as_deref_mut(), warnings)).await?;
            }
            Ok(())
        };
        self.steps.0.of(operation, all).await
    }

    /// Runs all plugins over the body of a subresource, which is stored as it is or not at all.
    pub async fn admit(&self, attributes: &Attributes<'_>, object: &mut Object, warnings: &mut Warnings) -> Outcome {
        self.mutate(attributes, Some(object), warnings).await?;
        self.validate(attributes, Some(object), warnings).await
    }

    /// Runs the validating plugins.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        warnings: &mut Warnings,
    ) -> Outcome {
        let operation = attributes.operation;
        let all = async {
            for (times, plugin) in &self.validating {
                times.of(operation, plugin.validate(attributes, object, warnings)).await?;
            }
            Ok(())
        };
        self.steps.1.of(operation, all).await
    }
}

/// Text in a field of a tree; empty if there is none.
fn text<'a>(tree: &'a Value, name: &str) -> &'a str {
    tree.get(name).and_then(Value::as_str).unwrap_or("")
}

/// The entries of a list in a field of a tree.
fn list<'a>(tree: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    tree.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// What admission goes by, by where it lies in the store. While something of it cannot be read, nothing is admitted.
pub(crate) const GOES_BY: [&str; 9] = [
    "namespaces",
    "resourcequotas",
    "limitranges",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];
