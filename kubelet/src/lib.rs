//! The node agent: pod workers, probes, volumes, status, node lease and the streaming server.
//!
//! Invariant: it may be killed and started again at any moment; running containers do not notice.
#![forbid(unsafe_code)]

pub mod actions;
pub mod admission;
pub mod backoff;
pub mod context;
pub mod env;
pub mod expand;
pub mod failure;
pub mod fields;
pub mod hooks;
pub mod http_action;
pub mod images;
pub mod launch;
pub mod names;
pub mod objects;
pub mod pod;
pub mod pods;
pub mod probes;
pub mod resources;
pub mod security;
pub mod seen;
pub mod status;
pub mod volumes;
pub mod worker;
