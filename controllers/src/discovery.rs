//! Which kinds of objects exist, for the controllers that deal with all of them (upstream: `GetDeletableResources`).

use std::collections::HashMap;
use std::sync::Arc;

use client::{Event, Informer, Watchable};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Discovery;
use kube::core::discovery::Scope;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::discovery::{ApiCapabilities, ApiGroup};
use tokio::sync::Notify;

use crate::context::Context;

/// A kind that is served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) is_namespaced: bool,
    verbs: Vec<String>,
    /// All versions in which the group serves it.
    versions: Vec<String>,
}

impl Kind {
    fn new((resource, capabilities): (ApiResource, ApiCapabilities), served: &HashMap<String, Vec<String>>) -> Self {
        let is_namespaced = matches!(capabilities.scope, Scope::Namespaced);
        let versions = served.get(&resource.kind).cloned().unwrap_or_default();
        Self { resource, is_namespaced, verbs: capabilities.operations, versions }
    }

    /// Whether `api_version` (`apps/v1`) and `kind` mean this kind: in any version that is served.
    pub(crate) fn is_called(&self, api_version: &str, kind: &str) -> bool {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.resource.kind == kind && self.resource.group == group && self.versions.iter().any(|one| one == version)
    }

    /// Whether all of these verbs are served.
    pub(crate) fn serves(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|known| known == verb))
    }

    /// `deployments.apps`, or `pods` in the core group.
    pub(crate) fn name(&self) -> String {
        if self.resource.group.is_empty() {
            return self.resource.plural.clone();
        }
        format!("{}.{}", self.resource.plural, self.resource.group)
    }
}

/// Asks the API server for every kind, each once in its most stable version.
pub(crate) async fn kinds(client: &kube::Client) -> kube::Result<Vec<Kind>> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let groups = discovery.groups();
    Ok(groups.flat_map(kinds_of).collect())
}

fn kinds_of(group: &ApiGroup) -> Vec<Kind> {
    let mut served: HashMap<String, Vec<String>> = HashMap::new();
    for version in group.versions() {
        for (resource, _) in group.versioned_resources(version) {
            served.entry(resource.kind).or_default().push(version.to_owned());
        }
    }
    group.resources_by_stability().into_iter().map(|resource| Kind::new(resource, &served)).collect()
}

/// Notifies whenever other kinds may be served.
pub(crate) fn notify_on_change(context: &Context, changed: &Arc<Notify>) {
    let changed = Arc::clone(changed);
    on_change(context, move || changed.notify_one());
}

/// Calls `changed` whenever other kinds may be served. It must be quick.
pub(crate) fn on_change(context: &Context, changed: impl Fn() + Clone + Send + Sync + 'static) {
    // Schemas are most of what is kept in a cluster with many definitions; here nobody reads them.
    let definitions = context.informers.of::<PartialObjectMeta<CustomResourceDefinition>>();
    call_on(&definitions, changed.clone(), |definition| format!("{:?}", definition.metadata.resource_version));
    call_on(&context.informers.of::<APIService>(), changed, |service| format!("{:?}", service.status));
}

fn call_on<K: Watchable>(informer: &Informer<K>, changed: impl Fn() + Send + Sync + 'static, view: fn(&K) -> String) {
    informer.on_event(move |event| {
        if let Event::Applied { old: Some(old), new } = event
            && view(old) == view(new)
        {
            return;
        }
        changed();
    });
}
