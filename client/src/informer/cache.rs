//! The objects of one informer and their indexes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube::Resource;

use super::Event;
use crate::ObjectKey;

/// Objects ordered by key; every index holds the same `Arc`s.
pub(super) struct Cache<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: HashMap<&'static str, Index<K>>,
}

struct Index<K> {
    values: fn(&K) -> Vec<String>,
    entries: HashMap<String, BTreeMap<ObjectKey, Arc<K>>>,
}

impl<K: Resource> Cache<K> {
    pub(super) fn new() -> Self {
        Self { objects: BTreeMap::new(), indexes: HashMap::new() }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    pub(super) fn list_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        let first = ObjectKey::new(namespace, "");
        self.objects.range(first..).take_while(move |(key, _)| key.namespace == namespace).map(|(_, object)| object)
    }

    pub(super) fn by_index(&self, index: &str, value: &str) -> impl Iterator<Item = &Arc<K>> {
        let Some(index) = self.indexes.get(index) else { panic!("no index {index:?} was added to this informer") };
        index.entries.get(value).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn add_index(&mut self, name: &'static str, values: fn(&K) -> Vec<String>) {
        if self.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { values, entries: HashMap::new() };
        for (key, object) in &self.objects {
            index.insert(key, object);
        }
        self.indexes.insert(name, index);
    }

    /// Stores `new`; `None` when the cache holds this very version already.
    pub(super) fn apply(&mut self, new: Arc<K>) -> Option<Event<K>> {
        let key = ObjectKey::of(&*new);
        let old = self.objects.get(&key).cloned();
        if old.as_ref().is_some_and(|old| is_same_version(&**old, &*new)) {
            return None;
        }
        for index in self.indexes.values_mut() {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &new);
        }
        self.objects.insert(key, Arc::clone(&new));
        Some(Event::Applied { old, new })
    }

    /// Removes the object called as `last`; `None` when it is not there.
    pub(super) fn delete(&mut self, key: &ObjectKey, last: Option<Arc<K>>) -> Option<Event<K>> {
        let old = self.objects.remove(key)?;
        for index in self.indexes.values_mut() {
            index.remove(key, &old);
        }
        Some(Event::Deleted(last.unwrap_or(old)))
    }

    /// The keys that a relist no longer has, and those whose object was replaced by another of the same name.
    pub(super) fn gone(&self, listed: &BTreeMap<ObjectKey, Arc<K>>) -> Vec<ObjectKey> {
        let is_gone = |key: &ObjectKey, old: &K| listed.get(key).is_none_or(|new| new.meta().uid != old.meta().uid);
        self.objects.iter().filter(|(key, old)| is_gone(key, old)).map(|(key, _)| key.clone()).collect()
    }
}

impl<K> Index<K> {
    fn insert(&mut self, key: &ObjectKey, object: &Arc<K>) {
        for value in (self.values)(object) {
            self.entries.entry(value).or_default().insert(key.clone(), Arc::clone(object));
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.values)(object) {
            let Some(entries) = self.entries.get_mut(&value) else { continue };
            entries.remove(key);
            if entries.is_empty() {
                self.entries.remove(&value);
            }
        }
    }
}

fn is_same_version<K: Resource>(a: &K, b: &K) -> bool {
    a.meta().resource_version.is_some()
        && a.meta().resource_version == b.meta().resource_version
        && a.meta().uid == b.meta().uid
}
