//! How often probes succeeded and failed, of the containers of pods that are here (upstream: `prober_probe_total`).
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) container: String,
    /// `Liveness`, `Readiness` or `Startup`.
    pub(crate) probe: &'static str,
    /// `successful` or `failed`.
    pub(crate) result: &'static str,
}

type OfPod = BTreeMap<Key, u64>;

/// Counts by the uids of pods. A pod has as many as it has probes, and is forgotten when it goes.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<String, OfPod>>);

impl Counts {
    /// Counts attempts of a pod's probes from now on.
    pub(super) fn begin(&self, uid: &str) {
        self.lock().entry(uid.to_owned()).or_default();
    }

    /// Counts an attempt, unless its pod is gone.
    pub(super) fn add(&self, uid: &str, container: &str, probe: &'static str, passed: bool) {
        let result = if passed { "successful" } else { "failed" };
        let key = Key { container: container.to_owned(), probe, result };
        if let Some(counts) = self.lock().get_mut(uid) {
            *counts.entry(key).or_default() += 1;
        }
    }

    /// The counts of a pod.
    pub(crate) fn of(&self, uid: &str) -> OfPod {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    pub(super) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfPod>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_until_their_pod_goes() {
        let counts = Counts::default();
        counts.begin("u");
        for passed in [true, true, false] {
            counts.add("u", "c", "Liveness", passed);
        }
        let key = |result: &'static str| Key { container: "c".into(), probe: "Liveness", result };
        assert_eq!(counts.of("u"), OfPod::from([(key("successful"), 2), (key("failed"), 1)]));
        counts.forget("u");
        counts.add("u", "c", "Liveness", true);
        assert!(counts.of("u").is_empty());
    }
}
