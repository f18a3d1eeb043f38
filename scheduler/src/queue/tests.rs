//! Pods that wait, with paused time.

use super::*;
use crate::plugins::fit::Fit;
use crate::plugins::node_name::NodeName;
use crate::plugins::priority_sort::PrioritySort;
use crate::plugins::scheduling_gates::SchedulingGates;
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
        serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": spec})).unwrap(),
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

#[tokio::test(start_paused = true)]
async fn every_pod_is_counted_where_it_is() {
    let queue = queue();
    for (uid, gates) in [("a", json!([])), ("b", json!([])), ("c", json!([{"name": "x"}]))] {
        queue.add(pod(uid, 0, gates));
    }
    assert_eq!(queue.depth(), [2, 0, 0, 1]);
    let (first, second) = (queue.take().await.unwrap(), queue.take().await.unwrap());
    assert_eq!(queue.depth(), [0, 0, 0, 1]);
    queue.reject(&first, rejected_by("NodeName"));
    queue.retry(&second);
    assert_eq!(queue.depth(), [0, 1, 1, 1]);
    queue.happened(&node_added());
    assert_eq!(queue.depth(), [0, 2, 0, 1]);
    ["a", "b", "c", "none"].iter().for_each(|uid| queue.remove(uid));
    assert_eq!(queue.depth(), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_status_is_known_and_wakes_nobody() {
    let queue = queue();
    queue.add(pod("a", 0, json!([])));
    let attempt = queue.take().await.unwrap();
    queue.reject(&attempt, rejected_by("NodeName"));
    let mut changed = (*attempt.pod.pod).clone();
    changed.status = serde_json::from_value(json!({"nominatedNodeName": "n"})).unwrap();
    queue.refresh(Arc::new(PodInfo::new(Arc::new(changed))));
    assert!(is_empty_for(&queue, Duration::from_secs(60)).await);
    queue.happened(&node_added());
    assert_eq!(queue.take().await.unwrap().pod.nominated_node(), Some("n"));
}

#[tokio::test(start_paused = true)]
async fn mates_are_taken_out_of_their_turn_wherever_they_wait() {
    let queue = queue();
    for (uid, priority, gates) in [("low", 0, json!([])), ("asleep", 5, json!([])), ("first", 9, json!([]))] {
        queue.add(pod(uid, priority, gates));
    }
    queue.add(pod("gated", 9, json!([{"name": "g"}])));
    assert_eq!(next(&queue).await, "first");
    let attempt = queue.take().await.unwrap();
    queue.reject(&attempt, rejected_by("NodeName"));
    let uids = ["gated", "asleep", "first", "low", "unknown"].map(str::to_owned);
    let taken: Vec<(String, u32)> =
        queue.take_these(&uids).into_iter().map(|attempt| (attempt.pod.uid.clone(), attempt.number)).collect();
    assert_eq!(taken, [("asleep".to_owned(), 2), ("low".to_owned(), 1)]);
    assert!(is_empty_for(&queue, Duration::from_secs(3600)).await, "nobody is taken twice");
    assert_eq!(queue.depth(), [0, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_held_back_is_asked_about_again() {
    let queue = queue();
    queue.add(pod("gated", 0, json!([{"name": "g"}])));
    queue.ask_again("gated");
    queue.ask_again("unknown");
    assert_eq!(queue.depth(), [0, 0, 0, 1]);
}
