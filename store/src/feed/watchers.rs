//! Who watches what, and the delivery of events to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::closed;
use crate::{Error, Revision, WatchEvent};

/// The open watches, indexed by prefix: an event costs as much as it has watchers.
pub(crate) struct Watchers {
    by_prefix: HashMap<Arc<str>, Vec<Watcher>>,
    /// How many prefixes there are of each length; a key is looked up once for each length.
    lengths: BTreeMap<usize, usize>,
    next_id: u64,
    /// When watchers last heard of progress.
    progress_told: Instant,
    closed: bool,
}

struct Watcher {
    id: u64,
    events: Sender<Arc<WatchEvent>>,
    end: Arc<OnceLock<End>>,
}

/// Why a subscription ended.
#[derive(Clone, Copy)]
pub(crate) enum End {
    TooSlow,
    Compacted { asked: Revision, oldest: Revision },
    Closed,
}

/// The reader's side of a watch.
pub(crate) struct Subscription {
    pub(crate) id: u64,
    events: Receiver<Arc<WatchEvent>>,
    end: Arc<OnceLock<End>>,
}

impl Subscription {
    /// The next event; once the subscription has ended, why it did.
    pub(crate) async fn next(&mut self) -> Result<Arc<WatchEvent>, Error> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err(match self.end.get() {
                Some(End::TooSlow) => Error::TooSlow,
                Some(&End::Compacted { asked, oldest }) => Error::Compacted { asked, oldest },
                Some(End::Closed) | None => closed(),
            }),
        }
    }
}

impl Watchers {
    pub(crate) fn new() -> Self {
        let (by_prefix, lengths) = (HashMap::new(), BTreeMap::new());
        Self { by_prefix, lengths, next_id: 0, progress_told: Instant::now(), closed: false }
    }

    /// Adds a watcher, which may lag behind by `buffer` events.
    pub(crate) fn subscribe(&mut self, prefix: &Arc<str>, buffer: usize) -> Result<Subscription, Error> {
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
    pub(crate) fn unsubscribe(&mut self, prefix: &str, id: u64) {
        let Some(watchers) = self.by_prefix.get_mut(prefix) else { return };
        watchers.retain(|watcher| watcher.id != id);
        if watchers.is_empty() {
            self.forget_prefix(prefix);
        }
    }

    /// Gives an event to every watcher of a prefix of its key, and drops the watchers that have no room for it.
    pub(crate) fn deliver(&mut self, event: &Arc<WatchEvent>) {
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

    /// Tells every watcher that all events up to a revision were delivered.
    pub(crate) fn deliver_progress(&mut self, revision: Revision, now: Instant) {
        self.progress_told = now;
        let event = Arc::new(WatchEvent::Progress(revision));
        let mut deserted = Vec::new();
        for (prefix, watchers) in &mut self.by_prefix {
            watchers.retain(|watcher| watcher.offer(&event));
            if watchers.is_empty() {
                deserted.push(prefix.clone());
            }
        }
        deserted.iter().for_each(|prefix| self.forget_prefix(prefix));
    }

    /// The same, unless it was done less than `every` ago.
    pub(crate) fn deliver_progress_after(&mut self, every: Duration, revision: Revision, now: Instant) {
        if now.saturating_duration_since(self.progress_told) >= every {
            self.deliver_progress(revision, now);
        }
    }

    /// Ends every watch.
    pub(crate) fn end_all(&mut self, end: End) {
        self.lengths.clear();
        for watcher in self.by_prefix.drain().flat_map(|(_, watchers)| watchers) {
            watcher.end(end);
        }
    }

    /// Ends every watch, and refuses new ones.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.end_all(End::Closed);
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
