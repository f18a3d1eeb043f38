//! A map whose changes reach the snapshot at its next update.

use std::collections::BTreeMap;

/// The newest values of those entries that the snapshot has not seen; `None` for one that was removed.
#[derive(Debug)]
pub(super) struct Changes<K, V>(BTreeMap<K, Option<V>>);

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> Changes<K, V> {
    /// Gives an entry this value; `None` removes it.
    pub(super) fn set(&mut self, key: K, value: Option<V>) {
        self.0.insert(key, value);
    }

    /// Brings the snapshot's map up to date. Costs what has changed. Says whether anything has.
    pub(super) fn apply(&mut self, map: &mut BTreeMap<K, V>) -> bool {
        let has_changed = !self.0.is_empty();
        while let Some((key, value)) = self.0.pop_first() {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        has_changed
    }
}
