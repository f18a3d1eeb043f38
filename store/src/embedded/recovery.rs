//! Builds the index anew from the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::OpenError;
use super::database::{Change, Database};
use super::expiry::Expiry;
use super::history::History;
use super::index::Index;
use super::tree::Tree;
use crate::{Entry, Revision, WatchEvent};

/// The revision of an empty store; the first write has the next one, as in etcd.
const BEGINNING: Revision = 1;

/// What the log says.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) expiry: Expiry,
    /// Rows that are compacted but were not yet removed.
    pub(super) garbage: VecDeque<Revision>,
}

impl Recovered {
    /// A store that was never written to.
    pub(super) fn empty() -> Self {
        let index = Index { entries: Tree::default(), history: History::starting_at(BEGINNING) };
        Self { index, expiry: Expiry::default(), garbage: VecDeque::new() }
    }

    /// Replays one row.
    fn replay(&mut self, change: Change, now: Instant) {
        let Change { revision, create_revision, expires, key, value } = change;
        let previous = self.index.entries.get(&key).cloned();
        let key = previous.as_ref().map_or(key, |entry| entry.key.clone());
        if let (Some(second), Some(_)) = (expires, &value) {
            self.expiry.add(second, key.clone(), revision);
        }
        let event = match value {
            Some(value) => {
                let entry = Entry { key, value, create_revision, mod_revision: revision };
                WatchEvent::Put { entry, previous }
            }
            None => WatchEvent::Delete { key, revision, previous },
        };
        if revision > self.index.history.floor() {
            self.index.apply(&Arc::new(event), now);
            return;
        }
        self.garbage.extend(event.previous().map(|entry| entry.mod_revision));
        match event {
            WatchEvent::Put { entry, .. } => self.index.entries.insert(entry),
            WatchEvent::Delete { key, revision, .. } => {
                self.index.entries.remove(&key);
                self.garbage.push_back(revision);
            }
            WatchEvent::Progress(_) => {}
        }
    }
}

/// Reads the log of a database.
pub(super) fn recover(database: &Database) -> Result<Recovered, OpenError> {
    let mut recovered = Recovered::empty();
    recovered.index.history = History::starting_at(database.compacted()?);
    let now = Instant::now();
    database.load(|change| recovered.replay(change, now))?;
    Ok(recovered)
}
