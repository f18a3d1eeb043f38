//! Pods that wait for a node (upstream: `pkg/scheduler/backend/queue`).
//!
//! ```text
//!            add                                    take
//!   (gated) ----> active <---- backing off <---+  ------->  in flight ---> bound
//!      PreEnqueue   ^                          |               |
//!                   +--- an event may help --- unschedulable <-+ rejected
//! ```
//!
//! Events that come while a pod is in flight are remembered, so that none that may help it is lost between the snapshot
//! it was judged on and its return.

mod entry;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::entry::{Next, Waiting, Where};
use crate::framework::{ClusterEvent, PodInfo, Profile, QueueSort};

/// Backoff after the first failed attempt, doubled up to the second value.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// A pod that no event has woken is tried again after this long all the same.
const GIVE_ANOTHER_TRY: Duration = Duration::from_secs(5 * 60);

/// A pod taken for one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) pod: Arc<PodInfo>,
    /// 1 for the first.
    pub(crate) number: u32,
    pub(crate) queued_at: Instant,
    /// Events from here on came after the pod was taken.
    since: u64,
}

/// The queue of all profiles.
pub(crate) struct Queue {
    profiles: Arc<HashMap<String, Profile>>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    sort: Arc<dyn QueueSort>,
    backoff: (Duration, Duration),
    pods: HashMap<String, Waiting>,
    active: BinaryHeap<Next>,
    /// When pods that back off or sleep are tried again, with their tickets.
    timers: BinaryHeap<Reverse<(Instant, u64, String)>>,
    unschedulable: HashSet<String>,
    /// How many pods are active, backing off, unschedulable, gated and in flight.
    counts: [usize; 5],
    in_flight: HashMap<String, u64>,
    /// How many of these were taken at which event.
    taken_at: BTreeMap<u64, usize>,
    /// Recent events and the number of the first of them.
    events: VecDeque<ClusterEvent>,
    first_event: u64,
    /// Numbers tickets: a heap entry with another ticket than its pod's is stale.
    tickets: u64,
    closed: bool,
}

