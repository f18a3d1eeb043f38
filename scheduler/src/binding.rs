//! The binding cycle: from a decision to a bound pod, in a task of its own (upstream: `bindingCycle`).

use std::sync::Arc;
use std::time::Duration;

use crate::framework::{Broken, Permit, PodInfo, Profile, Rejection, Snapshot};
use crate::waiting::{Held, WaitingPods};

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

/// Asks Permit plugins: who holds the pod and how long, if anybody does. `snapshot` is the one that the node was chosen on.
pub(crate) fn permit(
    profile: &Profile,
    pod: &PodInfo,
    node: &str,
    snapshot: &Snapshot,
) -> Result<Option<(&'static str, Duration)>, Failure> {
    let mut hold: Option<(&'static str, Duration)> = None;
    for plugin in &profile.permit {
        match plugin.permit(pod, node, snapshot) {
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
    hold: Option<Held>,
    waiting: &WaitingPods,
) -> Result<(), Failure> {
    if let Some(held) = hold {
        held.released(waiting, &pod.uid).await.map_err(|(plugin, no)| Failure::Rejected(plugin, no))?;
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
