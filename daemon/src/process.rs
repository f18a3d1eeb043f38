//! What a component gets from the process that runs it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Metrics;

/// A component's view of its process. Clones share everything but `ready`'s meaning: it is one component's.
#[derive(Clone, Debug)]
pub struct Process {
    /// Cancelled when the component was asked to end: from then on it says that it is not ready.
    pub stopping: CancellationToken,
    /// Cancelled when the component must drain and return.
    pub shutdown: CancellationToken,
    /// Set by the component while it can do its work.
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

/// The place where a component says that it is ready, or is no longer.
#[derive(Clone, Debug)]
pub struct Ready {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// For this reason it is not.
    Not(&'static str),
    Since(Instant),
}

impl Ready {
    fn new() -> Self {
        Self { state: watch::Sender::new(State::Not("still starting")) }
    }

    /// Says that the component is ready. While it is, later calls change nothing.
    pub fn set(&self) {
        self.state.send_if_modified(|state| {
            let is_news = matches!(state, State::Not(_));
            if is_news {
                *state = State::Since(Instant::now());
            }
            is_news
        });
    }

    /// Says that the component cannot do its work until it says otherwise, and in a few words why: everybody may read them.
    pub fn lost(&self, why: &'static str) {
        self.state.send_replace(State::Not(why));
    }

    /// A read handle.
    pub fn watch(&self) -> ReadyWatch {
        ReadyWatch { state: self.state.subscribe() }
    }
}

/// The read side of a [`Ready`].
#[derive(Clone, Debug)]
pub struct ReadyWatch {
    state: watch::Receiver<State>,
}

impl ReadyWatch {
    /// Whether the component is ready now.
    ///
    /// # Errors
    /// With what keeps it from being ready.
    pub fn now(&self) -> Result<(), &'static str> {
        match *self.state.borrow() {
            State::Since(_) => Ok(()),
            State::Not(why) => Err(why),
        }
    }

    /// Waits until the component is ready and returns since when it is; `None` if it went away before.
    pub async fn ready(&mut self) -> Option<Instant> {
        let state = *self.state.wait_for(|state| matches!(state, State::Since(_))).await.ok()?;
        if let State::Since(at) = state { Some(at) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_is_seen_by_every_watcher_and_keeps_its_first_time() {
        let ready = Ready::new();
        let mut watch = ready.watch();
        assert_eq!(watch.now(), Err("still starting"));
        ready.set();
        let first = watch.ready().await;
        ready.set();
        assert_eq!((ready.watch().ready().await, watch.now()), (first, Ok(())));
    }

    #[test]
    fn readiness_may_be_lost_and_found_again() {
        let ready = Ready::new();
        let watch = ready.watch();
        ready.set();
        ready.lost("the kernel refuses the rules");
        assert_eq!(watch.now(), Err("the kernel refuses the rules"));
        ready.set();
        assert_eq!(watch.now(), Ok(()));
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
