//! Which keys expire when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Revision;

/// Deadlines in whole seconds, so that keys that expire at about the same time cost one wake-up and one commit.
#[derive(Default)]
pub(super) struct Expiry {
    by_second: BTreeMap<u64, Vec<(Arc<str>, Revision)>>,
}

impl Expiry {
    /// Has `key` expire at `second`, if its value is then still from `revision`.
    pub(super) fn add(&mut self, second: u64, key: Arc<str>, revision: Revision) {
        self.by_second.entry(second).or_default().push((key, revision));
    }

    /// How long until the next deadline; `None` when nothing expires.
    pub(super) fn next_in(&self, now: SystemTime) -> Option<Duration> {
        let (&second, _) = self.by_second.first_key_value()?;
        Some(Duration::from_secs(second).saturating_sub(since_epoch(now)))
    }

    /// Takes out what is due.
    pub(super) fn due(&mut self, now: SystemTime) -> Vec<(Arc<str>, Revision)> {
        let later = self.by_second.split_off(&(since_epoch(now).as_secs() + 1));
        std::mem::replace(&mut self.by_second, later).into_values().flatten().collect()
    }
}

/// The second at which something written now with this time to live has surely lived that long.
pub(super) fn deadline(now: SystemTime, ttl: Duration) -> u64 {
    let end = since_epoch(now).saturating_add(ttl);
    end.as_secs().saturating_add(u64::from(end.subsec_nanos() > 0))
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_early_and_all_of_a_second_is_due_at_once() {
        let start = UNIX_EPOCH + Duration::from_millis(1_000_400);
        let mut expiry = Expiry::default();
        for (key, ttl) in [("a", 1000), ("b", 1500), ("c", 2000)] {
            expiry.add(deadline(start, Duration::from_millis(ttl)), key.into(), 7);
        }
        assert_eq!(expiry.next_in(start), Some(Duration::from_millis(1_600)));
        assert_eq!(expiry.due(start + Duration::from_millis(1_599)), []);
        let due = expiry.due(start + Duration::from_millis(1_600));
        assert_eq!(due, [("a".into(), 7), ("b".into(), 7)]);
        assert_eq!(expiry.next_in(start + Duration::from_secs(60)), Some(Duration::ZERO));
    }
}
