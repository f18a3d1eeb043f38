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
async fn a_queue_tells_how_much_waits_and_how_long_that_takes() {
    let metrics = daemon::Metrics::default();
    let meters = QueueMeters::new(&metrics);
    let queue = WorkQueue::new();
    queue.add("early");
    queue.measure("test", &meters);
    queue.add("a");
    queue.add("a");
    queue.add_after("late", Duration::from_secs(60));
    tokio::time::advance(Duration::from_secs(2)).await;
    let taken = next(&queue).await;
    queue.add("early");
    tokio::time::advance(Duration::from_secs(3)).await;
    let running = next(&queue).await;
    drop(taken);
    let text = metrics.encode();
    let says = |name: &str, value: &str| {
        let line = format!("workqueue_{name}{{name=\"test\"}} {value}\n");
        assert!(text.contains(&line), "{line}{text}");
    };
    says("adds_total", "3");
    says("depth", "1");
    says("retries_total", "1");
    says("queue_duration_seconds_sum", "7");
    says("queue_duration_seconds_count", "2");
    says("work_duration_seconds_sum", "3");
    says("unfinished_work_seconds", "0");
    drop(running);
    let another = next(&queue).await;
    tokio::time::advance(Duration::from_secs(4)).await;
    let text = metrics.encode();
    assert!(text.contains("workqueue_unfinished_work_seconds{name=\"test\"} 4\n"), "{text}");
    assert!(text.contains("workqueue_longest_running_processor_seconds{name=\"test\"} 4\n"), "{text}");
    drop(another);
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
