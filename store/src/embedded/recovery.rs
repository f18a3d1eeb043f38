//! Builds the index anew from changes.

use std::sync::Arc;
use std::time::Instant;

use super::change::{Change, Row};
use super::expiry::Expiry;
use super::index::Newest;
use super::tree::Tree;
use crate::feed::{History, Limits};
use crate::{Entry, Revision, WatchEvent};

/// The revision of an empty store; the first write has the next one, as in etcd.
const BEGINNING: Revision = 1;

/// What a store's files say.
pub(crate) struct Recovered {
    pub(super) newest: Newest,
    pub(super) history: History,
    pub(super) expiry: Expiry,
    /// When the changes are taken to have been made.
    now: Instant,
}

impl Recovered {
    /// A store that was never written to.
    pub(super) fn empty() -> Self {
        Self::starting_at(BEGINNING)
    }

    /// A store that knows nothing of the time before a revision, yet without the entries of then.
    pub(crate) fn starting_at(revision: Revision) -> Self {
        let newest = Newest { entries: Tree::default(), revision };
        Self { newest, history: History::starting_at(revision), expiry: Expiry::default(), now: Instant::now() }
    }

    /// Adds what a snapshot has.
    pub(crate) fn add(&mut self, row: Row) {
        match row {
            Row::State(change) => self.state(change),
            Row::Event(change) => self.event(change),
        }
    }

    /// Adds an entry of the revision at which the store starts.
    fn state(&mut self, change: Change) {
        let revision = self.newest.revision;
        let event = self.replay(change);
        self.newest.apply(&event);
        self.newest.revision = revision;
    }

    /// Makes the change of the next revision.
    pub(crate) fn event(&mut self, change: Change) {
        let event = self.replay(change);
        self.newest.apply(&event);
        self.history.push(Arc::new(event), self.now);
    }

    /// Forgets the events up to a revision.
    pub(crate) fn forget(&mut self, revision: Revision) {
        self.history.forget(revision);
    }

    /// Forgets the events beyond the limits.
    pub(crate) fn trim(&mut self, limits: &Limits) {
        let excess = self.history.excess(limits, self.now);
        self.history.forget(excess);
    }

    /// Forgets all events and goes on from a revision, which is not before the newest.
    pub(crate) fn skip_to(&mut self, revision: Revision) {
        self.newest.revision = revision;
        self.history = History::starting_at(revision);
    }

    /// The oldest revision that can be read.
    pub(crate) fn oldest(&self) -> Revision {
        self.history.floor()
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> usize {
        self.newest.entries.rank(|_| true)
    }

    fn replay(&mut self, change: Change) -> WatchEvent {
        let Change { revision, create_revision, expires, key, value } = change;
        let previous = self.newest.entries.get(&key).cloned();
        // One allocation holds the key for as long as the key lives.
        let key = previous.as_ref().map_or(key, |entry| entry.key.clone());
        if let (Some(second), Some(_)) = (expires, &value) {
            self.expiry.add(second, key.clone(), revision);
        }
        match value {
            Some(value) => {
                let entry = Entry { key, value, create_revision, mod_revision: revision };
                WatchEvent::Put { entry, previous }
            }
            None => WatchEvent::Delete { key, revision, previous },
        }
    }
}
