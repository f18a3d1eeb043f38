//! Who watches what, and the delivery of events to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::{Error, WatchEvent};

/// The open watches, indexed by prefix: an event costs as much as it has watchers.
#[derive(Default)]
pub(super) struct Watchers {
    by_prefix: HashMap<Arc<str>, Vec<Watcher>>,
    /// How many prefixes there are of each length; a key is looked up once for each length.
    lengths: BTreeMap<usize, usize>,
    next_id: u64,
    closed: bool,
}

struct Watcher {
    id: u64,
    events: Sender<Arc<WatchEvent>>,
    end: Arc<OnceLock<End>>,
}

/// Why a subscription ended.
#[derive(Clone, Copy)]
enum End {
    TooSlow,
    Closed,
}

/// The reader's side of a watch.
pub(super) struct Subscription {
    pub(super) id: u64,
    events: Receiver<Arc<WatchEvent>>,
    end: Arc<OnceLock<End>>,
}

impl Subscription {
    /// The next event; once the subscription has ended, why it did.
    pub(super) async fn next(&mut self) -> Result<Arc<WatchEvent>, Error> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err(match self.end.get() {
                Some(End::TooSlow) => Error::TooSlow,
                Some(End::Closed) | None => closed(),
            }),
        }
    }
}

/// The error of everything that comes after the store was closed.
pub(super) fn closed() -> Error {
    Error::Unavailable { reason: "the store is closed".into() }
}

impl Watchers {
    /// Adds a watcher, which may lag behind by `buffer` events.
    pub(super) fn subscribe(&mut self, prefix: &Arc<str>, buffer: usize) -> Result<Subscription, Error> {
        if self.closed {
            return Err(closed());
        }
        let (sender, events) = mpsc::channel(buffer.max(1));
        let end = Arc::new(OnceLock::new());
        let id = self.next_id;
        self.next_id += 1;
        let watchers = self.by_prefix.entry(prefix.clone()).or_default();
        if watchers.is_empty() {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        watchers.push(Watcher { id, events: sender, end: end.clone() });
        Ok(Subscription { id, events, end })
    }

    /// Takes a watcher out, if it is still there.
    pub(super) fn unsubscribe(&mut self, prefix: &str, id: u64) {
        let Some(watchers) = self.by_prefix.get_mut(prefix) else { return };
        watchers.retain(|watcher| watcher.id != id);
        if watchers.is_empty() {
            self.forget_prefix(prefix);
        }
    }

    /// Gives an event to every watcher of a prefix of its key, and drops the watchers that have no room for it.
    pub(super) fn deliver(&mut self, event: &Arc<WatchEvent>) {
        let Some(key) = event.key() else { return };
        let mut deserted = Vec::new();
        for &length in self.lengths.range(..=key.len()).map(|(length, _)| length) {
            let Some(prefix) = key.get(..length) else { continue };
            let Some(watchers) = self.by_prefix.get_mut(prefix) else { continue };
            watchers.retain(|watcher| watcher.offer(event));
            if watchers.is_empty() {
                deserted.push(prefix);
            }
        }
        deserted.into_iter().for_each(|prefix| self.forget_prefix(prefix));
    }

    /// Gives an event to every watcher.
    pub(super) fn deliver_to_all(&mut self, event: &Arc<WatchEvent>) {
        let mut deserted = Vec::new();
        for (prefix, watchers) in &mut self.by_prefix {
            watchers.retain(|watcher| watcher.offer(event));
            if watchers.is_empty() {
                deserted.push(prefix.clone());
            }
        }
        deserted.iter().for_each(|prefix| self.forget_prefix(prefix));
    }

    /// Ends every watch, and refuses new ones.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.lengths.clear();
        for watcher in self.by_prefix.drain().flat_map(|(_, watchers)| watchers) {
            watcher.end(End::Closed);
        }
    }

    fn forget_prefix(&mut self, prefix: &str) {
        self.by_prefix.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }
}

impl Watcher {
    /// Hands over an event; false if the watch has ended, be it for this.
    fn offer(&self, event: &Arc<WatchEvent>) -> bool {
        match self.events.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.end(End::TooSlow);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    fn end(&self, end: End) {
        // The first reason stands: a watcher ends once.
        let _ = self.end.set(end);
    }
}
