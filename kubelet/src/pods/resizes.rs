//! The manager's part in resizes: which pod is promised which sizes (upstream: the manager of pkg/kubelet/allocation).
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Entry, Manager, Pods};
use crate::pod;
use crate::pods::resize::decide::{decide, order};
use crate::pods::resize::{Allocation, Pending, Reason, Sizes, message};

/// A pod whose sizes are to be looked at.
struct Asking {
    uid: String,
    pod: Arc<Pod>,
    allocation: Arc<Allocation>,
}

impl Manager {
    /// The sizes of a pod that is seen for the first time: what it was promised before this kubelet, or what it asks for.
    pub(super) fn first_allocation(&self, pod: &Pod) -> Allocation {
        let ran_before = pod::status(pod).start_time.is_some();
        let sizes = if ran_before { self.earlier_sizes(pod) } else { Sizes::of(pod) };
        let generation = pod.metadata.generation;
        let judged = if sizes == Sizes::of(pod) { generation } else { None };
        Allocation { sizes, generation, judged, pending: None }
    }

    fn earlier_sizes(&self, pod: &Pod) -> Sizes {
        let kept = Sizes::read(&self.context.pod_dir(pod::uid(pod))).unwrap_or_else(|err| {
            tracing::warn!(pod = pod::describe(pod), error = &err as &dyn std::error::Error, "cannot read its sizes");
            None
        });
        kept.unwrap_or_else(|| Sizes::reported(pod))
    }

    /// Promises pods the sizes that they ask for, or says why not.
    pub(super) fn resize_pods(&self) {
        let mut asking = self.pods.asking();
        let Some(node) = self.context.node().filter(|_| !asking.is_empty()) else { return };
        asking.sort_by(|left, right| order((&left.pod, &left.allocation.sizes), (&right.pod, &right.allocation.sizes)));
        for one in asking {
            let wanted = Sizes::of(&one.pod);
            let verdict =
                if wanted == one.allocation.sizes { Ok(()) } else { decide(&one.pod, &self.others(&one.uid), &node) };
            let judged = one.pod.metadata.generation;
            let allocation = match verdict {
                Ok(()) => self.promise(&one, wanted),
                Err(pending) => {
                    self.tell_pending(&one, &pending);
                    Allocation { judged, pending: Some(pending), ..Allocation::clone(&one.allocation) }
                }
            };
            self.pods.allocate(&one.uid, allocation);
        }
    }

    /// What runs here beside one pod, with the sizes that are promised.
    pub(super) fn others(&self, uid: &str) -> Vec<Pod> {
        let running = self.pods.list().into_iter().filter(|known| !known.report.ended);
        running.map(|known| known.pod).filter(|pod| pod::uid(pod) != uid).collect()
    }

    fn promise(&self, one: &Asking, sizes: Sizes) -> Allocation {
        let generation = one.pod.metadata.generation;
        if sizes == one.allocation.sizes {
            return Allocation { judged: generation, pending: None, ..Allocation::clone(&one.allocation) };
        }
        self.context.event(&one.pod, "Normal", "ResizeStarted", message::started(&one.pod));
        Allocation { sizes, generation, judged: generation, pending: None }
    }

    fn tell_pending(&self, one: &Asking, pending: &Pending) {
        if one.allocation.pending.as_ref() == Some(pending) {
            return;
        }
        let event = match pending.reason {
            Reason::Deferred => "ResizeDeferred",
            Reason::Infeasible => "ResizeInfeasible",
        };
        let message = message::pending(&one.pod, pending.reason, &pending.message);
        self.context.event(&one.pod, "Warning", event, message);
    }
}

impl Pods {
    /// Pods that changed since their sizes were looked at, or wait for room.
    fn asking(&self) -> Vec<Asking> {
        self.entries().iter().filter_map(|(uid, entry)| asking(uid, entry)).collect()
    }

    fn allocate(&self, uid: &str, allocation: Allocation) {
        let entries = self.entries();
        let Some(entry) = entries.get(uid) else { return };
        entry.desired.send_if_modified(|desired| {
            let changed = *desired.allocation != allocation;
            if changed {
                desired.allocation = Arc::new(allocation);
            }
            changed
        });
    }
}

fn asking(uid: &str, entry: &Entry) -> Option<Asking> {
    let desired = entry.desired.borrow();
    let ends = desired.gone || desired.rejected.is_some() || pod::is_terminal(&desired.pod);
    let allocation = &desired.allocation;
    let is_new = allocation.judged != desired.pod.metadata.generation;
    let waits = allocation.pending.as_ref().is_some_and(|pending| pending.reason == Reason::Deferred);
    let asks = !ends && (is_new || waits) && !entry.report.borrow().ended;
    asks.then(|| Asking {
        uid: uid.to_owned(),
        pod: Arc::clone(&desired.pod),
        allocation: Arc::clone(&desired.allocation),
    })
}
