//! A queue of keys for level-triggered control: a key waits at most once and never runs twice at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

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
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that need a run: those in `ready`, and those added again while running.
    dirty: HashSet<K>,
    running: HashSet<K>,
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
            dirty: HashSet::new(),
            running: HashSet::new(),
            delayed: HashMap::new(),
            timers: BinaryHeap::new(),
            failures: HashMap::new(),
            shut_down: false,
        };
        let shared = Shared { state: Mutex::new(state), changed: Notify::new(), first_delay: first, last_delay: last };
        Self { shared: Arc::new(shared) }
    }

    /// Queues `key` unless it waits already.
    pub fn add(&self, key: K) {
        if self.lock().add(key) {
            self.shared.changed.notify_one();
        }
    }

    /// Queues `key` after `delay`, or earlier if it is already due earlier.
    pub fn add_after(&self, key: K, delay: Duration) {
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
                for _ in 1..state.promote(now).max(1) {
                    self.shared.changed.notify_one();
                }
                if let Some(key) = state.take() {
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
        state.running.remove(key);
        if state.dirty.contains(key) {
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
    fn add(&mut self, key: K) -> bool {
        if self.shut_down || !self.dirty.insert(key.clone()) || self.running.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// Moves delayed keys that are due to the ready ones; says how many keys are ready.
    fn promote(&mut self, now: Instant) -> usize {
        while self.timers.peek().is_some_and(|Reverse(timer)| timer.at <= now) {
            let Some(Reverse(timer)) = self.timers.pop() else { break };
            if self.delayed.get(&timer.key) == Some(&timer.at) {
                self.delayed.remove(&timer.key);
                self.add(timer.key);
            }
        }
        self.ready.len()
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.running.insert(key.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(queue: &WorkQueue<&'static str>) -> Taken<&'static str> {
        queue.next().await.expect("not shut down")
    }

    fn is_idle(queue: &WorkQueue<&'static str>) -> bool {
        let mut next = Box::pin(queue.next());
        futures::FutureExt::now_or_never(next.as_mut()).is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_runs_once() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.len(), 2);
        assert_eq!((*next(&queue).await, *next(&queue).await), ("a", "b"));
        assert!(is_idle(&queue));
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_key_is_not_handed_out_again_until_done() {
        let queue = WorkQueue::new();
        queue.add("a");
        let taken = next(&queue).await;
        queue.add("a");
        assert!(is_idle(&queue));
        drop(taken);
        assert_eq!(*next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_of_a_key_wins() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(30));
        drop(next(&queue).await);
        assert_eq!(start.elapsed().as_secs(), 10);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(is_idle(&queue), "later delays of the same key are superseded");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeping_worker_wakes_for_an_earlier_delay() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(60));
        let (taken, ()) = tokio::join!(next(&queue), async {
            tokio::task::yield_now().await;
            queue.add_after("early", Duration::from_secs(1));
        });
        assert_eq!((*taken, start.elapsed().as_secs()), ("early", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiting_worker_gets_one_of_the_keys_due_together() {
        let queue = WorkQueue::new();
        for key in ["a", "b", "c"] {
            queue.add_after(key, Duration::from_secs(1));
        }
        let (a, b, c) = tokio::join!(next(&queue), next(&queue), next(&queue));
        let mut got = [*a, *b, *c];
        got.sort_unstable();
        assert_eq!(got, ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_exponentially_until_forgotten() {
        let queue = WorkQueue::with_backoff(Duration::from_secs(1), Duration::from_secs(5));
        let mut waits = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            queue.add_rate_limited("a");
            drop(next(&queue).await);
            waits.push(start.elapsed().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(queue.failures(&"a"), 5);
        queue.forget(&"a");
        let start = Instant::now();
        queue.add_rate_limited("a");
        drop(next(&queue).await);
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn shutting_down_releases_waiters_and_ignores_new_keys() {
        let queue = WorkQueue::new();
        queue.add_after("a", Duration::from_secs(60));
        let (ended, ()) = tokio::join!(queue.next(), async {
            tokio::task::yield_now().await;
            queue.shut_down();
        });
        assert!(ended.is_none());
        queue.add("b");
        assert!(queue.next().await.is_none());
    }
}
