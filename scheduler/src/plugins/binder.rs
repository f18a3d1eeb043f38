//! Binding through the API.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use crate::framework::{Bind, Broken, Plugin, PodInfo};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("DefaultBinder", |slot| {
    let client = slot.client.clone();
    slot.plain(DefaultBinder { client }).bind().end()
});

/// POSTs a Binding.
pub(crate) struct DefaultBinder {
    pub(crate) client: kube::Client,
}

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
}

#[async_trait]
impl Bind for DefaultBinder {
    async fn bind(&self, pod: &PodInfo, node: &str) -> Result<bool, Broken> {
        let name = pod.pod.metadata.name.clone().unwrap_or_default();
        let binding = Binding {
            // The uid keeps a pod that was deleted and made again from getting the old one's node.
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: pod.pod.metadata.namespace.clone(),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
        let answer: kube::Result<kube::core::Status> =
            api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        answer.map(|_| true).map_err(|err| Broken { plugin: PLUGIN.name, reason: err.to_string() })
    }
}
