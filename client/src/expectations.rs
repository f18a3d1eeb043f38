//! What a controller has done but its cache does not show yet.
//!
//! Without this, a controller that created three pods and is woken before its watch shows them creates three more. And one
//! that counted a pod in an object's status, and took the mark from the pod that it was not counted, would find neither when
//! the pod's watch is ahead of the object's: so it waits for its own writes (KEP-5647).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

use crate::ObjectKey;

/// Upstream's `ExpectationsTimeout`: past this a missed event no longer blocks the controller.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Outstanding creations (counted) and deletions (by uid) per key of the controlling object.
#[derive(Debug, Default)]
pub struct Expectations {
    pending: Mutex<HashMap<ObjectKey, Pending>>,
    written: Mutex<HashMap<ObjectKey, Written>>,
}

/// The version of a controlling object that its controller wrote last.
#[derive(Debug)]
struct Written {
    uid: Option<String>,
    version: u64,
}

#[derive(Debug)]
struct Pending {
    creations: usize,
    deletions: HashSet<String>,
    deadline: Instant,
}

impl Expectations {
    /// Expects nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Call before creating `count` objects; every failed creation must be taken back with `creation_observed`.
    pub fn expect_creations(&self, key: &ObjectKey, count: usize) {
        self.expect(key, count, HashSet::new());
    }

    /// Call before deleting the objects with these uids; take failures back with `deletion_observed`.
    pub fn expect_deletions(&self, key: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        self.expect(key, 0, uids.into_iter().collect());
    }

    /// A creation was seen in the watch, or failed.
    pub fn creation_observed(&self, key: &ObjectKey) {
        self.observe(key, |pending| pending.creations = pending.creations.saturating_sub(1));
    }

    /// A deletion was seen in the watch, or failed. Repeats are harmless: deletions are known by uid.
    pub fn deletion_observed(&self, key: &ObjectKey, uid: &str) {
        self.observe(key, |pending| {
            pending.deletions.remove(uid);
        });
    }

    /// `None` when the cache has caught up with this controller's own writes (or the wait timed out); otherwise the
    /// time until the wait times out, to be used as the delay of the next look.
    pub fn outstanding(&self, key: &ObjectKey) -> Option<Duration> {
        let mut all = self.lock();
        let left = all.get(key)?.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            all.remove(key);
            return None;
        }
        Some(left)
    }

    /// Call with what the API server answered to a write of the controlling object itself.
    pub fn wrote(&self, key: &ObjectKey, answer: &ObjectMeta) {
        let Some(version) = version(answer) else { return };
        self.written().insert(key.clone(), Written { uid: answer.uid.clone(), version });
    }

    /// Whether the controlling object, as the cache has it, shows what was last written of it. If not, its event is yet to
    /// come.
    pub fn shows(&self, key: &ObjectKey, cached: &ObjectMeta) -> bool {
        let mut written = self.written();
        let Some(last) = written.get(key) else { return true };
        let is_old = last.uid == cached.uid && version(cached).is_some_and(|version| version < last.version);
        if !is_old {
            written.remove(key);
        }
        !is_old
    }

    /// Forgets the key: its object is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
        self.written().remove(key);
    }

    fn expect(&self, key: &ObjectKey, creations: usize, deletions: HashSet<String>) {
        if creations == 0 && deletions.is_empty() {
            return;
        }
        let mut all = self.lock();
        let fresh = || Pending { creations: 0, deletions: HashSet::new(), deadline: Instant::now() };
        let pending = all.entry(key.clone()).or_insert_with(fresh);
        pending.creations += creations;
        pending.deletions.extend(deletions);
        pending.deadline = Instant::now() + TIMEOUT;
    }

    fn observe(&self, key: &ObjectKey, change: impl FnOnce(&mut Pending)) {
        let mut all = self.lock();
        let Some(pending) = all.get_mut(key) else { return };
        change(pending);
        if pending.creations == 0 && pending.deletions.is_empty() {
            all.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, HashMap<ObjectKey, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version as a number: later ones are greater (KEP-5504).
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_old_until_it_shows_the_last_write() {
        let (expectations, key) = (Expectations::new(), ObjectKey::new("default", "job"));
        let meta = |uid: &str, version: &str| ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        assert!(expectations.shows(&key, &meta("a", "1")), "nothing was written");
        expectations.wrote(&key, &meta("a", "10"));
        assert!(!expectations.shows(&key, &meta("a", "9")));
        assert!(expectations.shows(&key, &meta("a", "10")));
        expectations.wrote(&key, &meta("a", "20"));
        assert!(expectations.shows(&key, &meta("b", "15")), "another has its name");
        expectations.wrote(&key, &meta("b", "30"));
        expectations.forget(&key);
        assert!(expectations.shows(&key, &meta("b", "15")));
    }

    #[tokio::test(start_paused = true)]
    async fn creations_and_deletions_block_until_seen() {
        let (expectations, key) = (Expectations::new(), ObjectKey::new("default", "web"));
        assert_eq!(expectations.outstanding(&key), None);
        expectations.expect_creations(&key, 2);
        expectations.creation_observed(&key);
        assert!(expectations.outstanding(&key).is_some());
        expectations.creation_observed(&key);
        assert_eq!(expectations.outstanding(&key), None);

        expectations.expect_deletions(&key, ["a".to_owned(), "b".to_owned()]);
        expectations.deletion_observed(&key, "a");
        expectations.deletion_observed(&key, "a");
        assert!(expectations.outstanding(&key).is_some(), "seeing one deletion twice does not count for the other");
        expectations.deletion_observed(&key, "b");
        assert_eq!(expectations.outstanding(&key), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_event_blocks_no_longer_than_the_timeout() {
        let (expectations, key) = (Expectations::new(), ObjectKey::new("default", "web"));
        expectations.expect_creations(&key, 1);
        let left = expectations.outstanding(&key).unwrap();
        tokio::time::advance(left).await;
        assert_eq!(expectations.outstanding(&key), None);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_do_not_disturb_each_other() {
        let (expectations, a, b) = (Expectations::new(), ObjectKey::cluster("a"), ObjectKey::cluster("b"));
        expectations.expect_creations(&a, 1);
        expectations.creation_observed(&b);
        assert!(expectations.outstanding(&a).is_some());
        expectations.forget(&a);
        assert_eq!(expectations.outstanding(&a), None);
    }
}
