//! What every namespace has from its birth (upstream: `pkg/controller/serviceaccount` and
//! `pkg/controller/certificates/rootcacertpublisher`).

pub(crate) mod root_ca;
pub(crate) mod service_account;

use client::{Event, Informer, ObjectKey, Watchable, WorkQueue, write};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Resource};

use crate::context::{Context, Controller, Failure, Outcome};

/// An object that each namespace must have.
struct PerNamespace<K> {
    client: kube::Client,
    namespaces: Informer<Namespace>,
    objects: Informer<K>,
    wanted: K,
    /// What the current object must become to be as wanted; `None` if it is.
    put_right: fn(&K, &K) -> Option<K>,
}

impl<K: Watchable + Resource<Scope = NamespaceResourceScope> + serde::Serialize> PerNamespace<K> {
    fn new(context: &Context, wanted: K, put_right: fn(&K, &K) -> Option<K>) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let namespaces = context.informers.of::<Namespace>();
        let changed = queue.clone();
        namespaces.on_event(move |event| {
            if let Event::Applied { .. } = event {
                changed.add(event.key());
            }
        });
        let name = wanted.meta().name.clone().unwrap_or_default();
        let objects = context.informers.with_fields::<K>(&format!("metadata.name={name}"));
        let changed = queue.clone();
        objects.on_event(move |event| changed.add(ObjectKey::cluster(event.key().namespace)));
        (Self { client: context.client.clone(), namespaces, objects, wanted, put_right }, queue)
    }

    async fn write(&self, namespace: &str, current: Option<&K>) -> Result<(), Failure> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let written = match current {
            None => api.create(&PostParams::default(), &self.wanted).await,
            Some(current) => {
                let Some(changed) = (self.put_right)(current, &self.wanted) else { return Ok(()) };
                let name = self.wanted.meta().name.clone().unwrap_or_default();
                api.replace(&name, &PostParams::default(), &changed).await
            }
        };
        match written {
            Err(err) if write::is_already_exists(&err) || write::is_namespace_terminating(&err) => Ok(()),
            Err(err) if write::is_not_found(&err) => Ok(()),
            outcome => outcome.map(drop).map_err(Into::into),
        }
    }
}

impl<K: Watchable + Resource<Scope = NamespaceResourceScope> + serde::Serialize> Controller for PerNamespace<K> {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let namespace = self.namespaces.get(&key);
        if namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            return Ok(None);
        }
        let name = self.wanted.meta().name.clone().unwrap_or_default();
        let current = self.objects.get(&ObjectKey::new(key.name.clone(), name));
        self.write(&key.name, current.as_deref()).await?;
        Ok(None)
    }
}
