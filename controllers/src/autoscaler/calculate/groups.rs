//! Which pods count how (upstream: `groupPods`).

use facts::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::{Patience, Sample, Samples, Scene, Values};
use crate::meta;

/// The pods of a target, by what is known of them.
pub(super) struct Groups<'s> {
    /// What is known of those that count, and of pods that are none of the target's.
    pub(super) values: Values<'s>,
    /// How many of the target's count.
    pub(super) ready: usize,
    /// Those that still start.
    pub(super) unready: Vec<&'s str>,
    /// Those without a sample.
    pub(super) missing: Vec<&'s str>,
}

pub(super) fn of<'s>(scene: &'s Scene<'_>, samples: &'s Samples, resource: &str) -> Groups<'s> {
    let values = samples.iter().map(|(pod, sample)| (pod.as_str(), sample.value)).collect();
    let mut groups = Groups { values, ready: 0, unready: Vec::new(), missing: Vec::new() };
    for pod in scene.pods {
        let name = meta::name(&pod.metadata);
        let sample = samples.get(name);
        if !pods::is_active(pod) {
            groups.values.remove(name);
        } else if pods::phase(pod) == "Pending" {
            groups.values.remove(name);
            groups.unready.push(name);
        } else if let Some(sample) = sample {
            if resource == "cpu" && starts(pod, sample, &scene.patience, scene.now) {
                groups.values.remove(name);
                groups.unready.push(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.push(name);
        }
    }
    groups
}

/// Whether the processors that a pod uses say little, since it starts: at first while it is not ready and until a whole sample
/// was taken after that; later only if it has never been ready.
fn starts(pod: &Pod, sample: &Sample, patience: &Patience, now: Timestamp) -> bool {
    let since = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(since)) = (pods::condition(pod, "Ready"), since) else { return true };
    let is_unready = ready.status == "False";
    let turned = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    if after(since.0, patience.cpu_initialization) > now {
        return is_unready || sample.at < turned.saturating_add(sample.window).unwrap_or(Timestamp::MAX);
    }
    is_unready && after(since.0, patience.initial_readiness) > turned
}

fn after(time: Timestamp, wait: std::time::Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    time.saturating_add(wait).unwrap_or(Timestamp::MAX)
}
