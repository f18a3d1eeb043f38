//! What the rules are made from, and which Services have changed since somebody looked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use client::{Event, Informer, Informers, ObjectKey};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::Notify;

use crate::Config;
use crate::services::{Place, service_of};

/// Index of slices, by `namespace/name` of their Service.
const BY_SERVICE: &str = "service";

/// A Service and its slices.
pub(crate) type Known = (Arc<Service>, Vec<Arc<EndpointSlice>>);

/// The caches.
pub(crate) struct Sources {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<Node>,
}

impl Sources {
    pub(crate) fn new(informers: &Informers, config: &Config) -> Self {
        let node = informers.with_fields(&format!("metadata.name={}", config.node_name));
        let sources = Self { services: informers.of(), slices: informers.of(), node };
        sources.slices.add_index(BY_SERVICE, |slice| service_of(slice).iter().map(ToString::to_string).collect());
        sources
    }

    /// Where this node is.
    pub(crate) fn place(&self, config: &Config) -> Place {
        let node = self.node.list();
        Place {
            node: config.node_name.clone(),
            zone: node.first().map(|node| zone(node).to_owned()).unwrap_or_default(),
        }
    }

    /// A Service with what belongs to it; `None` when there is none.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Known> {
        Some((self.services.get(key)?, self.slices.by_index(BY_SERVICE, &key.to_string())))
    }

    /// All Services.
    pub(crate) fn keys(&self) -> BTreeSet<ObjectKey> {
        self.services.list().iter().map(|service| ObjectKey::of(&**service)).collect()
    }

    /// Notes changes from now on.
    pub(crate) fn follow(&self) -> Changed {
        let changed = Changed::default();
        let notes = changed.clone();
        self.services.on_event(move |event| notes.add([event.key()]));
        let notes = changed.clone();
        // What was another Service's is news to both.
        self.slices.on_event(move |event| notes.add(versions(event).filter_map(|slice| service_of(slice))));
        let notes = changed.clone();
        // The node matters for its zone only; its status changes all the time.
        self.node.on_event(move |event| match event {
            Event::Applied { old: Some(old), new } if zone(old) == zone(new) => {}
            _ => notes.shared.notify.notify_one(),
        });
        changed
    }
}

/// An object as it is, and as it was.
fn versions<K>(event: &Event<K>) -> impl Iterator<Item = &K> {
    let (first, second) = match event {
        Event::Applied { old, new } => (new, old.as_ref()),
        Event::Deleted(last) => (last, None),
    };
    std::iter::once(first).chain(second).map(|object| &**object)
}

fn zone(node: &Node) -> &str {
    node.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("topology.kubernetes.io/zone"))
        .map_or("", String::as_str)
}

/// Keys of Services that have changed, each once. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<BTreeSet<ObjectKey>>,
    notify: Notify,
}

impl Changed {
    fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.shared.notify.notify_one();
    }

    /// What has changed since the last call.
    pub(crate) fn take(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a change since the last wait, of Services or of this node's place.
    pub(crate) async fn notified(&self) {
        self.shared.notify.notified().await;
    }
}
