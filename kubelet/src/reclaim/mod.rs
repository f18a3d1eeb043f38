//! Takes the node's disk back: what nobody needs is removed, and pods are evicted that exceed their limits, or when the node
//! runs short (upstream: pkg/kubelet/images, pkg/kubelet/eviction and the clean-up of pkg/kubelet).

mod collector;
mod pressure;
mod storage;

pub(crate) use collector::Collector;
pub(crate) use pressure::Pressure;
pub(crate) use storage::Monitor;
