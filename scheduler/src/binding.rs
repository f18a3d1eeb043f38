//! The binding cycle: from a decision to a bound pod, in a task of its own (upstream: `bindingCycle`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::framework::{Broken, Permit, PodInfo, Profile, Rejection};

/// Pods that a Permit plugin holds.
#[derive(Debug, Default)]
pub(crate) struct WaitingPods {
    pods: Mutex<HashMap<String, oneshot::Sender<Result<(), Rejection>>>>,
}

impl WaitingPods {
    /// Ends the wait of a pod; false when it does not wait.
    pub(crate) fn reject(&self, uid: &str, no: Rejection) -> bool {
        let waiting = self.lock().remove(uid);
        // The task may have timed out just now: then there is nobody to tell.
        waiting.is_some_and(|waiting| waiting.send(Err(no)).is_ok())
    }

    fn hold(&self, uid: &str) -> oneshot::Receiver<Result<(), Rejection>> {
        let (release, held) = oneshot::channel();
        self.lock().insert(uid.to_owned(), release);
        held
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Result<(), Rejection>>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a binding cycle failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A plugin said no.
    Rejected(&'static str, Rejection),
    /// The API or a plugin broke.
    Broken(Broken),
}

/// Asks Reserve plugins; takes back all reservations when one refuses.
pub(crate) fn reserve(profile: &Profile, pod: &PodInfo, node: &str) -> Result<(), Failure> {
    for plugin in &profile.reserve {
        if let Err(no) = plugin.reserve(pod, node) {
            unreserve(profile, pod, node);
            return Err(Failure::Rejected(plugin.name(), no));
        }
    }
    Ok(())
}

/// Takes back reservations, the last first.
pub(crate) fn unreserve(profile: &Profile, pod: &PodInfo, node: &str) {
    for plugin in profile.reserve.iter().rev() {
        plugin.unreserve(pod, node);
    }
}

/// Asks Permit plugins: how long the pod must be held, if at all.
pub(crate) fn permit(
    profile: &Profile,
    pod: &PodInfo,
    node: &str,
) -> Result<Option<(&'static str, Duration)>, Failure> {
    let mut hold: Option<(&'static str, Duration)> = None;
    for plugin in &profile.permit {
        match plugin.permit(pod, node) {
            Permit::Allow => {}
            Permit::Wait(at_most) => {
                if hold.is_none_or(|(_, before)| at_most < before) {
                    hold = Some((plugin.name(), at_most));
                }
            }
            Permit::Reject(no) => return Err(Failure::Rejected(plugin.name(), no)),
        }
    }
    Ok(hold)
}

/// Waits for Permit, then runs PreBind, Bind and PostBind.
pub(crate) async fn bind(
    profile: &Profile,
    pod: &Arc<PodInfo>,
    node: &str,
    hold: Option<(&'static str, Duration)>,
    waiting: &WaitingPods,
) -> Result<(), Failure> {
    if let Some((plugin, at_most)) = hold {
        match tokio::time::timeout(at_most, waiting.hold(&pod.uid)).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(no))) => return Err(Failure::Rejected(plugin, no)),
            Ok(Err(_)) | Err(_) => {
                waiting.lock().remove(&pod.uid);
                return Err(Failure::Rejected(
                    plugin,
                    Rejection::unschedulable(format!("not permitted within {at_most:?}")),
                ));
            }
        }
    }
    for plugin in &profile.pre_bind {
        plugin.pre_bind(pod, node).await.map_err(Failure::Broken)?;
    }
    for plugin in &profile.bind {
        if plugin.bind(pod, node).await.map_err(Failure::Broken)? {
            for plugin in &profile.post_bind {
                plugin.post_bind(pod, node);
            }
            return Ok(());
        }
    }
    Err(Failure::Broken(Broken { plugin: "Bind", reason: "no plugin binds this pod".to_owned() }))
}
