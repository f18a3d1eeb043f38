//! Runs a reconciler over a queue of keys.

use std::error::Error as StdError;
use std::fmt::Display;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info_span, warn};

use crate::{WorkQueue, write};

/// Reconciles that still run so long after the shutdown are broken off: one that deletes a namespace of thousands of pods has no
/// end that anybody could wait for, and all of them bear the death of their process.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs `workers` loops that take keys from `queue` and reconcile them, until `shutdown`; then waits for the
/// reconciles that are running, 10 s at most, and returns.
///
/// The result of a reconcile decides what happens to its key: `Ok(None)` waits for the next change, `Ok(Some(delay))`
/// looks again after that delay, an error (or a panic) tries again with exponential backoff. Errors are logged here and
/// nowhere else; what only says that the cache was behind (a write conflict, an object that is gone) is logged at debug level.
/// What a reconcile itself logs carries controller and object in its span.
pub async fn run_workers<K, F, Fut, E>(
    name: &'static str,
    queue: WorkQueue<K>,
    workers: usize,
    shutdown: CancellationToken,
    reconcile: F,
) where
    K: Eq + Hash + Clone + Display + Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Duration>, E>> + Send + 'static,
    E: StdError + 'static,
{
    let reconcile = Arc::new(reconcile);
    let mut tasks = JoinSet::new();
    for _ in 0..workers.max(1) {
        tasks.spawn(work(name, queue.clone(), Arc::clone(&reconcile)));
    }
    shutdown.cancelled().await;
    queue.shut_down();
    if tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        debug!(controller = name, "reconciles were broken off");
    }
}

async fn work<K, F, Fut, E>(name: &'static str, queue: WorkQueue<K>, reconcile: Arc<F>)
where
    K: Eq + Hash + Clone + Display,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Option<Duration>, E>>,
    E: StdError + 'static,
{
    while let Some(key) = queue.next().await {
        let run = AssertUnwindSafe(async { reconcile(key.clone()).await }).catch_unwind();
        match run.instrument(info_span!("reconcile", controller = name, object = %*key)).await {
            Ok(Ok(again)) => {
                queue.forget(&key);
                if let Some(delay) = again {
                    queue.add_after(key.clone(), delay);
                }
            }
            Ok(Err(err)) => {
                log_failure(name, &*key, &err);
                queue.add_rate_limited(key.clone());
            }
            Err(_) => {
                error!(controller = name, key = %*key, "reconcile panicked");
                queue.add_rate_limited(key.clone());
            }
        }
    }
}

fn log_failure<E: StdError + 'static>(name: &str, key: &impl Display, err: &E) {
    let root: &(dyn StdError + 'static) = err;
    if write::caused_by_old_news(root) {
        debug!(controller = name, %key, error = root, "overtaken by a change, trying again");
    } else {
        warn!(controller = name, %key, error = root, "reconcile failed, trying again");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    async fn run<F, Fut>(keys: &[&'static str], workers: usize, until: impl Future<Output = ()>, reconcile: F)
    where
        F: Fn(&'static str) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Duration>, io::Error>> + Send + 'static,
    {
        let queue = WorkQueue::new();
        for key in keys {
            queue.add(*key);
        }
        let shutdown = CancellationToken::new();
        let done = async {
            until.await;
            shutdown.cancel();
        };
        tokio::join!(run_workers("test", queue, workers, shutdown.clone(), reconcile), done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_or_panicking_reconcile_is_tried_again() {
        let (sent, mut seen) = mpsc::channel(10);
        let runs = AtomicUsize::new(0);
        let until = async move {
            for expected in 0..3 {
                assert_eq!(seen.recv().await, Some(expected));
            }
        };
        run(&["a"], 1, until, move |_| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            let sent = sent.clone();
            async move {
                sent.send(run).await.unwrap();
                match run {
                    0 => Err(io::Error::other("not yet")),
                    1 => panic!("a bug"),
                    _ => Ok(None),
                }
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_returned_delay_is_when_the_key_runs_again() {
        let (sent, mut seen) = mpsc::channel(10);
        let start = Instant::now();
        let until = async move {
            let mut at = Vec::new();
            for _ in 0..3 {
                at.push(seen.recv().await.unwrap());
            }
            assert_eq!(at, [0, 60, 120]);
        };
        run(&["a"], 2, until, move |_| {
            let sent = sent.clone();
            async move {
                sent.send(start.elapsed().as_secs()).await.unwrap();
                Ok(Some(Duration::from_secs(60)))
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_the_running_reconcile() {
        let finished = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&finished);
        run(&["a"], 1, tokio::time::sleep(Duration::from_millis(1)), move |_| {
            let counter = Arc::clone(&counter);
            async move {
                tokio::time::sleep(Duration::from_secs(5)).await;
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(None)
            }
        })
        .await;
        assert_eq!(finished.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_does_not_wait_for_a_reconcile_without_an_end() {
        let start = Instant::now();
        run(&["a"], 1, tokio::time::sleep(Duration::from_secs(1)), |_| std::future::pending()).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1) + DRAIN);
    }
}
