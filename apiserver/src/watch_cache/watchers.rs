//! The watchers of one resource and the log of its recent events (upstream: `cacher.indexedWatchers`).
//!
//! A watcher is filed under the narrowest thing it selects by, so that an event is offered only to those it may concern:
//! one object, the pods of one node, one namespace, or everything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::backlog::Backlog;
use super::event::Event;
use super::object::Cached;

/// Bounds of the log.
const LOG_EVENTS: usize = 8192;
const LOG_BYTES: usize = 8 << 20;

/// What a watcher is filed under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    Everything,
    Namespace(Arc<str>),
    /// A value of the resource's indexed field (`spec.nodeName` of pods).
    Field(Arc<str>),
    /// One object, by its key in the store.
    Key(Arc<str>),
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    backlog: Arc<Backlog>,
}

/// Watchers and log of one resource; always behind one lock.
#[derive(Debug, Default)]
pub(super) struct Hub {
    log: VecDeque<Arc<Event>>,
    log_bytes: usize,
    /// The log holds every event after this revision.
    complete_after: u64,
    watchers: HashMap<Interest, Vec<Watcher>>,
    next_id: u64,
}

impl Hub {
    /// Forgets everything and closes all watchers: events may have been missed.
    pub(super) fn reset(&mut self, revision: u64) {
        self.log.clear();
        self.log_bytes = 0;
        self.complete_after = revision;
        let closed = self.watchers.drain().flat_map(|(_, watchers)| watchers);
        closed.for_each(|watcher| watcher.backlog.close());
    }

    /// The oldest revision that a watch can start after.
    pub(super) fn complete_after(&self) -> u64 {
        self.complete_after
    }

    /// Logs the event and offers it to whom it may concern. A watcher for which too much waits is cut.
    pub(super) fn publish(&mut self, event: &Arc<Event>, indexed_field: Option<usize>) {
        self.append(event);
        if self.watchers.is_empty() {
            return;
        }
        let clock = Instant::now();
        let mut offer = |interest: &Interest| self.offer(interest, event, clock);
        offer(&Interest::Everything);
        let Some(object) = event.current.as_ref().or(event.previous.as_ref()) else { return };
        if !object.namespace().is_empty() {
            offer(&Interest::Namespace(object.namespace().into()));
        }
        offer(&Interest::Key(object.key.clone()));
        let Some(field) = indexed_field else { return };
        let value =
            |cached: &Option<Arc<Cached>>| cached.as_ref().and_then(|c| c.fields.get(field).map(|v| Arc::from(&**v)));
        let (now, before) = (value(&event.current), value(&event.previous));
        if let Some(now) = now.clone() {
            offer(&Interest::Field(now));
        }
        if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
            offer(&Interest::Field(before));
        }
    }

    fn append(&mut self, event: &Arc<Event>) {
        self.log_bytes += weight(event);
        self.log.push_back(event.clone());
        while self.log.len() > LOG_EVENTS || (self.log_bytes > LOG_BYTES && self.log.len() > 64) {
            let Some(oldest) = self.log.pop_front() else { break };
            self.log_bytes -= weight(&oldest);
            self.complete_after = oldest.revision;
        }
    }

    fn offer(&mut self, interest: &Interest, event: &Arc<Event>, now: Instant) {
        let Some(watchers) = self.watchers.get_mut(interest) else { return };
        watchers.retain(|watcher| watcher.backlog.push(event, now));
        if watchers.is_empty() {
            self.watchers.remove(interest);
        }
    }

    /// The logged events after `revision`; `None` when some of them are forgotten.
    pub(super) fn since(&self, revision: u64) -> Option<Vec<Arc<Event>>> {
        if revision < self.complete_after {
            return None;
        }
        let from = self.log.partition_point(|event| event.revision <= revision);
        Some(self.log.range(from..).cloned().collect())
    }

    pub(super) fn add(&mut self, interest: Interest) -> (u64, Arc<Backlog>) {
        let backlog = Arc::new(Backlog::new());
        self.next_id += 1;
        self.watchers.entry(interest).or_default().push(Watcher { id: self.next_id, backlog: backlog.clone() });
        (self.next_id, backlog)
    }

    pub(super) fn remove(&mut self, interest: &Interest, id: u64) {
        let Some(watchers) = self.watchers.get_mut(interest) else { return };
        watchers.retain(|watcher| watcher.id != id);
        if watchers.is_empty() {
            self.watchers.remove(interest);
        }
    }

    /// How many watchers are told of a change: those of everything and those filed under one of these.
    pub(super) fn watchers_of(&self, interests: &[Interest]) -> usize {
        let of = |interest: &Interest| self.watchers.get(interest).map_or(0, Vec::len);
        of(&Interest::Everything) + interests.iter().map(of).sum::<usize>()
    }

    /// How many watchers there are.
    pub(super) fn watchers(&self) -> usize {
        self.watchers.values().map(Vec::len).sum()
    }
}

/// Bytes that only the log keeps alive: the replaced object.
fn weight(event: &Event) -> usize {
    256 + event.previous.as_ref().map_or(0, |cached| cached.size())
}
