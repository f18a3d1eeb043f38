//! The recent events, in order and without a gap: what watches replay and past reads look back through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Limits;
use crate::{Error, Revision, WatchEvent};

/// What an event costs beside the value that only it still holds.
const EVENT_BYTES: usize = 200;

/// The events of the revisions after `floor`, up to `newest`.
pub(crate) struct History {
    floor: Revision,
    newest: Revision,
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
    pub(crate) fn starting_at(revision: Revision) -> Self {
        Self { floor: revision, newest: revision, events: VecDeque::new(), bytes: 0 }
    }

    /// The oldest revision that can be read, and after which a watch can start.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// The newest revision.
    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Adds an event of the newest revision or of the one that follows.
    pub(crate) fn push(&mut self, event: Arc<WatchEvent>, committed: Instant) {
        debug_assert!(event.revision() >= self.newest, "revisions do not go back");
        self.newest = event.revision();
        self.bytes += held_bytes(&event);
        self.events.push_back(Past { event, committed });
    }

    /// Says whether the state at `revision` and all events after it are known.
    pub(crate) fn covers(&self, revision: Revision) -> Result<(), Error> {
        if revision < self.floor {
            return Err(Error::Compacted { asked: revision, oldest: self.floor });
        }
        if revision > self.newest {
            return Err(Error::Future { asked: revision, newest: self.newest });
        }
        Ok(())
    }

    /// The events after `revision`, oldest first: at most `limit`, and beyond that the rest of the last one's revision.
    pub(crate) fn after(
        &self,
        revision: Revision,
        limit: usize,
    ) -> Result<impl Iterator<Item = &Arc<WatchEvent>>, Error> {
        self.covers(revision)?;
        let begin = self.position_after(revision);
        let full = begin + limit.max(1) - 1;
        let end = self.events.get(full).map_or(self.events.len(), |last| self.position_after(last.event.revision()));
        Ok(self.events.range(begin..end).map(|past| &past.event))
    }

    /// All events, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<WatchEvent>> {
        self.events.iter().map(|past| &past.event)
    }

    /// The revision up to which the limits ask to forget.
    pub(crate) fn excess(&self, limits: &Limits, now: Instant) -> Revision {
        let (mut count, mut bytes) = (self.events.len(), self.bytes);
        let mut floor = self.floor;
        for past in &self.events {
            let old = now.saturating_duration_since(past.committed) >= limits.history_age;
            if !old && count <= limits.history_events && bytes <= limits.history_bytes {
                break;
            }
            floor = past.event.revision();
            count -= 1;
            bytes -= held_bytes(&past.event);
        }
        floor
    }

    /// How long until the oldest event is past `age`; `None` without events.
    pub(crate) fn until_stale(&self, age: Duration, now: Instant) -> Option<Duration> {
        let oldest = self.events.front()?;
        Some((oldest.committed + age).saturating_duration_since(now))
    }

    /// Forgets the events up to `revision` and hands them out.
    pub(crate) fn forget(&mut self, revision: Revision) -> Vec<Arc<WatchEvent>> {
        self.floor = self.floor.max(revision.min(self.newest));
        let count = self.position_after(self.floor);
        let gone: Vec<_> = self.events.drain(..count).map(|past| past.event).collect();
        self.bytes -= gone.iter().map(|event| held_bytes(event)).sum::<usize>();
        if self.events.capacity() > 1024 && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
        }
        gone
    }

    fn position_after(&self, revision: Revision) -> usize {
        self.events.partition_point(|past| past.event.revision() <= revision)
    }
}

/// Only the value before a change is kept alive by the change's event; the one after it is in the index anyway, or
/// counted with the event that replaced it.
fn held_bytes(event: &WatchEvent) -> usize {
    EVENT_BYTES + event.previous().map_or(0, |entry| entry.value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(revision: Revision) -> Arc<WatchEvent> {
        Arc::new(WatchEvent::Delete { key: "/a".into(), revision, previous: None })
    }

    fn history(revisions: &[Revision]) -> History {
        let mut history = History::starting_at(1);
        revisions.iter().for_each(|&revision| history.push(delete(revision), Instant::now()));
        history
    }

    fn after(history: &History, revision: Revision, limit: usize) -> Vec<Revision> {
        history.after(revision, limit).unwrap().map(|event| event.revision()).collect()
    }

    #[test]
    fn events_of_one_revision_are_not_torn_apart() {
        let history = history(&[2, 3, 3, 3, 4]);
        assert_eq!(after(&history, 1, 2), [2, 3, 3, 3]);
        assert_eq!(after(&history, 3, 2), [4]);
        assert!(after(&history, 4, 2).is_empty());
    }

    #[test]
    fn what_is_forgotten_or_has_not_happened_is_an_error() {
        let mut history = history(&[2, 3, 3, 4]);
        assert_eq!(history.forget(3).len(), 3);
        assert!(matches!(history.covers(2), Err(Error::Compacted { asked: 2, oldest: 3 })));
        assert!(matches!(history.covers(5), Err(Error::Future { asked: 5, newest: 4 })));
        assert_eq!(after(&history, 3, 9), [4]);
    }

    #[test]
    fn the_oldest_events_go_when_there_are_too_many() {
        let history = history(&[2, 3, 4, 5]);
        let few = Limits { history_events: 2, ..Limits::default() };
        assert_eq!(history.excess(&few, Instant::now()), 3);
        let small = Limits { history_bytes: EVENT_BYTES, ..Limits::default() };
        assert_eq!(history.excess(&small, Instant::now()), 4);
        assert_eq!(history.excess(&Limits::default(), Instant::now() + Limits::default().history_age), 5);
        assert_eq!(history.excess(&Limits::default(), Instant::now()), 1);
    }
}
