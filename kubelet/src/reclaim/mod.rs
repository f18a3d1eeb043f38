//! Takes the node's disk back: what nobody needs is removed, and pods that exceed their limits are evicted (upstream:
//! pkg/kubelet/images, pkg/kubelet/eviction and the clean-up of pkg/kubelet).

mod collector;
mod storage;

pub(crate) use collector::Collector;
pub(crate) use storage::Monitor;
