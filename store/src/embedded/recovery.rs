//! Builds the index anew from the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::OpenError;
use super::database::{Change, Database};
use super::expiry::Expiry;
use super::index::Newest;
use super::tree::Tree;
use crate::feed::History;
use crate::{Entry, Revision, WatchEvent};

/// The revision of an empty store; the first write has the next one, as in etcd.
const BEGINNING: Revision = 1;

/// What the log says.
pub(super) struct Recovered {
    pub(super) newest: Newest,
    pub(super) history: History,
    pub(super) expiry: Expiry,
    /// Rows that are compacted but were not yet removed.
    pub(super) garbage: VecDeque<Revision>,
}

impl Recovered {
    /// A store that was never written to.
    pub(super) fn empty() -> Self {
        Self::starting_at(BEGINNING)
    }

    fn starting_at(revision: Revision) -> Self {
        let newest = Newest { entries: Tree::default(), revision };
        let history = History::starting_at(revision);
        Self { newest, history, expiry: Expiry::default(), garbage: VecDeque::new() }
    }

    /// Replays one row. Fails when rows before it are missing.
    fn replay(&mut self, change: Change, now: Instant) -> Result<(), Gap> {
        let Change { revision, create_revision, expires, key, value } = change;
        let previous = self.newest.entries.get(&key).cloned();
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
        let floor = self.history.floor();
        if revision <= floor {
            self.garbage.extend(event.previous().map(|entry| entry.mod_revision));
            if let WatchEvent::Delete { revision, .. } = event {
                self.garbage.push_back(revision);
            }
        } else if revision != self.history.newest() + 1 {
            return Err(Gap { after: self.history.newest() });
        }
        self.newest.apply(&event);
        if revision > floor {
            self.history.push(Arc::new(event), now);
        }
        // The newest row may be compacted away, but the log knows how far it came.
        self.newest.revision = self.newest.revision.max(floor);
        Ok(())
    }
}

/// The log lacks the row after this revision.
struct Gap {
    after: Revision,
}

/// Reads the log of a database.
pub(super) fn recover(database: &Database) -> Result<Recovered, OpenError> {
    let mut recovered = Recovered::starting_at(database.compacted()?);
    let now = Instant::now();
    let mut gap = None;
    database.load(|change| {
        if gap.is_none() {
            gap = recovered.replay(change, now).err();
        }
    })?;
    match gap {
        None => Ok(recovered),
        Some(Gap { after }) => Err(OpenError::Gap { path: database.path().into(), after }),
    }
}
