//! Without priority and fairness (`--enable-priority-and-fairness=false`): so many requests that read and so many that
//! write are worked on, and others are turned away.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::request::info::RequestInfo;

/// The seats; `None` for no limit.
#[derive(Debug)]
pub(super) struct Apart {
    reads: Option<Arc<Semaphore>>,
    writes: Option<Arc<Semaphore>>,
}

impl Apart {
    pub(super) fn new(reads: usize, writes: usize) -> Self {
        let seats = |number: usize| (number > 0).then(|| Arc::new(Semaphore::new(number.min(Semaphore::MAX_PERMITS))));
        Self { reads: seats(reads), writes: seats(writes) }
    }

    /// A seat; no seat if there is no limit; an error if all are taken.
    pub(super) fn seat(&self, info: &RequestInfo) -> Result<Option<OwnedSemaphorePermit>, ()> {
        let is_read = matches!(info.verb(), "get" | "list" | "head" | "watch");
        let seats = if is_read { &self.reads } else { &self.writes };
        seats.as_ref().map(|seats| seats.clone().try_acquire_owned().map_err(|_| ())).transpose()
    }
}
