//! What a controller is given, and how it is driven (upstream: `ControllerContext`).

use std::sync::Arc;
use std::time::Duration;

use client::{Informers, ObjectKey, QueueMeters, Recorder, WorkQueue, write};
use tokio_util::sync::CancellationToken;

/// Why a reconcile failed; it is tried again with backoff.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API server refused or could not be reached.
    #[error("api request")]
    Request(#[source] Box<kube::Error>),
    /// A value cannot be written as JSON.
    #[error("encode an object")]
    Encode(#[from] serde_json::Error),
    /// The name for a new object is taken by a foreign one; the next attempt uses another.
    #[error("{0} is taken by another object")]
    NameTaken(String),
    /// Part of the work has to wait, for the reason given.
    #[error("{0}")]
    NotYet(String),
    /// Trying again is of no use until something changes.
    #[error("{0}")]
    Impossible(String),
    /// A certificate request cannot be signed.
    #[error("sign a certificate")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<kube::Error> for Failure {
    fn from(err: kube::Error) -> Self {
        Self::Request(Box::new(err))
    }
}

impl Failure {
    /// The innermost cause in words, as the API server put it.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Request(source) => write::status_message(source),
            other => other.to_string(),
        }
    }
}

/// What a reconcile says: when to look again, if not at the next change.
pub(crate) type Outcome = Result<Option<Duration>, Failure>;

/// The shared parts of all controllers of a process.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: kube::Client,
    pub(crate) informers: Informers,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: daemon::Metrics,
    pub(crate) queues: QueueMeters,
}

/// A level-triggered controller: brings what one key names nearer to its desired state.
pub(crate) trait Controller: Send + Sync + 'static {
    /// Reconciles one key. Reads from caches; everything it does is idempotent.
    fn reconcile(&self, key: ObjectKey) -> impl Future<Output = Outcome> + Send;
}

impl Context {
    /// Runs `controller` over `queue` once every cache is filled, until `shutdown`.
    pub(crate) async fn drive<C: Controller>(
        self,
        name: &'static str,
        controller: C,
        queue: WorkQueue<ObjectKey>,
        workers: usize,
        shutdown: CancellationToken,
    ) -> Result<(), crate::Error> {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = self.informers.synced() => {}
        }
        queue.measure(name, &self.queues);
        let controller = Arc::new(controller);
        let reconcile = move |key| {
            let controller = Arc::clone(&controller);
            async move { controller.reconcile(key).await }
        };
        client::run_workers(name, queue, workers, shutdown, reconcile).await;
        Ok(())
    }
}
