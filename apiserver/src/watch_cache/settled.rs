//! How far a cache must have come before security is decided by it: to the last write that this server has acknowledged.
//! Whoever was told that a binding is gone or that a namespace has become strict can rely on it from then on.
//!
//! It is nearly always there already; then this costs two atomic loads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::{ApiError, Resource};
use tokio::sync::Notify;

/// How long a decision waits. A cache that is further behind has lost its store, and then the answer is no.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cache of a resource has not taken in what was acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("the watch cache of {resource} did not catch up with what has been written")]
pub struct Behind {
    resource: String,
}

impl From<Behind> for ApiError {
    fn from(err: Behind) -> Self {
        Self::timeout(err.to_string(), 1)
    }
}

/// Two revisions of one resource.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The newest write that this server has acknowledged.
    acknowledged: AtomicU64,
    /// Every event up to this one can be seen.
    reached: AtomicU64,
    moved: Notify,
}

impl Progress {
    pub(super) fn acknowledge(&self, revision: u64) {
        self.acknowledged.fetch_max(revision, Ordering::AcqRel);
    }

    pub(super) fn reach(&self, revision: u64) {
        self.reached.fetch_max(revision, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    fn has_reached(&self, revision: u64) -> bool {
        self.reached.load(Ordering::Acquire) >= revision
    }

    /// Waits for what has been acknowledged before this call, for a while.
    pub(super) async fn settle(&self, of: &Resource) -> Result<(), Behind> {
        let wanted = self.acknowledged.load(Ordering::Acquire);
        if self.has_reached(wanted) {
            return Ok(());
        }
        let waited = tokio::time::timeout(PATIENCE, self.reached(wanted)).await;
        waited.map_err(|_elapsed| Behind { resource: of.plural.to_string() })
    }

    async fn reached(&self, wanted: u64) {
        while !self.has_reached(wanted) {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Before the second look: what comes after it is not missed.
            moved.as_mut().enable();
            if self.has_reached(wanted) {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use api::catalog::Catalog;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_reads_waits_for_what_was_acknowledged_and_not_for_more() {
        let catalog = Catalog::builtin();
        let row = catalog.resource("", "v1", "configmaps").unwrap();
        let progress = Progress::default();
        assert!(progress.settle(row).now_or_never().is_some(), "nothing was written");
        progress.acknowledge(7);
        progress.reach(6);
        let mut waiting = Box::pin(progress.settle(row));
        assert!(waiting.as_mut().now_or_never().is_none());
        progress.acknowledge(9);
        progress.reach(7);
        assert!(waiting.now_or_never().is_some(), "what was acknowledged later does not hold it up");
        assert!(progress.settle(row).now_or_never().is_none());
        progress.reach(12);
        assert!(progress.settle(row).now_or_never().is_some());
    }
}
