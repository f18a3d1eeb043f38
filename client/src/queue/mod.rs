//! A queue of keys for level-triggered control: a key waits at most once and never runs twice at a time.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::meters::{Meters, QueueMeters};

/// client-go's `DefaultTypedControllerRateLimiter`: 5 ms, doubled per failure of the key, at most 1000 s.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const LAST_DELAY: Duration = Duration::from_secs(1000);

/// A deduplicating queue with delays and per-key backoff. Clones share one queue.
///
/// A key added while it runs is queued again when its run ends, so no change is missed.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    first_delay: Duration,
    last_delay: Duration,
    meters: OnceLock<Meters>,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that need a run, and since when: those in `ready`, and those added again while running.
    dirty: HashMap<K, Instant>,
    /// Keys whose run has begun, and when.
    running: HashMap<K, Instant>,
    /// The earliest wanted run of each delayed key; `timers` may hold later, outdated entries.
    delayed: HashMap<K, Instant>,
    timers: BinaryHeap<Reverse<Timer<K>>>,
    failures: HashMap<K, u32>,
    shut_down: bool,
}

struct Timer<K> {
    at: Instant,
    key: K,
}

/// A key taken from the queue; dropping it ends the key's run.
pub struct Taken<K: Eq + Hash + Clone> {
    queue: WorkQueue<K>,
    key: K,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Eq + Hash + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash + Clone> WorkQueue<K> {
    /// An empty queue with client-go's backoff.
    pub fn new() -> Self {
        Self::with_backoff(FIRST_DELAY, LAST_DELAY)
    }

    /// An empty queue whose failing keys wait `first`, then twice as long each time, up to `last`.
    pub fn with_backoff(first: Duration, last: Duration) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            running: HashMap::new(),
            delayed: HashMap::new(),
            timers: BinaryHeap::new(),
            failures: HashMap::new(),
            shut_down: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
            first_delay: first,
            last_delay: last,
            meters: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Measures the queue under this name from now on. A queue is measured once only.
    pub fn measure(&self, name: &'static str, meters: &QueueMeters)
    where
        K: Send + Sync + 'static,
    {
        let shared = Arc::downgrade(&self.shared);
        let running = move || {
            let Some(shared) = shared.upgrade() else { return Vec::new() };
            let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.running.values().map(Instant::elapsed).collect()
        };
        let state = self.lock();
        let meters = self.shared.meters.get_or_init(|| meters.of(name, Arc::new(running)));
        meters.adds.inc_by(u64::try_from(state.dirty.len()).unwrap_or(u64::MAX));
        meters.show_depth(state.dirty.len());
    }

    /// Queues `key` unless it waits already.
    pub fn add(&self, key: K) {
        if self.lock().add(key, Instant::now(), self.shared.meters.get()) {
            self.shared.changed.notify_one();
        }
    }

    /// Queues `key` after `delay`, or earlier if it is already due earlier.
    pub fn add_after(&self, key: K, delay: Duration) {
        if let Some(meters) = self.shared.meters.get() {
            meters.retries.inc();
        }
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.lock();
        let at = Instant::now() + delay;
        if state.shut_down || state.delayed.get(&key).is_some_and(|known| *known <= at) {
            return;
        }
        state.delayed.insert(key.clone(), at);
        state.timers.push(Reverse(Timer { at, key }));
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Queues `key` after a delay that doubles with every call until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            let factor = 2u32.checked_pow(*failures).unwrap_or(u32::MAX);
            *failures = failures.saturating_add(1);
            self.shared.first_delay.saturating_mul(factor).min(self.shared.last_delay)
        };
        self.add_after(key, delay);
    }

    /// Resets the backoff of `key`: its run succeeded.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// How often `key` failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Waits for a key that is due and not running. `None` once the queue is shut down.
    pub async fn next(&self) -> Option<Taken<K>> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let due = {
                let mut state = self.lock();
                if state.shut_down {
                    return None;
                }
                let now = Instant::now();
                let meters = self.shared.meters.get();
                for _ in 1..state.promote(now, meters).max(1) {
                    self.shared.changed.notify_one();
                }
                if let Some(key) = state.take(now, meters) {
                    return Some(Taken { queue: self.clone(), key });
                }
                state.timers.peek().map(|Reverse(timer)| timer.at)
            };
            match due {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    /// Ends the queue: what waits is dropped, further keys are ignored, every `next` returns `None`. Keys that are
    /// running finish undisturbed.
    pub fn shut_down(&self) {
        let mut state = self.lock();
        state.shut_down = true;
        state.ready.clear();
        state.dirty.clear();
        state.delayed.clear();
        state.timers.clear();
        if let Some(meters) = self.shared.meters.get() {
            meters.show_depth(0);
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// How many keys wait to be run now (delayed and running keys not counted).
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key waits to be run now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn done(&self, key: &K) {
        let mut state = self.lock();
        let began = state.running.remove(key);
        if let (Some(began), Some(meters)) = (began, self.shared.meters.get()) {
            meters.worked.observe(began.elapsed().as_secs_f64());
        }
        if state.dirty.contains_key(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> State<K> {
    /// True when a waiter should wake up for `key`.
    fn add(&mut self, key: K, now: Instant, meters: Option<&Meters>) -> bool {
        if self.shut_down || self.dirty.contains_key(&key) {
            return false;
        }
        self.dirty.insert(key.clone(), now);
        if let Some(meters) = meters {
            meters.adds.inc();
            meters.show_depth(self.dirty.len());
        }
        let is_running = self.running.contains_key(&key);
        if !is_running {
            self.ready.push_back(key);
        }
        !is_running
    }

    /// Moves delayed keys that are due to the ready ones; says how many keys are ready.
    fn promote(&mut self, now: Instant, meters: Option<&Meters>) -> usize {
        while self.timers.peek().is_some_and(|Reverse(timer)| timer.at <= now) {
            let Some(Reverse(timer)) = self.timers.pop() else { break };
            if self.delayed.get(&timer.key) == Some(&timer.at) {
                self.delayed.remove(&timer.key);
                self.add(timer.key, now, meters);
            }
        }
        self.ready.len()
    }

    fn take(&mut self, now: Instant, meters: Option<&Meters>) -> Option<K> {
        let key = self.ready.pop_front()?;
        let since = self.dirty.remove(&key);
        if let (Some(since), Some(meters)) = (since, meters) {
            meters.waited.observe(now.duration_since(since).as_secs_f64());
            meters.show_depth(self.dirty.len());
        }
        self.running.insert(key.clone(), now);
        Some(key)
    }
}

impl<K: Eq + Hash + Clone> Deref for Taken<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash + Clone> Drop for Taken<K> {
    fn drop(&mut self) {
        self.queue.done(&self.key);
    }
}

impl<K: fmt::Debug + Eq + Hash + Clone> fmt::Debug for Taken<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.key).finish()
    }
}

impl<K> PartialEq for Timer<K> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<K> Eq for Timer<K> {}

impl<K> PartialOrd for Timer<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Timer<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}
