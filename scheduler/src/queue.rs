//! Pods that wait for a node.
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

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

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
    in_flight: HashMap<String, u64>,
    /// Recent events and the number of the first of them.
    events: VecDeque<ClusterEvent>,
    first_event: u64,
    /// Numbers tickets: a heap entry with another ticket than its pod's is stale.
    tickets: u64,
    closed: bool,
}

struct Waiting {
    pod: Arc<PodInfo>,
    place: Where,
    attempts: u32,
    queued_at: Instant,
    ticket: u64,
}

enum Where {
    Gated,
    Active,
    BackingOff,
    /// Rejected by these plugins; by none where there was no node to ask them about.
    Unschedulable {
        plugins: BTreeSet<&'static str>,
        since: Instant,
    },
    InFlight,
}

struct Next {
    sort: Arc<dyn QueueSort>,
    pod: Arc<PodInfo>,
    ticket: u64,
}

impl Ord for Next {
    /// The heap gives the greatest first, and earlier tickets go before later ones.
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort.order(&other.pod, &self.pod).then_with(|| other.ticket.cmp(&self.ticket))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.ticket == other.ticket
    }
}

impl Eq for Next {}

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
            in_flight: HashMap::new(),
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

    /// Forgets a pod: it was deleted or has a node.
    pub(crate) fn remove(&self, uid: &str) {
        let mut state = self.lock();
        state.pods.remove(uid);
        state.unschedulable.remove(uid);
        state.landed(uid);
    }

    /// Wakes the pods that the event may help.
    pub(crate) fn happened(&self, event: &ClusterEvent) {
        let mut state = self.lock();
        state.remember(event);
        let asleep: Vec<String> = state.unschedulable.iter().cloned().collect();
        for uid in asleep {
            state.wake(&uid, event, &self.profiles);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns a pod that plugins rejected.
    pub(crate) fn reject(&self, attempt: &Attempt, plugins: BTreeSet<&'static str>) {
        let mut state = self.lock();
        let uid = &attempt.pod.uid;
        let missed: Vec<ClusterEvent> = state.events_since(attempt.since);
        state.landed(uid);
        let Some(waiting) = state.pods.get_mut(uid) else { return };
        waiting.place = Where::Unschedulable { plugins, since: Instant::now() };
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
        let state = self.lock();
        let mut depth = [0; 4];
        for waiting in state.pods.values() {
            match waiting.place {
                Where::Active => depth[0] += 1,
                Where::BackingOff => depth[1] += 1,
                Where::Unschedulable { .. } => depth[2] += 1,
                Where::Gated => depth[3] += 1,
                Where::InFlight => {}
            }
        }
        depth
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
    fn activate(&mut self, uid: &str) {
        self.tickets += 1;
        self.unschedulable.remove(uid);
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.place = Where::Active;
        waiting.ticket = self.tickets;
        let (sort, pod) = (Arc::clone(&self.sort), Arc::clone(&waiting.pod));
        self.active.push(Next { sort, pod, ticket: self.tickets });
    }

    fn back_off(&mut self, uid: &str) {
        self.unschedulable.remove(uid);
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.place = Where::BackingOff;
        let wait = backoff(self.backoff, waiting.attempts);
        self.set_timer(uid, wait);
    }

    fn set_timer(&mut self, uid: &str, wait: Duration) {
        self.tickets += 1;
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.ticket = self.tickets;
            self.timers.push(Reverse((Instant::now() + wait, self.tickets, uid.to_owned())));
        }
    }

    /// Moves an unschedulable pod on if one of its rejecters thinks that the event may help. A pod without a rejecter
    /// takes any event for help.
    fn wake(&mut self, uid: &str, event: &ClusterEvent, profiles: &HashMap<String, Profile>) {
        let Some(waiting) = self.pods.get(uid) else { return };
        let Where::Unschedulable { plugins, since } = &waiting.place else { return };
        let scheduler = waiting.pod.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("");
        let Some(profile) = profiles.get(scheduler) else { return };
        let helps = plugins.is_empty()
            || profile
                .rejecters
                .iter()
                .any(|plugin| plugins.contains(plugin.name()) && plugin.may_help(&waiting.pod, event));
        if !helps {
            return;
        }
        if since.elapsed() >= backoff(self.backoff, waiting.attempts) { self.activate(uid) } else { self.back_off(uid) }
    }

    fn take(&mut self) -> Option<Attempt> {
        while let Some(next) = self.active.pop() {
            let since = self.first_event + self.events.len() as u64;
            let Some(waiting) = self.pods.get_mut(&next.pod.uid) else { continue };
            if waiting.ticket != next.ticket || !matches!(waiting.place, Where::Active) {
                continue;
            }
            waiting.place = Where::InFlight;
            waiting.attempts += 1;
            self.in_flight.insert(next.pod.uid.clone(), since);
            return Some(Attempt {
                pod: Arc::clone(&waiting.pod),
                number: waiting.attempts,
                queued_at: waiting.queued_at,
                since,
            });
        }
        None
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
        if self.in_flight.remove(uid).is_none() {
            return;
        }
        let end = self.first_event + self.events.len() as u64;
        let oldest = self.in_flight.values().copied().min().unwrap_or(end);
        while self.first_event < oldest && self.events.pop_front().is_some() {
            self.first_event += 1;
        }
    }
}

fn backoff((first, last): (Duration, Duration), attempts: u32) -> Duration {
    first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::{Fit, NodeName, PrioritySort, SchedulingGates};
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    fn queue() -> Queue {
        let profile = Profile {
            scheduler_name: "s".into(),
            pre_enqueue: vec![Arc::new(SchedulingGates)],
            rejecters: vec![Arc::new(Fit::default()), Arc::new(NodeName)],
            ..Profile::default()
        };
        Queue::new(Arc::new(HashMap::from([("s".to_owned(), profile)])), Arc::new(PrioritySort), BACKOFF)
    }

    fn pod(uid: &str, priority: i32, gates: Value) -> Arc<PodInfo> {
        let spec = json!({"containers": [], "schedulerName": "s", "priority": priority, "schedulingGates": gates});
        Arc::new(PodInfo::new(Arc::new(
            serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": spec}))
                .unwrap(),
        )))
    }

    fn node_added() -> ClusterEvent {
        ClusterEvent::NodeAdded(Arc::new(Node::default()))
    }

    fn rejected_by(plugin: &'static str) -> BTreeSet<&'static str> {
        BTreeSet::from([plugin])
    }

    async fn next(queue: &Queue) -> String {
        queue.take().await.unwrap().pod.uid.clone()
    }

    /// Whether nothing can be taken within `wait`.
    async fn is_empty_for(queue: &Queue, wait: Duration) -> bool {
        tokio::time::timeout(wait, queue.take()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn higher_priority_goes_first_and_equals_keep_their_order() {
        let queue = queue();
        for (uid, priority) in [("a", 0), ("b", 0), ("c", 5)] {
            queue.add(pod(uid, priority, json!([])));
        }
        assert_eq!([next(&queue).await, next(&queue).await, next(&queue).await], ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gated_pod_waits_until_its_gates_are_gone() {
        let queue = queue();
        let gated = pod("a", 0, json!([{"name": "x"}]));
        assert!(queue.add(Arc::clone(&gated)).is_some());
        assert!(is_empty_for(&queue, Duration::from_secs(600)).await);
        let free = pod("a", 0, json!([]));
        let event = ClusterEvent::PodUpdated { old: Arc::clone(&gated.pod), new: Arc::clone(&free.pod) };
        assert!(queue.update(free, &event).is_none());
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_pod_sleeps_until_an_event_that_may_help() {
        let queue = queue();
        queue.add(pod("a", 0, json!([])));
        let attempt = queue.take().await.unwrap();
        queue.reject(&attempt, rejected_by("NodeName"));
        queue.happened(&ClusterEvent::AssignedPodDeleted(Arc::new(Pod::default())));
        assert!(is_empty_for(&queue, Duration::from_secs(60)).await);
        queue.happened(&node_added());
        assert_eq!(next(&queue).await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_during_the_attempt_is_not_lost() {
        let queue = queue();
        queue.add(pod("a", 0, json!([])));
        let attempt = queue.take().await.unwrap();
        queue.happened(&node_added());
        queue.reject(&attempt, rejected_by("NodeName"));
        let before = Instant::now();
        assert_eq!(next(&queue).await, "a");
        assert_eq!(before.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_found_no_nodes_at_all_is_woken_by_the_first() {
        let queue = queue();
        queue.add(pod("a", 0, json!([])));
        let attempt = queue.take().await.unwrap();
        queue.reject(&attempt, BTreeSet::new());
        let before = Instant::now();
        queue.happened(&node_added());
        assert_eq!(next(&queue).await, "a");
        assert_eq!(before.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn events_before_the_attempt_do_not_count() {
        let queue = queue();
        queue.add(pod("other", 9, json!([])));
        let _in_flight = queue.take().await.unwrap();
        queue.happened(&node_added());
        queue.add(pod("a", 0, json!([])));
        let attempt = queue.take().await.unwrap();
        queue.reject(&attempt, rejected_by("NodeName"));
        assert!(is_empty_for(&queue, Duration::from_secs(60)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeping_pod_is_tried_again_after_five_minutes() {
        let queue = queue();
        queue.add(pod("a", 0, json!([])));
        let attempt = queue.take().await.unwrap();
        queue.reject(&attempt, rejected_by("NodeName"));
        let before = Instant::now();
        assert_eq!(next(&queue).await, "a");
        assert_eq!(before.elapsed(), GIVE_ANOTHER_TRY);
    }

    #[tokio::test(start_paused = true)]
    async fn broken_attempts_back_off_longer_and_longer() {
        let queue = queue();
        queue.add(pod("a", 0, json!([])));
        let mut waits = Vec::new();
        let mut attempt = queue.take().await.unwrap();
        for _ in 0..6 {
            queue.retry(&attempt);
            let before = Instant::now();
            attempt = queue.take().await.unwrap();
            waits.push(before.elapsed().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_pod_is_never_taken() {
        let queue = queue();
        queue.add(pod("a", 0, json!([])));
        queue.remove("a");
        assert!(is_empty_for(&queue, Duration::from_secs(600)).await);
        queue.close();
        assert!(queue.take().await.is_none());
    }
}
