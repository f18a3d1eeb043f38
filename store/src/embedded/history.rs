//! The recent events, in order and without a gap: what watches replay and past reads look back through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Limits;
use crate::{Error, Revision, WatchEvent};

/// What an event costs beside the value that only it still holds.
const EVENT_BYTES: usize = 200;

/// The events after `floor`, one for each revision.
pub(super) struct History {
    floor: Revision,
    events: VecDeque<Past>,
    /// About how much memory would be free without this history.
    bytes: usize,
}

struct Past {
    event: Arc<WatchEvent>,
    committed: Instant,
}

impl History {
    /// An empty history of a store at this revision.
    pub(super) fn starting_at(floor: Revision) -> Self {
        Self { floor, events: VecDeque::new(), bytes: 0 }
    }

    /// The oldest revision that can be read, and after which a watch can start.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    /// The newest revision.
    pub(super) fn newest(&self) -> Revision {
        self.floor + self.events.len() as u64
    }

    /// Adds the event of the next revision.
    pub(super) fn push(&mut self, event: Arc<WatchEvent>, committed: Instant) {
        debug_assert_eq!(event.revision(), self.newest() + 1, "revisions have no gap");
        self.bytes += held_bytes(&event);
        self.events.push_back(Past { event, committed });
    }

    /// Says whether the state at `revision` and all events after it are known.
    pub(super) fn covers(&self, revision: Revision) -> Result<(), Error> {
        if revision < self.floor {
            return Err(Error::Compacted { asked: revision, oldest: self.floor });
        }
        if revision > self.newest() {
            return Err(Error::Future { asked: revision, newest: self.newest() });
        }
        Ok(())
    }

    /// The events after `revision`, oldest first, at most `limit`.
    pub(super) fn after(&self, revision: Revision, limit: usize) -> Result<impl Iterator<Item = &Arc<WatchEvent>>, Error> {
        self.covers(revision)?;
        let skip = usize::try_from(revision - self.floor).expect("no more than the events in memory");
        Ok(self.events.range(skip..).take(limit).map(|past| &past.event))
    }

    /// The revision up to which the limits ask to forget.
    pub(super) fn excess(&self, limits: &Limits, now: Instant) -> Revision {
        let (mut count, mut bytes) = (self.events.len(), self.bytes);
        let mut floor = self.floor;
        for past in &self.events {
            let old = now.saturating_duration_since(past.committed) >= limits.history_age;
            if !old && count <= limits.history_events && bytes <= limits.history_bytes {
                break;
            }
            floor += 1;
            count -= 1;
            bytes -= held_bytes(&past.event);
        }
        floor
    }

    /// How long until the oldest event is past `age`; `None` without events.
    pub(super) fn until_stale(&self, age: Duration, now: Instant) -> Option<Duration> {
        let oldest = self.events.front()?;
        Some((oldest.committed + age).saturating_duration_since(now))
    }

    /// Forgets the events up to `revision` and hands them out.
    pub(super) fn forget(&mut self, revision: Revision) -> Vec<Arc<WatchEvent>> {
        let count = revision.min(self.newest()).saturating_sub(self.floor);
        self.floor += count;
        let count = usize::try_from(count).expect("no more than the events in memory");
        let gone: Vec<_> = self.events.drain(..count).map(|past| past.event).collect();
        self.bytes -= gone.iter().map(|event| held_bytes(event)).sum::<usize>();
        if self.events.capacity() > 1024 && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
        }
        gone
    }
}

/// Only the value before a change is kept alive by the change's event; the one after it is in the index anyway, or
/// counted with the event that replaced it.
fn held_bytes(event: &WatchEvent) -> usize {
    EVENT_BYTES + event.previous().map_or(0, |entry| entry.value.len())
}
