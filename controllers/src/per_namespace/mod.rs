//! What every namespace has from its birth: the ServiceAccount `default` and the certificates that its pods trust the API
//! server by.

use std::collections::BTreeMap;

use client::{Event, Informer, ObjectKey, Watchable, WorkQueue, write};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Resource};

use crate::context::{Context, Controller, Failure, Outcome};

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

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

/// Starts the ServiceAccount controller.
pub(crate) fn start_accounts(context: &Context, workers: usize, tasks: &mut daemon::Supervisor) {
    let metadata = ObjectMeta { name: Some(ACCOUNT.to_owned()), ..ObjectMeta::default() };
    let wanted = ServiceAccount { metadata, ..ServiceAccount::default() };
    let (controller, queue) = PerNamespace::new(context, wanted, |_, _| None);
    let context = context.clone();
    tasks.add("serviceaccount", move |shutdown| context.drive("serviceaccount", controller, queue, workers, shutdown));
}

/// The data are the certificates and nothing else, and the description is there; labels and the like are left alone.
fn with_certificates(current: &ConfigMap, wanted: &ConfigMap) -> Option<ConfigMap> {
    let (key, text) = DESCRIPTION;
    let is_described = current.metadata.annotations.as_ref().is_some_and(|known| known.contains_key(key));
    let has_more = current.binary_data.as_ref().is_some_and(|data| !data.is_empty());
    if current.data == wanted.data && is_described && !has_more {
        return None;
    }
    let mut changed = ConfigMap { data: wanted.data.clone(), binary_data: None, ..current.clone() };
    changed.metadata.annotations.get_or_insert_default().insert(key.to_owned(), text.to_owned());
    Some(changed)
}

/// Starts the publisher of the root certificates.
pub(crate) fn start_root_ca(context: &Context, certificates: String, workers: usize, tasks: &mut daemon::Supervisor) {
    let (key, text) = DESCRIPTION;
    let metadata = ObjectMeta {
        name: Some(ROOT_CA.to_owned()),
        annotations: Some(BTreeMap::from([(key.to_owned(), text.to_owned())])),
        ..ObjectMeta::default()
    };
    let data = BTreeMap::from([("ca.crt".to_owned(), certificates)]);
    let wanted = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
    let (controller, queue) = PerNamespace::new(context, wanted, with_certificates);
    let context = context.clone();
    tasks.add("root ca", move |shutdown| {
        context.drive("root-ca-certificate-publisher", controller, queue, workers, shutdown)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_put_right_and_labels_are_left_alone() {
        let map = |key: &str, text: &str| Some(BTreeMap::from([(key.to_owned(), text.to_owned())]));
        let wanted = ConfigMap { data: map("ca.crt", "x"), ..ConfigMap::default() };
        let mut current = ConfigMap { data: map("ca.crt", "y"), ..ConfigMap::default() };
        current.metadata.labels = map("team", "blue");
        let changed = with_certificates(&current, &wanted).unwrap();
        assert_eq!((&changed.data, &changed.metadata.labels), (&wanted.data, &map("team", "blue")));
        assert!(changed.metadata.annotations.as_ref().unwrap().contains_key(DESCRIPTION.0));
        assert_eq!(with_certificates(&changed, &wanted), None);
        let mut more = changed;
        more.binary_data = Some(BTreeMap::from([("z".to_owned(), k8s_openapi::ByteString(vec![0]))]));
        assert_eq!(with_certificates(&more, &wanted).unwrap().binary_data, None);
    }
}
