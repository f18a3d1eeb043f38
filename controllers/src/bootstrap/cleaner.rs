//! Removes tokens that have expired (upstream: `TokenCleaner`).

use client::{Event, Informer, ObjectKey, WorkQueue, clock, write};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "token-cleaner-controller",
    aliases: &["tokencleaner"],
    start: |start| start.drive("token_cleaner", Cleaner::new(start.context), 1),
};

struct Cleaner {
    client: kube::Client,
    secrets: Informer<Secret>,
}

impl Cleaner {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let secrets = super::secrets(context);
        let changed = queue.clone();
        secrets.on_event(move |event| match event {
            Event::Applied { .. } if event.key().namespace == super::NAMESPACE => changed.add(event.key()),
            _ => {}
        });
        (Self { client: context.client.clone(), secrets }, queue)
    }
}

impl Controller for Cleaner {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(secret) = self.secrets.get(&key) else { return Ok(None) };
        let Some(left) = super::left(&secret, clock::now()) else { return Ok(None) };
        if !left.is_zero() {
            return Ok(Some(left));
        }
        // Unchanged since the cache saw it, or it may be good for longer now.
        let meta = &secret.metadata;
        let unchanged = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(unchanged), ..DeleteParams::default() };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        write::ignore_not_found(api.delete(&key.name, &params).await)?;
        Ok(None)
    }
}