impl Queue {
    /// An empty queue in the order of `sort`, whose pods wait for the first to the last of `backoff` after attempts.
    pub(crate) fn new(
        profiles: Arc<HashMap<String, Profile>>,
        sort: Arc<dyn QueueSort>,
        backoff: (Duration, Duration),
    ) -> Self {
        let state = State {
            sort,
            backoff,
            pods: HashMap::new(),
            active: BinaryHeap::new(),
            timers: BinaryHeap::new(),
            unschedulable: HashSet::new(),
            counts: [0; 5],
            in_flight: HashMap::new(),
            taken_at: BTreeMap::new(),
            events: VecDeque::new(),
            first_event: 0,
            tickets: 0,
            closed: false,
        };
        Self { profiles, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds a pod that needs a node. Says why PreEnqueue holds it back, if it does.
    pub(crate) fn add(&self, pod: Arc<PodInfo>) -> Option<String> {
        let held = self.gate(&pod);
        let mut state = self.lock();
        let uid = pod.uid.clone();
        if state.pods.contains_key(&uid) {
            return held;
        }
        let waiting = Waiting { pod, place: Where::Gated, attempts: 0, queued_at: Instant::now(), ticket: 0 };
        state.counts[waiting.place.at()] += 1;
        state.pods.insert(uid.clone(), waiting);
        if held.is_none() {
            state.activate(&uid);
            self.changed.notify_one();
        }
        held
    }

    /// Takes over a change of a waiting pod. Says why PreEnqueue holds it back, if it does.
    pub(crate) fn update(&self, pod: Arc<PodInfo>, event: &ClusterEvent) -> Option<String> {
        let held = self.gate(&pod);
        let mut state = self.lock();
        let uid = pod.uid.clone();
        let Some(waiting) = state.pods.get_mut(&uid) else {
            drop(state);
            return self.add(pod);
        };
        waiting.pod = pod;
        match &waiting.place {
            Where::Gated if held.is_none() => state.activate(&uid),
            Where::Unschedulable { .. } => state.wake(&uid, event, &self.profiles),
            // The entry in the heap has the old priority: enter again.
            Where::Active => state.activate(&uid),
            Where::InFlight => state.remember(event),
            Where::Gated | Where::BackingOff => {}
        }
        self.changed.notify_one();
        held
    }

    /// Asks PreEnqueue again about a pod that it held back: what it waited for may have come.
    pub(crate) fn ask_again(&self, uid: &str) {
        let held = |state: &State| match state.pods.get(uid)? {
            Waiting { pod, place: Where::Gated, .. } => Some(Arc::clone(pod)),
            _ => None,
        };
        let Some(pod) = held(&self.lock()) else { return };
        let mut state = if self.gate(&pod).is_none() { self.lock() } else { return };
        if held(&state).is_some() {
            state.activate(uid);
            self.changed.notify_one();
        }
    }

    /// Takes these pods out of their turn, as far as they are here and not held back: they are tried together with another
    /// one (upstream: `PopSpecificPod`).
    pub(crate) fn take_these(&self, uids: &[String]) -> Vec<Attempt> {
        let mut state = self.lock();
        uids.iter().filter_map(|uid| state.take_one(uid)).collect()
    }

    /// Takes over a change that cannot help a waiting pod: one of its status.
    pub(crate) fn refresh(&self, pod: Arc<PodInfo>) {
        if let Some(waiting) = self.lock().pods.get_mut(&pod.uid) {
            waiting.pod = pod;
        }
    }

    /// Forgets a pod: it was deleted or has a node.
    pub(crate) fn remove(&self, uid: &str) {
        let mut state = self.lock();
        if let Some(waiting) = state.pods.remove(uid) {
            state.counts[waiting.place.at()] -= 1;
        }
        state.unschedulable.remove(uid);
        state.landed(uid);
    }

    /// Wakes the pods that the event may help.
    pub(crate) fn happened(&self, event: &ClusterEvent) {
        self.happened_to(event, "");
    }

    /// The same for all but the pod that it is about: it was refused, and its own leaving does not help it.
    pub(crate) fn happened_to(&self, event: &ClusterEvent, uid: &str) {
        let mut state = self.lock();
        state.remember(event);
        let others = state.unschedulable.iter().filter(|other| *other != uid);
        let helped = others.filter(|other| state.is_helped(other, event, &self.profiles));
        let helped: Vec<String> = helped.cloned().collect();
        helped.iter().for_each(|uid| state.move_on(uid));
        drop(state);
        self.changed.notify_one();
    }

    /// Returns a pod that plugins rejected.
    pub(crate) fn reject(&self, attempt: &Attempt, plugins: BTreeSet<&'static str>) {
        let mut state = self.lock();
        let uid = &attempt.pod.uid;
        let missed: Vec<ClusterEvent> = state.events_since(attempt.since);
        state.landed(uid);
        if state.move_to(uid, Where::Unschedulable { plugins, since: Instant::now() }).is_none() {
            return;
        }
        state.unschedulable.insert(uid.clone());
        state.set_timer(uid, GIVE_ANOTHER_TRY);
        for event in missed {
            state.wake(uid, &event, &self.profiles);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns a pod whose attempt broke: it is tried again after its backoff.
    pub(crate) fn retry(&self, attempt: &Attempt) {
        let mut state = self.lock();
        state.landed(&attempt.pod.uid);
        state.back_off(&attempt.pod.uid);
        drop(state);
        self.changed.notify_one();
    }

    /// The next pod; waits for one. `None` after [`Queue::close`].
    pub(crate) async fn take(&self) -> Option<Attempt> {
        loop {
            let wake_at = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                state.end_waits(Instant::now());
                if let Some(attempt) = state.take() {
                    return Some(attempt);
                }
                state.next_wake()
            };
            let timer = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Ends [`Queue::take`].
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// How many pods are active, backing off, unschedulable and gated.
    pub(crate) fn depth(&self) -> [usize; 4] {
        let [active, backing_off, unschedulable, gated, _in_flight] = self.lock().counts;
        [active, backing_off, unschedulable, gated]
    }

    fn gate(&self, pod: &PodInfo) -> Option<String> {
        let scheduler = pod.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("");
        let plugins = self.profiles.get(scheduler).map(|profile| profile.pre_enqueue.as_slice()).unwrap_or_default();
        plugins.iter().find_map(|plugin| plugin.pre_enqueue(pod).err()).map(|no| no.reasons.join(", "))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn move_to(&mut self, uid: &str, place: Where) -> Option<&mut Waiting> {
        let waiting = self.pods.get_mut(uid)?;
        self.counts[waiting.place.at()] -= 1;
        self.counts[place.at()] += 1;
        waiting.place = place;
        Some(waiting)
    }

    fn activate(&mut self, uid: &str) {
        self.tickets += 1;
        self.unschedulable.remove(uid);
        let (sort, ticket) = (Arc::clone(&self.sort), self.tickets);
        let Some(waiting) = self.move_to(uid, Where::Active) else { return };
        waiting.ticket = ticket;
        let pod = Arc::clone(&waiting.pod);
        self.active.push(Next { sort, pod, ticket });
    }

    fn back_off(&mut self, uid: &str) {
        self.unschedulable.remove(uid);
        let limits = self.backoff;
        let Some(waiting) = self.move_to(uid, Where::BackingOff) else { return };
        let wait = backoff(limits, waiting.attempts);
        self.set_timer(uid, wait);
    }

    fn set_timer(&mut self, uid: &str, wait: Duration) {
        self.tickets += 1;
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.ticket = self.tickets;
            self.timers.push(Reverse((Instant::now() + wait, self.tickets, uid.to_owned())));
        }
    }

    /// Moves an unschedulable pod on if the event may help it.
    fn wake(&mut self, uid: &str, event: &ClusterEvent, profiles: &HashMap<String, Profile>) {
        if self.is_helped(uid, event, profiles) {
            self.move_on(uid);
        }
    }

    /// Whether one of the rejecters of an unschedulable pod thinks that the event may help. A pod without a rejecter takes
    /// any event for help.
    fn is_helped(&self, uid: &str, event: &ClusterEvent, profiles: &HashMap<String, Profile>) -> bool {
        let Some(waiting) = self.pods.get(uid) else { return false };
        let Where::Unschedulable { plugins, .. } = &waiting.place else { return false };
        let scheduler = waiting.pod.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("");
        let Some(profile) = profiles.get(scheduler) else { return false };
        let mut rejecters = profile.rejecters.iter().filter(|plugin| plugins.contains(plugin.name()));
        plugins.is_empty() || rejecters.any(|plugin| plugin.may_help(&waiting.pod, event))
    }

    /// Lets an unschedulable pod be tried again, when its backoff is over.
    fn move_on(&mut self, uid: &str) {
        let Some(Waiting { place: Where::Unschedulable { since, .. }, attempts, .. }) = self.pods.get(uid) else {
            return;
        };
        if since.elapsed() >= backoff(self.backoff, *attempts) { self.activate(uid) } else { self.back_off(uid) }
    }

    fn take(&mut self) -> Option<Attempt> {
        while let Some(next) = self.active.pop() {
            let Some(waiting) = self.pods.get(&next.pod.uid) else { continue };
            if waiting.ticket != next.ticket || !matches!(waiting.place, Where::Active) {
                continue;
            }
            return self.take_one(&next.pod.uid);
        }
        None
    }

    fn take_one(&mut self, uid: &str) -> Option<Attempt> {
        let since = self.first_event + self.events.len() as u64;
        if matches!(self.pods.get(uid)?.place, Where::Gated | Where::InFlight) {
            return None;
        }
        self.unschedulable.remove(uid);
        self.landed(uid);
        self.in_flight.insert(uid.to_owned(), since);
        *self.taken_at.entry(since).or_default() += 1;
        let waiting = self.move_to(uid, Where::InFlight)?;
        waiting.attempts += 1;
        let (pod, number, queued_at) = (Arc::clone(&waiting.pod), waiting.attempts, waiting.queued_at);
        Some(Attempt { pod, number, queued_at, since })
    }

    /// Ends backoffs that are over and sleeps that are too long.
    fn end_waits(&mut self, now: Instant) {
        while self.timers.peek().is_some_and(|Reverse((until, ..))| *until <= now) {
            let Some(Reverse((_, ticket, uid))) = self.timers.pop() else { return };
            if self.is_current(&uid, ticket) {
                self.activate(&uid);
            }
        }
    }

    /// Whether a timer still speaks of what its pod waits for.
    fn is_current(&self, uid: &str, ticket: u64) -> bool {
        self.pods.get(uid).is_some_and(|waiting| {
            waiting.ticket == ticket && matches!(waiting.place, Where::BackingOff | Where::Unschedulable { .. })
        })
    }

    /// When the next wait ends; drops timers that speak of nothing any more.
    fn next_wake(&mut self) -> Option<Instant> {
        loop {
            let Reverse((until, ticket, uid)) = self.timers.peek()?;
            if self.is_current(uid, *ticket) {
                return Some(*until);
            }
            self.timers.pop();
        }
    }

    fn remember(&mut self, event: &ClusterEvent) {
        if !self.in_flight.is_empty() {
            self.events.push_back(event.clone());
        }
    }

    fn events_since(&self, number: u64) -> Vec<ClusterEvent> {
        let skip = usize::try_from(number.saturating_sub(self.first_event)).unwrap_or(usize::MAX);
        self.events.iter().skip(skip).cloned().collect()
    }

    /// A pod is not in flight any more: drops events that nobody in flight has missed.
    fn landed(&mut self, uid: &str) {
        let Some(since) = self.in_flight.remove(uid) else { return };
        if let Entry::Occupied(mut count) = self.taken_at.entry(since) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        let end = self.first_event + self.events.len() as u64;
        let oldest = self.taken_at.keys().next().copied().unwrap_or(end);
        while self.first_event < oldest && self.events.pop_front().is_some() {
            self.first_event += 1;
        }
    }
}

fn backoff((first, last): (Duration, Duration), attempts: u32) -> Duration {
    first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(last)
}
