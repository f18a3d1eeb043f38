//! A pod in the queue: where it is, and its turn.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use crate::framework::{PodInfo, QueueSort};

pub(super) struct Waiting {
    pub(super) pod: Arc<PodInfo>,
    pub(super) place: Where,
    pub(super) attempts: u32,
    pub(super) queued_at: Instant,
    pub(super) ticket: u64,
}

pub(super) enum Where {
    Gated,
    Active,
    BackingOff,
    /// Rejected by these plugins.
    Unschedulable {
        plugins: BTreeSet<&'static str>,
        since: Instant,
    },
    InFlight,
}

impl Where {
    /// Where it is counted.
    pub(super) fn at(&self) -> usize {
        match self {
            Self::Active => 0,
            Self::BackingOff => 1,
            Self::Unschedulable { .. } => 2,
            Self::Gated => 3,
            Self::InFlight => 4,
        }
    }
}

pub(super) struct Next {
    pub(super) sort: Arc<dyn QueueSort>,
    pub(super) pod: Arc<PodInfo>,
    pub(super) ticket: u64,
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
