//! The node agent: pod workers, probes, volumes, status, node lease and the streaming server.
//!
//! Invariant: it may be killed and started again at any moment; running containers do not notice.
#![forbid(unsafe_code)]

pub mod actions;
pub mod expand;
pub mod pod;
pub mod resources;
pub mod seen;
pub mod status;
