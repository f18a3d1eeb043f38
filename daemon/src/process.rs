//! What a component gets from the process that runs it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Metrics;

/// A component's view of its process. Clones share everything but `ready`'s meaning: one component sets it once.
#[derive(Clone, Debug)]
pub struct Process {
    /// Cancelled when the component was asked to end: from then on it says that it is not ready.
    pub stopping: CancellationToken,
    /// Cancelled when the component must drain and return.
    pub shutdown: CancellationToken,
    /// Set by the component when it can do its work.
    pub ready: Ready,
    /// Where the component registers its metrics.
    pub metrics: Metrics,
}

impl Process {
    /// A process whose end is `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { stopping: shutdown.clone(), shutdown, ready: Ready::new(), metrics: Metrics::default() }
    }

    /// A process that is asked to end by `stopping`, and must drain `delay` later. Needs an async runtime.
    pub(crate) fn stopping_before(stopping: CancellationToken, delay: Duration) -> Self {
        if delay.is_zero() {
            return Self::new(stopping);
        }
        let process = Self { stopping, ..Self::new(CancellationToken::new()) };
        let (stopping, shutdown) = (process.stopping.clone(), process.shutdown.clone());
        // Lives as long as the process, as what waits for the signal does.
        tokio::spawn(async move {
            stopping.cancelled().await;
            tokio::time::sleep(delay).await;
            shutdown.cancel();
        });
        process
    }

    /// The same process for one more component: it shares shutdown and metrics, and has a readiness of its own.
    pub fn component(&self) -> Self {
        Self {
            stopping: self.stopping.child_token(),
            shutdown: self.shutdown.child_token(),
            ready: Ready::new(),
            metrics: self.metrics.clone(),
        }
    }
}

/// The place where a component says that it is ready.
#[derive(Clone, Debug)]
pub struct Ready {
    at: watch::Sender<Option<Instant>>,
}

impl Ready {
    fn new() -> Self {
        Self { at: watch::Sender::new(None) }
    }

    /// Says that the component is ready. Later calls change nothing.
    pub fn set(&self) {
        self.at.send_if_modified(|at| at.is_none() && at.replace(Instant::now()).is_none());
    }

    /// A read handle.
    pub fn watch(&self) -> ReadyWatch {
        ReadyWatch { at: self.at.subscribe() }
    }
}

/// The read side of a [`Ready`].
#[derive(Clone, Debug)]
pub struct ReadyWatch {
    at: watch::Receiver<Option<Instant>>,
}

impl ReadyWatch {
    /// Whether the component is ready now.
    pub fn is_ready(&self) -> bool {
        self.at.borrow().is_some()
    }

    /// Waits until the component is ready and returns when that was; `None` if it went away before.
    pub async fn ready(&mut self) -> Option<Instant> {
        self.at.wait_for(Option::is_some).await.ok().and_then(|at| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_is_seen_by_every_watcher_and_keeps_its_first_time() {
        let ready = Ready::new();
        let mut watch = ready.watch();
        assert!(!watch.is_ready());
        ready.set();
        let first = watch.ready().await;
        ready.set();
        assert_eq!(ready.watch().ready().await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_comes_after_the_delay() {
        let stopping = CancellationToken::new();
        let process = Process::stopping_before(stopping.clone(), Duration::from_secs(5));
        stopping.cancel();
        assert!(process.stopping.is_cancelled() && !process.shutdown.is_cancelled());
        let began = tokio::time::Instant::now();
        process.shutdown.cancelled().await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn waiting_for_a_component_that_went_away_ends() {
        let mut watch = Ready::new().watch();
        assert_eq!(watch.ready().await, None);
    }
}
