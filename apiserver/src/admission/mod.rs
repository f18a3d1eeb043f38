//! Admission: plugins that change a write (mutating) or refuse it (validating), after authorisation and before commit.
//!
//! Mutating plugins run in order on the decoded and defaulted object; validating ones see what will be stored. Deletes
//! and connects pass through as well, without an object.

mod configuration;
pub mod expression;
pub mod matching;
mod namespaces;
mod plugins;
mod reinvocation;
mod versions;

use std::sync::Arc;

use api::catalog::Catalog;
use api::strategy::User;
use api::{ApiError, Object, Resource};
use async_trait::async_trait;
use store::Store;

use crate::authz::{self, Rbac};
use crate::config::Config;
use crate::conversion::Converters;
use crate::error::Error;
use crate::outbound::webhooks::Webhooks;
use crate::watch_cache::WatchCache;

use configuration::Configuration;

pub(crate) use plugins::certificate_subject_restriction::groups_asked_for;

pub use namespaces::Namespaces;
pub use plugins::admin_access::AdminAccess;
pub use plugins::certificate_approval::SignerPermission;
pub use plugins::certificate_subject_restriction::CertificateSubjectRestriction;
pub use plugins::default_storage_class::DefaultClass;
pub use plugins::default_toleration_seconds::DefaultTolerationSeconds;
pub use plugins::limit_ranger::LimitRanger;
pub use plugins::namespace_lifecycle::NamespaceLifecycle;
pub use plugins::node_restriction::NodeRestriction;
pub use plugins::persistent_volume_claim_resize::PersistentVolumeClaimResize;
pub use plugins::pod_security::PodSecurity;
pub use plugins::policy::{MutatingPolicies, Params, Surroundings, ValidatingPolicies};
pub use plugins::priority::Priority;
pub use plugins::rbac_escalation::Escalation;
pub use plugins::resource_quota::ResourceQuota;
pub use plugins::runtime_class::RuntimeClass;
pub use plugins::service_account::ServiceAccount;
pub use plugins::storage_object_in_use_protection::StorageObjectInUseProtection;
pub use plugins::taint_nodes_by_condition::TaintNodesByCondition;
pub use plugins::unprivileged::Unprivileged;
pub use plugins::webhook::{Means, MutatingWebhooks, ValidatingWebhooks};
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
}

/// Texts for `Warning` headers that plugins leave behind.
pub type Warnings = Vec<String>;

/// A plugin that may change objects.
#[async_trait]
pub trait MutatingAdmission: Send + Sync {
    /// The plugin's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Changes `object` (absent on delete and connect) or refuses.
    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError>;
}

/// A plugin that may refuse.
#[async_trait]
pub trait ValidatingAdmission: Send + Sync {
    /// The plugin's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Refuses with an error.
    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError>;
}

/// All plugins in order.
#[derive(Default)]
pub struct Chain {
    pub mutating: Vec<Arc<dyn MutatingAdmission>>,
    pub validating: Vec<Arc<dyn ValidatingAdmission>>,
}

impl Chain {
    /// Runs the mutating plugins, and once more when one of them asks for it.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
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
    ) -> Result<(), ApiError> {
        for plugin in &self.mutating {
            plugin.admit(attributes, object.as_deref_mut(), warnings).await?;
        }
        Ok(())
    }

    /// Runs all plugins over the body of a subresource, which is stored as it is or not at all.
    pub async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Object,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        self.mutate(attributes, Some(object), warnings).await?;
        self.validate(attributes, Some(object), warnings).await
    }

    /// Runs the validating plugins.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        for plugin in &self.validating {
            plugin.validate(attributes, object, warnings).await?;
        }
        Ok(())
    }
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

