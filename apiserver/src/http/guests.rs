//! Who is connected, and who goes first when there is no room.
//!
//! Connections leave a part of the process's file descriptors to others: the store, nodes, webhooks, and in a cluster of
//! one process everything else. When there are too many, the oldest that has not made a request yet makes room, so that
//! a flood of half-open connections shuts out nobody but itself.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Part of the descriptors that is left to others.
const RESERVE: usize = 4;
/// What Linux gives a process that asks for no more.
const DEFAULT_DESCRIPTORS: usize = 1024;

/// Those who have not made a request yet, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    strangers: BTreeMap<u64, CancellationToken>,
}

/// One who has just come.
#[derive(Debug)]
pub(super) struct Stranger {
    guests: Guests,
    id: u64,
    /// Ends the connection at once.
    pub(super) cut: CancellationToken,
    pub(super) shutdown: CancellationToken,
}

impl Guests {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, shutdown: &CancellationToken) -> Stranger {
        let cut = CancellationToken::new();
        let mut waiting = self.waiting();
        waiting.next += 1;
        let id = waiting.next;
        waiting.strangers.insert(id, cut.clone());
        Stranger { guests: self.clone(), id, cut, shutdown: shutdown.clone() }
    }

    /// Cuts the oldest stranger; `false` if there is none.
    pub(super) fn make_room(&self) -> bool {
        let oldest = self.waiting().strangers.pop_first();
        oldest.is_some_and(|(_, cut)| {
            cut.cancel();
            true
        })
    }
}

impl Stranger {
    /// It has made a request.
    pub(super) fn is_known(&self) {
        self.guests.waiting().strangers.remove(&self.id);
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_known();
    }
}

/// How many connections there may be.
pub(super) fn most() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let descriptors = descriptors(&limits).unwrap_or(DEFAULT_DESCRIPTORS);
    descriptors - descriptors / RESERVE
}

/// The soft limit (proc(5)); `None` for no limit, too.
fn descriptors(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_who_has_not_made_a_request_makes_room() {
        let guests = Guests::default();
        let shutdown = CancellationToken::new();
        let [first, second, third] = [(); 3].map(|()| guests.enter(&shutdown));
        first.is_known();
        assert!(guests.make_room());
        assert_eq!([&first, &second, &third].map(|one| one.cut.is_cancelled()), [false, true, false]);
        drop(third);
        assert!(!guests.make_room(), "those who are known stay");
    }

    #[test]
    fn the_limit_of_descriptors_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(descriptors(limits), Some(1024));
        assert_eq!(descriptors("Max open files            unlimited            unlimited            files\n"), None);
        assert!(most() > 0);
    }
}
