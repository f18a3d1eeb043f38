//! Which keys expire when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Revision;

/// A key that expires in this second, if its value is then still from this revision.
pub(super) type Deadline = (u64, Arc<str>, Revision);

type Keys = Arc<Vec<(Arc<str>, Revision)>>;

/// Deadlines in whole seconds, so that keys that expire at about the same time cost one wake-up and one commit. A clone
/// shares them.
#[derive(Clone, Default)]
pub(super) struct Expiry {
    by_second: BTreeMap<u64, Keys>,
}

impl Expiry {
    /// Has `key` expire at `second`, if its value is then still from `revision`.
    pub(super) fn add(&mut self, second: u64, key: Arc<str>, revision: Revision) {
        Arc::make_mut(self.by_second.entry(second).or_default()).push((key, revision));
    }

    /// How long until the next deadline; `None` when nothing expires.
    pub(super) fn next_in(&self, now: SystemTime) -> Option<Duration> {
        let (&second, _) = self.by_second.first_key_value()?;
        Some(Duration::from_secs(second).saturating_sub(since_epoch(now)))
    }

    /// Takes out what is due, at most so many.
    pub(super) fn due(&mut self, now: SystemTime, limit: usize) -> Vec<Deadline> {
        let mut due = Vec::new();
        while let Some(mut keys) = self.by_second.first_entry() {
            let second = *keys.key();
            if second > since_epoch(now).as_secs() || due.len() == limit {
                break;
            }
            let list = Arc::make_mut(keys.get_mut());
            let keep = list.len().saturating_sub(limit - due.len());
            due.extend(list.drain(keep..).map(|(key, revision)| (second, key, revision)));
            if list.is_empty() {
                keys.remove();
            }
        }
        due
    }

    /// When values expire, by the revision they are from.
    pub(super) fn by_revision(&self) -> HashMap<Revision, u64> {
        let seconds = self.by_second.iter();
        seconds.flat_map(|(&second, keys)| keys.iter().map(move |&(_, revision)| (revision, second))).collect()
    }
}

/// The second at which something written now with this time to live has surely lived that long.
pub(super) fn deadline(now: SystemTime, ttl: Duration) -> u64 {
    let end = since_epoch(now).saturating_add(ttl);
    end.as_secs().saturating_add(u64::from(end.subsec_nanos() > 0))
}

/// The time since 1970.
pub(super) fn since_epoch(time: SystemTime) -> Duration {
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
        assert_eq!(expiry.due(start + Duration::from_millis(1_599), 9), []);
        let due = expiry.due(start + Duration::from_millis(1_600), 9);
        assert_eq!(due, [(1_002, "a".into(), 7), (1_002, "b".into(), 7)]);
        assert_eq!(expiry.next_in(start + Duration::from_secs(60)), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_due_comes_in_portions_and_a_clone_keeps_its_own() {
        let mut expiry = Expiry::default();
        (0..5).for_each(|revision| expiry.add(revision / 3, "a".into(), revision));
        let copy = expiry.clone();
        let now = UNIX_EPOCH + Duration::from_secs(9);
        let sizes: Vec<_> = (0..4).map(|_| expiry.due(now, 2).len()).collect();
        assert_eq!(sizes, [2, 2, 1, 0]);
        assert_eq!(copy.by_revision(), (0..5).map(|revision| (revision, revision / 3)).collect());
    }
}
