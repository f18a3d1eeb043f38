//! What is remembered of each autoscaler: its history, and what its target selects (upstream: `hpaSelectors`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::selector::LabelSelector;
use client::ObjectKey;
use facts::labels;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::behavior::History;

/// All autoscalers that have been looked at, by namespace and name.
#[derive(Default)]
pub(super) struct Known {
    namespaces: Mutex<HashMap<String, BTreeMap<String, Memory>>>,
}

struct Memory {
    uid: String,
    history: History,
    /// What its target selected when that was last read.
    selector: LabelSelector,
}

impl Known {
    /// Makes sure that this autoscaler is known, and that what is known is of it and not of one that had its name.
    pub(super) fn meet(&self, key: &ObjectKey, uid: &str, replicas: i32, now: Instant) {
        let new = || Memory {
            uid: uid.to_owned(),
            history: History::starting_with(replicas, now),
            selector: LabelSelector::nothing(),
        };
        let mut namespaces = self.lock();
        let memory = namespaces.entry(key.namespace.clone()).or_default().entry(key.name.clone()).or_insert_with(new);
        if memory.uid != uid {
            *memory = new();
        }
    }

    pub(super) fn forget(&self, key: &ObjectKey) {
        let mut namespaces = self.lock();
        if let Some(namespace) = namespaces.get_mut(&key.namespace) {
            namespace.remove(&key.name);
            if namespace.is_empty() {
                namespaces.remove(&key.namespace);
            }
        }
    }

    pub(super) fn select(&self, key: &ObjectKey, selector: &LabelSelector) {
        self.with(key, |memory| memory.selector = selector.clone());
    }

    /// Works with the history of an autoscaler that was met.
    pub(super) fn history<T>(&self, key: &ObjectKey, work: impl FnOnce(&mut History) -> T) -> Option<T> {
        self.with(key, |memory| work(&mut memory.history))
    }

    /// The autoscalers of a namespace whose targets select one of these pods, by name.
    pub(super) fn selecting(&self, namespace: &str, pods: &[Arc<Pod>]) -> Vec<String> {
        // Replicas look alike.
        let kinds: HashSet<_> = pods.iter().map(|pod| labels::of(&pod.metadata)).collect();
        let namespaces = self.lock();
        let all = namespaces.get(namespace).into_iter().flatten();
        let found = all.filter(|(_, memory)| kinds.iter().any(|labels| selects(&memory.selector, labels)));
        found.map(|(name, _)| format!("{namespace}/{name}")).collect()
    }

    fn with<T>(&self, key: &ObjectKey, work: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        self.lock().get_mut(&key.namespace)?.get_mut(&key.name).map(work)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<String, Memory>>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a selector chooses these labels.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches_with(|key| labels.get(key).map(String::as_str))
}
