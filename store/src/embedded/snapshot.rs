//! A store's content at one moment, on its way into a file.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::change::Change;
use super::disk::{Place, SnapshotHeader, SnapshotWriter, StoreFile, StoreId};
use super::expiry::{Expiry, since_epoch};
use super::index::{Newest, merge};
use super::recovery::Recovered;
use crate::feed::History;
use crate::{Entry, Revision, WatchEvent};

/// The newest entries and the way back through history. Taking one copies no entry.
pub(crate) struct Snapshot {
    newest: Newest,
    oldest: Revision,
    events: Vec<Arc<WatchEvent>>,
    expiry: Expiry,
}

impl Snapshot {
    pub(super) fn new(newest: Newest, history: &History, expiry: Expiry) -> Self {
        Self { newest, oldest: history.floor(), events: history.all().cloned().collect(), expiry }
    }

    /// What was read from a directory.
    pub(crate) fn of(recovered: Recovered) -> Self {
        let Recovered { newest, history, expiry, .. } = recovered;
        Self::new(newest, &history, expiry)
    }

    /// Writes the file of this snapshot, which was taken at a place, and returns its size. It is on the disk then.
    pub(crate) fn write(&self, file: &StoreFile, store: StoreId, place: Place) -> io::Result<u64> {
        debug_assert_eq!(place.revision, self.newest.revision, "a snapshot is taken between commits");
        let made = since_epoch(SystemTime::now()).as_secs();
        let mut writer = SnapshotWriter::new(file, &SnapshotHeader { store, place, oldest: self.oldest, made })?;
        let expires = self.expiry.by_revision();
        let then = self.changed();
        let unchanged = self.newest.entries.iter_from(|_| false).filter(|entry| !then.contains_key(&entry.key));
        for entry in merge(unchanged, then.values().copied().flatten()) {
            writer.state(&put(entry, &expires))?;
        }
        for event in &self.events {
            match &**event {
                WatchEvent::Put { entry, .. } => writer.event(&put(entry, &expires))?,
                WatchEvent::Delete { key, revision, .. } => writer.event(&Change {
                    revision: *revision,
                    create_revision: 0,
                    expires: None,
                    key: key.clone(),
                    value: None,
                })?,
                WatchEvent::Progress(_) => {}
            }
        }
        writer.finish()
    }

    /// The newest entries.
    pub(crate) fn into_newest(self) -> Vec<Change> {
        let expires = self.expiry.by_revision();
        self.newest.entries.iter_from(|_| false).map(|entry| put(entry, &expires)).collect()
    }

    /// The keys that changed since the oldest revision, with what they were then.
    fn changed(&self) -> BTreeMap<&Arc<str>, Option<&Entry>> {
        let mut changed = BTreeMap::new();
        for event in &self.events {
            if let Some(key) = event.key() {
                changed.entry(key).or_insert_with(|| event.previous());
            }
        }
        changed
    }
}

fn put(entry: &Entry, expires: &HashMap<Revision, u64>) -> Change {
    Change {
        revision: entry.mod_revision,
        create_revision: entry.create_revision,
        expires: expires.get(&entry.mod_revision).copied(),
        key: entry.key.clone(),
        value: Some(entry.value.clone()),
    }
}
