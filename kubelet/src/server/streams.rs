//! The streams that clients have open (`exec`, `attach`, port forwarding): none outlives the server.
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the server waits for streams that it has cut.
const DRAIN: Duration = Duration::from_secs(2);

/// Knows the streams of one server.
#[derive(Clone)]
pub(super) struct Streams {
    /// Cancelled when streams must end.
    pub(super) shutdown: CancellationToken,
    open: TaskTracker,
}

impl Streams {
    /// There are none yet.
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, open: TaskTracker::new() }
    }

    /// Serves a stream until it ends, or is cut at the server's end.
    pub(super) fn serve<F: Future<Output = ()>>(&self, serving: F) -> impl Future<Output = ()> + use<F> {
        let shutdown = self.shutdown.clone();
        self.open.track_future(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = serving => {}
            }
        })
    }

    /// The same in a task of its own.
    pub(super) fn spawn(&self, serving: impl Future<Output = ()> + Send + 'static) {
        self.open.spawn(self.serve(serving));
    }

    /// Waits until all have ended, for a while.
    pub(super) async fn ended(&self) {
        self.open.close();
        if tokio::time::timeout(DRAIN, self.open.wait()).await.is_err() {
            tracing::warn!(streams = self.open.len(), "some streams did not end with the server");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts itself while it lives.
    struct Held(Arc<AtomicUsize>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn the_end_of_the_server_cuts_every_stream_and_waits_for_it() {
        let (shutdown, held) = (CancellationToken::new(), Arc::new(AtomicUsize::new(2)));
        let streams = Streams::new(shutdown.clone());
        let endless = |held: Held| async move {
            let _held = held;
            std::future::pending().await
        };
        streams.spawn(endless(Held(Arc::clone(&held))));
        // As the library of WebSockets does it.
        let other = tokio::spawn(streams.serve(endless(Held(Arc::clone(&held)))));
        tokio::task::yield_now().await;
        assert_eq!(held.load(Ordering::SeqCst), 2);
        shutdown.cancel();
        streams.ended().await;
        assert_eq!(held.load(Ordering::SeqCst), 0);
        other.await.unwrap();
    }
}
