//! Pods that Permit holds on their node (upstream: `waitingPodsMap`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::framework::Rejection;

type Outcome = Result<(), Rejection>;

/// All pods that are held. Who holds one, allows or rejects it by its uid.
#[derive(Debug, Default)]
pub struct WaitingPods {
    pods: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
}

/// A pod that is held, for the task that binds it.
#[derive(Debug)]
pub(crate) struct Held {
    /// The plugin whose patience ends first.
    pub(crate) plugin: &'static str,
    /// How long it is held.
    pub(crate) at_most: Duration,
    released: oneshot::Receiver<Outcome>,
}

impl WaitingPods {
    /// Holds a pod from now on, so that nobody's word about it can come too early.
    pub(crate) fn hold(&self, uid: &str, plugin: &'static str, at_most: Duration) -> Held {
        let (release, released) = oneshot::channel();
        self.lock().insert(uid.to_owned(), release);
        Held { plugin, at_most, released }
    }

    /// Lets a pod go to its node; false when it is not held.
    pub(crate) fn allow(&self, uid: &str) -> bool {
        self.end(uid, Ok(()))
    }

    /// Takes a pod off its node; false when it is not held.
    pub(crate) fn reject(&self, uid: &str, no: Rejection) -> bool {
        self.end(uid, Err(no))
    }

    /// Forgets a pod whose binding is given up.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn end(&self, uid: &str, outcome: Outcome) -> bool {
        let waiting = self.lock().remove(uid);
        // The task may have timed out just now: then there is nobody to tell.
        waiting.is_some_and(|waiting| waiting.send(outcome).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Outcome>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Waits for somebody's word. The error says who refused the pod, or did not allow it in time.
    pub(crate) async fn released(self, waiting: &WaitingPods, uid: &str) -> Result<(), (&'static str, Rejection)> {
        let outcome = tokio::time::timeout(self.at_most, self.released).await;
        match outcome {
            Ok(Ok(outcome)) => outcome.map_err(|no| (self.plugin, no)),
            Ok(Err(_)) | Err(_) => {
                waiting.forget(uid);
                let why = format!("not permitted within {:?}", self.at_most);
                Err((self.plugin, Rejection::unschedulable(why)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_held_until_somebody_says_something() {
        let waiting = WaitingPods::default();
        let [first, second, third] = ["1", "2", "3"].map(|uid| waiting.hold(uid, "Gang", LONG));
        // Both come before anybody waits.
        assert!(waiting.allow("1") && waiting.reject("2", Rejection::unschedulable("preempted")));
        assert!(!waiting.allow("1") && !waiting.allow("4"));
        assert_eq!(first.released(&waiting, "1").await, Ok(()));
        assert_eq!(second.released(&waiting, "2").await, Err(("Gang", Rejection::unschedulable("preempted"))));
        let (plugin, no) = third.released(&waiting, "3").await.unwrap_err();
        assert_eq!((plugin, &*no.reasons[0]), ("Gang", "not permitted within 60s"));
        assert!(!waiting.allow("3"), "a pod whose time is over is not held");
    }
}