/// The plugins that a configuration asks for, in upstream's order.
pub(crate) fn builtin(
    config: &Config,
    cache: &Arc<WatchCache>,
    (store, swap): (&Arc<dyn Store>, Swap),
    rbac: &Arc<Rbac>,
    authz: &Arc<authz::Chain>,
    webhooks: &Webhooks,
    converters: &Arc<Converters>,
) -> Result<Chain, Error> {
    let mut chain = Chain::default();
    let namespaces = Namespaces::new(cache, store);
    fn add<P: MutatingAdmission + 'static>(chain: &mut Chain, plugin: Option<P>) {
        chain.mutating.extend(plugin.map(|plugin| Arc::new(plugin) as Arc<dyn MutatingAdmission>));
    }
    add(&mut chain, namespaces.clone().map(NamespaceLifecycle::new));
    let ranges = LimitRanger::new(cache).map(Arc::new);
    chain.mutating.extend(ranges.clone().map(|plugin| plugin as Arc<dyn MutatingAdmission>));
    let extra = config.service_account_extra_ca_config_maps.clone();
    add(&mut chain, ServiceAccount::new(cache, store.clone(), extra));
    add(&mut chain, NodeRestriction::new(cache, authz));
    add(&mut chain, Some(TaintNodesByCondition));
    add(&mut chain, Priority::new(cache));
    let tolerations = DefaultTolerationSeconds {
        not_ready: config.not_ready_toleration_seconds,
        unreachable: config.unreachable_toleration_seconds,
    };
    add(&mut chain, Some(tolerations));
    add(&mut chain, DefaultClass::storage(cache));
    add(&mut chain, Some(StorageObjectInUseProtection));
    add(&mut chain, RuntimeClass::new(cache));
    add(&mut chain, DefaultClass::ingress(cache));
    let surroundings = namespaces.clone().map(|namespaces| Surroundings {
        namespaces,
        authz: authz.clone(),
        params: Params::new(cache, converters),
        converters: converters.clone(),
    });
    // They see what all others have made of the object, and are seen by them once more.
    add(&mut chain, surroundings.as_ref().and_then(|surroundings| MutatingPolicies::new(cache, surroundings)));
    let means = namespaces.as_ref().map(|namespaces| Means {
        namespaces: namespaces.clone(),
        authz: authz.clone(),
        converters: converters.clone(),
    });
    add(&mut chain, means.as_ref().and_then(|means| MutatingWebhooks::new(cache, means, webhooks)));
    chain.validating.extend(ranges.map(|plugin| plugin as Arc<dyn ValidatingAdmission>));
    let settings = Configuration::read(config.admission_configuration.as_deref())?;
    let pod_security = PodSecurity::new(cache, settings.pod_security);
    chain.validating.extend(pod_security.map(|plugin| Arc::new(plugin) as Arc<dyn ValidatingAdmission>));
    let resize = PersistentVolumeClaimResize::new(cache);
    chain.validating.extend(resize.map(|plugin| Arc::new(plugin) as Arc<dyn ValidatingAdmission>));
    chain.validating.push(Arc::new(SignerPermission::approval(authz.clone())));
    chain.validating.push(Arc::new(SignerPermission::signing(authz.clone())));
    chain.validating.push(Arc::new(CertificateSubjectRestriction));
    let policies = surroundings.as_ref().and_then(|surroundings| ValidatingPolicies::new(cache, surroundings));
    chain.validating.extend(policies.map(|plugin| Arc::new(plugin) as Arc<dyn ValidatingAdmission>));
    let validating = means.as_ref().and_then(|means| ValidatingWebhooks::new(cache, means, webhooks));
    chain.validating.extend(validating.map(|plugin| Arc::new(plugin) as Arc<dyn ValidatingAdmission>));
    plugins::upstream::check(config, &chain)?;
    chain.mutating.retain(|plugin| !config.disable_admission_plugins.iter().any(|name| name == plugin.name()));
    chain.validating.retain(|plugin| !config.disable_admission_plugins.iter().any(|name| name == plugin.name()));
    if !config.allow_privileged {
        chain.validating.push(Arc::new(Unprivileged));
    }
    chain.validating.push(Arc::new(Escalation::new(rbac.clone(), authz.clone())));
    chain.validating.extend(namespaces.map(|found| Arc::new(AdminAccess::new(found)) as Arc<dyn ValidatingAdmission>));
    // Last, since what it books is not given back when another plugin refuses.
    if !config.disable_admission_plugins.iter().any(|name| name == "ResourceQuota") {
        chain.validating.extend(
            ResourceQuota::new(cache, store.clone(), swap)
                .map(|plugin| Arc::new(plugin) as Arc<dyn ValidatingAdmission>),
        );
    }
    Ok(chain)
}
