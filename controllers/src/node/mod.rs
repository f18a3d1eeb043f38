//! What concerns nodes: their health and taints, the eviction of pods that do not tolerate these, and pod ranges.

pub(crate) mod eviction;
pub(crate) mod health;
pub(crate) mod ipam;
pub(crate) mod ttl;
