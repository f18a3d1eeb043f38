//! What a watcher has yet to read: the objects or events that its watch begins with, and the events since. Upstream:
//! `cacher.cacheWatcher`.
//!
//! A watcher that reads too slowly is cut: everything that waits for it is let go at once, since whoever does not read
//! may never come round to let it go. It then learns that it fell behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::Event;
use super::object::Cached;
use super::snapshot::Snapshot;

/// Events that may wait.
const EVENTS: usize = 8192;
/// Bytes of objects that may wait, beyond a few events whatever their size.
const BYTES: usize = 32 << 20;
const FEW: usize = 64;

/// What a watch begins with.
#[derive(Debug)]
pub enum Beginning {
    /// The events after the revision asked for.
    Events(Vec<Arc<Event>>),
    /// The objects that there are.
    Objects(Snapshot),
}

/// A watch ended, and may have missed events.
#[derive(Debug)]
pub struct Closed;

/// The queue between the hub and one watcher.
#[derive(Debug)]
pub(super) struct Backlog {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    beginning: Option<First>,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// How long something may wait without anything being read; followers that look only when they are asked have all
    /// the time there is.
    patience: Option<Duration>,
    /// When something was last read, or began to wait.
    moved: Instant,
    is_open: bool,
    is_cut: bool,
}

/// What a watch begins with, as far as it was not read.
#[derive(Debug)]
enum First {
    Events(std::vec::IntoIter<Arc<Event>>),
    Objects(std::vec::IntoIter<Arc<Cached>>),
}

/// One of the things that a watch begins with.
#[derive(Debug)]
pub enum Initial {
    Event(Arc<Event>),
    Object(Arc<Cached>),
}

impl Backlog {
    pub(super) fn new() -> Self {
        let state = State {
            beginning: None,
            events: VecDeque::new(),
            bytes: 0,
            patience: None,
            moved: Instant::now(),
            is_open: true,
            is_cut: false,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what the watch begins with, and gives the reader only so much time between two reads.
    pub(super) fn begin(&self, beginning: Beginning, patience: Duration) {
        let beginning = match beginning {
            Beginning::Events(events) => First::Events(events.into_iter()),
            Beginning::Objects(snapshot) => {
                let objects: Vec<Arc<Cached>> = snapshot.objects.values().cloned().collect();
                First::Objects(objects.into_iter())
            }
        };
        let mut state = self.state();
        if !state.is_cut {
            state.beginning = Some(beginning);
        }
        state.patience = Some(patience);
    }

    /// Adds an event; `false` when the watcher is cut because too much waits.
    pub(super) fn push(&self, event: &Arc<Event>, now: Instant) -> bool {
        let mut state = self.state();
        if !state.is_open {
            return false;
        }
        if state.events.is_empty() && state.beginning.is_none() {
            state.moved = now;
        }
        state.bytes += event.size();
        let many = state.events.len() >= EVENTS || (state.bytes > BYTES && state.events.len() >= FEW);
        if many || state.patience.is_some_and(|patience| now.duration_since(state.moved) > patience) {
            state.cut();
        } else {
            state.events.push_back(event.clone());
        }
        let is_open = state.is_open;
        drop(state);
        self.changed.notify_one();
        is_open
    }

    /// Ends the watch after what waits already.
    pub(super) fn close(&self) {
        self.state().is_open = false;
        self.changed.notify_one();
    }

    /// The next thing that the watch begins with; `None` when all of it was read.
    pub(super) fn next_initial(&self) -> Result<Option<Initial>, Closed> {
        let mut state = self.state();
        if state.is_cut {
            return Err(Closed);
        }
        let next = match &mut state.beginning {
            None => return Ok(None),
            Some(First::Events(events)) => events.next().map(Initial::Event),
            Some(First::Objects(objects)) => objects.next().map(Initial::Object),
        };
        if next.is_none() {
            state.beginning = None;
        }
        state.moved = Instant::now();
        Ok(next)
    }

    /// The next event if one waits.
    pub(super) fn try_next(&self) -> Result<Option<Arc<Event>>, Closed> {
        let mut state = self.state();
        match state.take() {
            None if !state.is_open => Err(Closed),
            next => Ok(next),
        }
    }

    /// The next event; `None` when there will be none.
    pub(super) async fn next(&self) -> Option<Arc<Event>> {
        loop {
            match self.try_next() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => self.changed.notified().await,
                Err(Closed) => return None,
            }
        }
    }

    /// Whether the reader has had everything: no event waits, and none was let go.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.is_open && state.events.is_empty()
    }
}

