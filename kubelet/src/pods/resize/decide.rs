//! Whether the node can promise a pod the sizes that its spec asks for. Pure (upstream: canResizePod of
//! pkg/kubelet/allocation).
use std::cmp::Ordering;

use facts::pods::demand::Demand;
use facts::pods::{self, QosClass};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Pending, Reason, Sizes};
use crate::admission::{Needs, allocatable};
use crate::{pod, resources};

/// What can be resized.
const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// Refuses sizes that do not fit beside `others`, which have the sizes that are allocated to them.
pub(crate) fn decide(pod: &Pod, others: &[Pod], node: &Node) -> Result<(), Pending> {
    let refuse = |reason, message| Err(Pending { reason, message });
    if pod::is_static(pod) {
        return refuse(Reason::Infeasible, "In-place resize of static-pods is not supported".to_owned());
    }
    let (needs, allocatable) = (Needs::of(pod, others), allocatable(node));
    for resource in RESOURCES {
        let room = needs.room(&allocatable, resource);
        if room.wanted > room.capacity {
            let (wanted, capacity) = (room.wanted, room.capacity);
            let message =
                format!("Node didn't have enough capacity: {resource}, requested: {wanted}, capacity: {capacity}");
            return refuse(Reason::Infeasible, message);
        }
    }
    match RESOURCES.into_iter().find_map(|resource| needs.room(&allocatable, resource).shortage()) {
        Some(message) => refuse(Reason::Deferred, message),
        None => Ok(()),
    }
}

/// Which of two pods that ask for other sizes than they have goes first: one that needs no more than before, then by
/// priority, then a guaranteed one, then the one that has waited longer.
pub(crate) fn order(left: (&Pod, &Sizes), right: (&Pod, &Sizes)) -> Ordering {
    let priority = |pod: &Pod| pod::spec(pod).priority.unwrap_or_default();
    let is_lesser = |pod: &Pod| resources::qos_class(pod) != QosClass::Guaranteed;
    let key = |(pod, sizes): (&Pod, &Sizes)| (grows(pod, sizes), -i64::from(priority(pod)), is_lesser(pod));
    key(left).cmp(&key(right)).then_with(|| waiting_since(left.0).cmp(&waiting_since(right.0)))
}

/// Whether the spec requests more than is allocated.
fn grows(pod: &Pod, allocated: &Sizes) -> bool {
    let before = allocated.apply(&std::sync::Arc::new(pod.clone()));
    let (wanted, had) = (Demand::of(pod).requests(), Demand::of(&before).requests());
    RESOURCES.iter().any(|resource| wanted.get(resource).copied() > had.get(resource).copied())
}

/// When the pod's resize began to wait; one that does not wait yet comes last.
fn waiting_since(pod: &Pod) -> (bool, Option<jiff::Timestamp>) {
    let pending = pods::condition(pod, "PodResizePending");
    let since = pending.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    (since.is_none(), since)
}
