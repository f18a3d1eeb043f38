//! Which objects have changed since somebody looked: keys, each once, so that what waits is never more than there are objects.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use client::{Event, Informer, ObjectKey};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use tokio::sync::Notify;

use crate::pod::strip;

/// Keys of objects that have changed.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) pods: BTreeSet<ObjectKey>,
    pub(crate) namespaces: BTreeSet<ObjectKey>,
    pub(crate) policies: BTreeSet<ObjectKey>,
}

/// Collects changes. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<Keys>,
    notify: Notify,
}

impl Changed {
    /// What has changed since the last call.
    pub(crate) fn take(&self) -> Keys {
        std::mem::take(&mut *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a change since the last wait.
    pub(crate) async fn notified(&self) {
        self.shared.notify.notified().await;
    }

    fn add(&self, key: ObjectKey, kind: fn(&mut Keys) -> &mut BTreeSet<ObjectKey>) {
        kind(&mut self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)).insert(key);
        self.shared.notify.notify_one();
    }

    pub(crate) fn follow_policies(&self, policies: &Informer<NetworkPolicy>) {
        let changed = self.clone();
        policies.on_event(move |event| changed.add(event.key(), |keys| &mut keys.policies));
    }

    /// Watches pods for what matters of them.
    pub(crate) fn follow_pods(&self, pods: &Informer<Pod>) {
        pods.set_transform(strip);
        let changed = self.clone();
        pods.on_event(move |event| {
            if !is_same(event, |pod| (pod.metadata.labels.as_ref(), pod.spec.as_ref(), pod.status.as_ref())) {
                changed.add(event.key(), |keys| &mut keys.pods);
            }
        });
    }

    /// Watches namespaces for their labels.
    pub(crate) fn follow_namespaces(&self, namespaces: &Informer<Namespace>) {
        namespaces.set_transform(|namespace| {
            namespace.metadata.annotations = None;
            namespace.spec = None;
            namespace.status = None;
        });
        let changed = self.clone();
        namespaces.on_event(move |event| {
            if !is_same(event, |namespace| namespace.metadata.labels.as_ref()) {
                changed.add(event.key(), |keys| &mut keys.namespaces);
            }
        });
    }
}

fn is_same<'a, K, T: PartialEq>(event: &'a Event<K>, of: impl Fn(&'a K) -> T) -> bool {
    matches!(event, Event::Applied { old: Some(old), new } if of(old) == of(new))
}