impl State {
    fn take(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.size();
        self.moved = Instant::now();
        if self.events.is_empty() {
            // After a burst it would stay large.
            self.events.shrink_to(FEW);
        }
        Some(event)
    }

    fn cut(&mut self) {
        self.beginning = None;
        self.events = VecDeque::new();
        self.bytes = 0;
        self.is_open = false;
        self.is_cut = true;
    }
}

#[cfg(test)]
mod tests {
    use api::catalog::Catalog;
    use serde_json::json;
    use store::Entry;

    use super::super::resource::ResourceCache;
    use super::*;

    fn event(cache: &ResourceCache, revision: u64, size: usize) -> Arc<Event> {
        let value = json!({"metadata": {"name": "x"}, "data": {"a": "x".repeat(size)}}).to_string();
        let entry = Entry {
            key: "/registry/configmaps/default/x".into(),
            value: value.into(),
            create_revision: revision,
            mod_revision: revision,
        };
        Arc::new(Event::new(revision, None, Some(Arc::new(cache.read(&entry).unwrap()))))
    }

    fn cache() -> ResourceCache {
        ResourceCache::new(Catalog::builtin().resource("", "v1", "configmaps").unwrap().clone())
    }

    /// How many events of a size wait before the watcher is cut.
    fn waiting(backlog: &Backlog, size: usize) -> usize {
        let event = event(&cache(), 1, size);
        let weak = Arc::downgrade(&event);
        let count = (0..).take_while(|_| backlog.push(&event, Instant::now())).count();
        drop(event);
        assert!(weak.upgrade().is_none(), "what waited is let go");
        assert!(matches!(backlog.try_next(), Err(Closed)));
        assert!(matches!(backlog.next_initial(), Err(Closed)));
        assert!(!backlog.is_idle(), "a bookmark must not say that nothing was missed");
        count
    }

    #[test]
    fn no_more_waits_than_the_bounds_allow() {
        assert_eq!(waiting(&Backlog::new(), 10), EVENTS);
        let large = waiting(&Backlog::new(), 100_000);
        assert!(large > 200 && large * 100_000 < BYTES, "{large}");
        assert_eq!(waiting(&Backlog::new(), 2 << 20), FEW);
    }

    #[test]
    fn who_reads_nothing_is_cut_even_where_little_waits() {
        const PATIENCE: Duration = Duration::from_secs(30);
        let (backlog, event) = (Backlog::new(), event(&cache(), 1, 10));
        backlog.begin(Beginning::Events(Vec::new()), PATIENCE);
        assert!(matches!(backlog.next_initial(), Ok(None)));
        let start = Instant::now();
        // Nothing waited until now, so nothing was put off.
        assert!(backlog.push(&event, start + PATIENCE * 2));
        assert!(backlog.push(&event, start + PATIENCE * 3));
        assert!(!backlog.push(&event, start + PATIENCE * 4));
        assert!(matches!(backlog.try_next(), Err(Closed)));
    }

    #[test]
    fn a_watch_that_is_closed_is_read_to_its_end() {
        let (backlog, event) = (Backlog::new(), event(&cache(), 1, 10));
        assert!(backlog.push(&event, Instant::now()));
        backlog.close();
        assert!(!backlog.push(&event, Instant::now()));
        assert!(matches!(backlog.try_next(), Ok(Some(_))));
        assert!(matches!(backlog.try_next(), Err(Closed)));
        assert!(!backlog.is_idle(), "what came after its end is not known");
    }
}
