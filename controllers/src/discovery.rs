//! Which kinds of objects exist, for the controllers that deal with all of them.

use kube::{
    Discovery,
    core::{ApiResource, discovery::Scope},
    discovery::ApiCapabilities,
};

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
