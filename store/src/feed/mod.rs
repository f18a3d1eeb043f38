//! The events of a store on their way to its watches: a bounded history, and whoever follows it live.
//!
//! One writer publishes; the history, each watch's place in it and the subscription to what comes next agree, because
//! publishing and subscribing happen under the watchers' lock.

mod history;
mod watch;
mod watchers;

use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

pub(crate) use history::History;
use watchers::{End, Watchers};

use crate::{Error, Revision, WatchEvent, WatchStream};

/// Watchers hear of progress this often while the store is written to.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// How much of the past is kept for watches, and how far one may fall behind.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Events older than this are forgotten.
    pub history_age: Duration,
    /// At most so many events are kept.
    pub history_events: usize,
    /// At most so many bytes are kept for the sake of history alone.
    pub history_bytes: usize,
    /// A watch that lags behind by more events than this ends with [`Error::TooSlow`].
    pub watch_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history_age: Duration::from_secs(300),
            history_events: 100_000,
            history_bytes: 64 << 20,
            watch_buffer: 8192,
        }
    }
}

/// The recent events of a store and its open watches.
pub(crate) struct Feed {
    limits: Limits,
    /// Locked before `history` where both are.
    watchers: Mutex<Watchers>,
    history: RwLock<History>,
}

impl Feed {
    pub(crate) fn new(history: History, limits: Limits) -> Self {
        Self { limits, watchers: Mutex::new(Watchers::new()), history: RwLock::new(history) }
    }

    pub(crate) fn history(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().expect("no panic under this lock")
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Adds events to history, calls `shown`, then hands them to watchers. Returns the events that history has no more
    /// room for.
    pub(crate) fn publish(&self, events: &[Arc<WatchEvent>], shown: impl FnOnce()) -> Vec<Arc<WatchEvent>> {
        let now = Instant::now();
        let mut watchers = self.watchers();
        let (forgotten, newest) = {
            let mut history = self.history.write().expect("no panic under this lock");
            events.iter().for_each(|event| history.push(event.clone(), now));
            let excess = history.excess(&self.limits, now);
            (history.forget(excess), history.newest())
        };
        shown();
        events.iter().for_each(|event| watchers.deliver(event));
        if !events.is_empty() {
            watchers.deliver_progress_after(PROGRESS_EVERY, newest, now);
        }
        forgotten
    }

    /// Forgets the events up to `revision` and returns them.
    pub(crate) fn forget(&self, revision: Revision) -> Vec<Arc<WatchEvent>> {
        self.history.write().expect("no panic under this lock").forget(revision)
    }

    /// Opens a watch on the events after `after`, or on those to come. A watch may start up to `promised`, a revision
    /// that exists but is perhaps not published yet.
    pub(crate) fn watch(
        self: &Arc<Self>,
        prefix: &str,
        after: Option<Revision>,
        promised: Revision,
    ) -> Result<WatchStream, Error> {
        watch::open(self, prefix, after, promised)
    }

    /// Tells every watch that it has seen all there is, if the newest revision is at least `revision`.
    pub(crate) fn tell_progress(&self, revision: Revision) -> bool {
        let mut watchers = self.watchers();
        let newest = self.history().newest();
        if newest >= revision {
            watchers.deliver_progress(newest, Instant::now());
        }
        newest >= revision
    }

    /// Ends every watch after a gap: nothing between the newest revision and `revision` is known.
    pub(crate) fn restart_at(&self, revision: Revision) {
        let mut watchers = self.watchers();
        let mut history = self.history.write().expect("no panic under this lock");
        watchers.end_all(End::Compacted { asked: history.newest(), oldest: revision });
        *history = History::starting_at(revision);
    }

    /// Ends every watch, and refuses new ones.
    pub(crate) fn close(&self) {
        self.watchers().close();
    }

    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().expect("no panic under this lock")
    }
}

/// The error of everything that comes after the store was closed.
pub(crate) fn closed() -> Error {
    Error::Unavailable { reason: "the store is closed".into() }
}
