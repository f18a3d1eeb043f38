//! Which kinds of objects exist, for the controllers that deal with all of them.

use std::sync::Arc;

use client::{Event, Informer, Watchable};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Discovery,
    core::{ApiResource, discovery::Scope},
    discovery::ApiCapabilities,
};
use tokio::sync::Notify;

use crate::context::Context;

/// A kind that is served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) is_namespaced: bool,
    verbs: Vec<String>,
}

impl Kind {
    fn new((resource, capabilities): (ApiResource, ApiCapabilities)) -> Self {
        let is_namespaced = matches!(capabilities.scope, Scope::Namespaced);
        Self { resource, is_namespaced, verbs: capabilities.operations }
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
    Ok(groups.flat_map(|group| group.resources_by_stability()).map(Kind::new).collect())
}

/// Notifies whenever other kinds may be served.
pub(crate) fn notify_on_change(context: &Context, changed: &Arc<Notify>) {
    notify_of(&context.informers.of::<CustomResourceDefinition>(), changed, |crd| {
        let names = crd.status.as_ref().and_then(|status| status.conditions.clone());
        format!("{:?} {names:?}", crd.metadata.generation)
    });
    notify_of(&context.informers.of::<APIService>(), changed, |service| format!("{:?}", service.status));
}

fn notify_of<K: Watchable>(informer: &Informer<K>, changed: &Arc<Notify>, view: fn(&K) -> String) {
    let changed = Arc::clone(changed);
    informer.on_event(move |event| {
        if let Event::Applied { old: Some(old), new } = event
            && view(old) == view(new)
        {
            return;
        }
        changed.notify_one();
    });
}
