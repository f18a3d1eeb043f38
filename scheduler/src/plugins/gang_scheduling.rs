//! Pods of a gang get their places together or not at all (upstream's `GangScheduling`; KEP-4671).
//!
//! On here, though a feature gate turns it off upstream: it does nothing to a pod that does not ask for it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;

use crate::framework::{
    ClusterEvent, Gang, Permit, PermitPlugin, Plugin, PodInfo, PreEnqueue, Rejection, Reserve, Snapshot,
};
use crate::gangs::{Gangs, Membership};
use crate::profile::PluginSpec;
use crate::waiting::WaitingPods;

pub(crate) const PLUGIN: PluginSpec = PluginSpec::new("GangScheduling", |slot| {
    let plugin = GangScheduling { gangs: Arc::clone(&slot.handles.gangs), waiting: Arc::clone(&slot.handles.waiting) };
    slot.ignore_arguments();
    slot.place(plugin).pre_enqueue().gang().end()
});

/// How long a pod is held for others. They are tried at once, so this ends only a wait that something went wrong with.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// `spec.schedulingGroup`, and the labels of the coscheduling plugin.
pub(crate) struct GangScheduling {
    gangs: Arc<Gangs>,
    waiting: Arc<WaitingPods>,
}

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    /// Another pod of the gang may be what is missing. That one of them fits now is known to those who refused it: it is
    /// tried again and brings the others.
    fn may_help(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::PodGroupChanged(key) => {
                Membership::of(&pod.pod).is_some_and(|own| own.key.is_object && own.key.group == *key)
            }
            ClusterEvent::AssignedPodAdded(other) => is_same_gang(&pod.pod, other),
            _ => false,
        }
    }
}

fn is_same_gang(pod: &Pod, other: &Pod) -> bool {
    let key = |pod: &Pod| Membership::of(pod).map(|member| member.key);
    key(pod).is_some_and(|own| key(other) == Some(own))
}

impl PreEnqueue for GangScheduling {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        self.gangs.waits_for(&pod.pod).map_or(Ok(()), |why| Err(Rejection::unresolvable(why)))
    }
}

impl Gang for GangScheduling {
    fn mates(&self, pod: &PodInfo) -> Option<Vec<String>> {
        self.gangs.mates(&pod.uid)
    }

    fn missing(&self, pod: &PodInfo, more: usize) -> Option<String> {
        self.gangs.missing(&pod.uid, more)
    }

    fn pod_group(&self, pod: &PodInfo) -> Option<Arc<PodGroup>> {
        self.gangs.group(&pod.uid)
    }
}

impl Reserve for GangScheduling {
    fn reserve(&self, _pod: &PodInfo, _node: &str) -> Result<(), Rejection> {
        Ok(())
    }

    fn unreserve(&self, pod: &PodInfo, _node: &str) {
        self.gangs.release(&pod.uid);
    }
}

impl PermitPlugin for GangScheduling {
    fn permit(&self, pod: &PodInfo, _node: &str, _snapshot: &Snapshot) -> Permit {
        match self.gangs.reserve(&pod.uid) {
            Err(_missing) => Permit::Wait(PATIENCE),
            Ok(complete) => {
                for mate in complete.iter().filter(|mate| **mate != pod.uid) {
                    self.waiting.allow(mate);
                }
                Permit::Allow
            }
        }
    }
}
