//! How often a daemon that fails on a node is replaced: otherwise kubelet and controller would work against each other
//! (upstream: `failedPodsBackoff`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use facts::pods;
use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const LAST: SignedDuration = SignedDuration::from_mins(15);

/// The pauses by set and node. One that nobody asked for in half an hour is forgotten.
#[derive(Default)]
pub(super) struct Backoff {
    pauses: Mutex<HashMap<(String, String), Pause>>,
}

#[derive(Clone, Copy)]
struct Pause {
    since: Timestamp,
    length: SignedDuration,
}

impl Pause {
    fn end(self) -> Timestamp {
        self.since.saturating_add(self.length).unwrap_or(Timestamp::MAX)
    }
}

impl Backoff {
    /// Begins the next pause, twice as long as the one before; while a pause lasts, returns how long it still does.
    pub(super) fn take(&self, set: &str, node: &str, now: Timestamp) -> Option<Duration> {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.retain(|_, pause| now.duration_since(pause.since) < LAST + LAST);
        let key = (set.to_owned(), node.to_owned());
        let before = pauses.get(&key).copied();
        if let Some(pause) = before.filter(|pause| now < pause.end()) {
            return Some(pods::until(pause.end(), now));
        }
        let length = before.map_or(FIRST, |pause| (pause.length + pause.length).min(LAST));
        pauses.insert(key, Pause { since: now, length });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_for_each_node() {
        let (backoff, start) = (Backoff::default(), Timestamp::UNIX_EPOCH);
        let at = |seconds: i64| start.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        assert_eq!(backoff.take("s", "a", at(0)), None);
        assert_eq!(backoff.take("s", "a", at(0)), Some(Duration::from_secs(1)));
        assert_eq!(backoff.take("s", "b", at(0)), None);
        assert_eq!(backoff.take("s", "a", at(1)), None);
        assert_eq!(backoff.take("s", "a", at(1)), Some(Duration::from_secs(2)));
        assert_eq!(backoff.take("s", "a", at(4000)), None);
        assert_eq!(backoff.take("s", "a", at(4000)), Some(Duration::from_secs(1)), "it begins anew");
    }
}
