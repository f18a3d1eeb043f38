//! Decides what brings a StatefulSet nearer to its pods, and what its status says.
//!
//! ```text
//!  ordered:   0 -> 1 -> 2 ...      one step at a time; each waits until the one before is available
//!  parallel:  all at once
//!  then:      what is beyond the range goes, the highest first
//!  then:      what is of another revision goes, the highest first, down to the partition
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::identity;
use crate::meta;
use facts::int_or_percent::portion;
use facts::pods;

/// What the controller knows of a StatefulSet.
pub(super) struct Seen<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: BTreeMap<i32, Arc<Pod>>,
    /// The names of the revisions that pods are of, and that they shall be of.
    pub(super) current: &'a str,
    pub(super) update: &'a str,
    pub(super) now: Timestamp,
}

/// Something to do with one pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Make the pod of this ordinal, from the current revision or the update.
    Create {
        ordinal: i32,
        from_current: bool,
    },
    /// Make the claims that a pod waits for.
    Claim {
        ordinal: i32,
    },
    /// Put labels and the owners of claims right.
    Correct(i32, Arc<Pod>),
    Delete(Arc<Pod>),
}

impl Seen<'_> {
    fn is_ordered(&self) -> bool {
        self.set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel")
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_running(pod) && pods::is_available(pod, self.min_ready(), self.now)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_available(pod) && !pods::is_terminating(pod)
    }

    /// Pods beyond the range, the highest first.
    fn condemned(&self) -> Vec<(i32, &Arc<Pod>)> {
        let range = identity::ordinals(self.set);
        let all = self.pods.iter().rev().map(|(ordinal, pod)| (*ordinal, pod));
        all.filter(|(ordinal, _)| !range.contains(ordinal)).collect()
    }

    /// How to roll out; `None` if pods change only when somebody deletes them.
    fn rolling(&self) -> Option<RollingUpdateStatefulSetStrategy> {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.clone()).unwrap_or_default();
        (strategy.type_.as_deref() != Some("OnDelete")).then(|| strategy.rolling_update.unwrap_or_default())
    }

    /// The first ordinal that is updated.
    fn partition(&self) -> i32 {
        let partition = self.rolling().and_then(|rolling| rolling.partition).unwrap_or(0);
        identity::start(self.set).saturating_add(partition)
    }

    /// A pod that is missing below the partition comes back as it was.
    fn is_made_from_current(&self, ordinal: i32) -> bool {
        self.rolling().is_some() && ordinal < self.partition()
    }
}

fn is_running(pod: &Pod) -> bool {
    pods::phase(pod) == "Running"
}

/// The steps to take now, in order.
pub(super) fn plan(seen: &Seen<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if !replicas(seen, &mut steps) && !condemned(seen, &mut steps) {
        update(seen, &mut steps);
    }
    steps
}

/// Sees to the pods that shall be; whether nothing else may happen before that is done.
fn replicas(seen: &Seen<'_>, steps: &mut Vec<Step>) -> bool {
    for ordinal in identity::ordinals(seen.set) {
        let is_waited_for = match seen.pods.get(&ordinal) {
            None => {
                steps.push(Step::Create { ordinal, from_current: seen.is_made_from_current(ordinal) });
                true
            }
            Some(pod) if pods::is_terminal(pod) => {
                if !pods::is_terminating(pod) {
                    steps.push(Step::Delete(Arc::clone(pod)));
                }
                true
            }
            Some(pod) => {
                if pods::phase(pod) == "Pending" {
                    steps.push(Step::Claim { ordinal });
                }
                let is_waited_for = seen.is_ordered() && !seen.is_healthy(pod);
                if !is_waited_for {
                    steps.push(Step::Correct(ordinal, Arc::clone(pod)));
                }
                is_waited_for
            }
        };
        if is_waited_for && seen.is_ordered() {
            return true;
        }
    }
    false
}

/// Deletes what is beyond the range; whether that has to be waited for.
fn condemned(seen: &Seen<'_>, steps: &mut Vec<Step>) -> bool {
    let condemned = seen.condemned();
    steps.extend(condemned.iter().map(|(ordinal, pod)| Step::Correct(*ordinal, Arc::clone(pod))));
    let first_unhealthy = condemned.iter().rev().find(|(_, pod)| !seen.is_healthy(pod)).map(|(ordinal, _)| *ordinal);
    for (ordinal, pod) in condemned {
        let is_blocked = pods::is_terminating(pod) || (!seen.is_available(pod) && first_unhealthy != Some(ordinal));
        if seen.is_ordered() {
            if !is_blocked {
                steps.push(Step::Delete(Arc::clone(pod)));
            }
            return true;
        }
        if !pods::is_terminating(pod) {
            steps.push(Step::Delete(Arc::clone(pod)));
        }
    }
    false
}

/// Deletes pods of another revision, as many as may be missing; their successors come by themselves.
fn update(seen: &Seen<'_>, steps: &mut Vec<Step>) {
    let Some(rolling) = seen.rolling() else { return };
    let replicas = identity::ordinals(seen.set);
    let total = i32::try_from(replicas.len()).unwrap_or(i32::MAX);
    let most = rolling.max_unavailable.as_ref().map_or(1, |most| portion(most, total, false)).max(1);
    let is_missing = |ordinal: &i32| seen.pods.get(ordinal).is_none_or(|pod| !seen.is_healthy(pod));
    let missing = i32::try_from(replicas.clone().filter(is_missing).count()).unwrap_or(i32::MAX);
    let mut left = most.saturating_sub(missing);
    for ordinal in replicas.rev().take_while(|ordinal| *ordinal >= seen.partition()) {
        let Some(pod) = seen.pods.get(&ordinal).filter(|pod| identity::revision(pod) != seen.update) else { continue };
        if pods::is_terminating(pod) || pods::is_terminal(pod) {
            continue;
        }
        // One that is missing already costs nothing.
        if seen.is_healthy(pod) {
            if left <= 0 {
                return;
            }
            left -= 1;
        }
        steps.push(Step::Delete(Arc::clone(pod)));
    }
}

/// The status that the pods give the set.
pub(super) fn status(seen: &Seen<'_>, collisions: Option<i32>) -> StatefulSetStatus {
    let count =
        |is: &dyn Fn(&Pod) -> bool| i32::try_from(seen.pods.values().filter(|pod| is(pod)).count()).unwrap_or(i32::MAX);
    let of = |revision: &str| count(&|pod| !pods::is_terminating(pod) && identity::revision(pod) == revision);
    let (replicas, ready) = (count(&|_| true), count(&|pod| is_running(pod) && pods::is_ready(pod)));
    let (mut current, updated) = (of(seen.current), of(seen.update));
    let mut current_revision = seen.current;
    let wanted = i32::try_from(identity::ordinals(seen.set).len()).unwrap_or(i32::MAX);
    // The rollout is over: what was the update is what there is.
    if seen.rolling().is_some() && [updated, ready, replicas].iter().all(|number| *number == wanted) {
        (current, current_revision) = (updated, seen.update);
    }
    let some = |number: i32| (number != 0).then_some(number);
    StatefulSetStatus {
        available_replicas: Some(count(&|pod| seen.is_available(pod))),
        collision_count: Some(collisions.unwrap_or(0)),
        conditions: seen.set.status.as_ref().and_then(|status| status.conditions.clone()),
        current_replicas: some(current),
        current_revision: Some(current_revision.to_owned()),
        observed_generation: seen.set.metadata.generation,
        ready_replicas: some(ready),
        replicas,
        update_revision: Some(seen.update.to_owned()),
        updated_replicas: some(updated),
    }
}

/// The time until the next ready pod becomes available.
pub(super) fn next_available(seen: &Seen<'_>) -> Option<Duration> {
    let waits = seen.pods.values().filter_map(|pod| pods::available_in(pod, seen.min_ready(), seen.now));
    waits.filter(|left| !left.is_zero()).min()
}

/// The pods by their ordinals; what has no name of the set is none of them.
pub(super) fn by_ordinal(set: &StatefulSet, children: Vec<Arc<Pod>>) -> BTreeMap<i32, Arc<Pod>> {
    let by_ordinal = children.into_iter().filter_map(|pod| Some((identity::ordinal(set, &pod)?, pod)));
    by_ordinal.filter(|(_, pod)| !meta::uid(&pod.metadata).is_empty()).collect()
}
