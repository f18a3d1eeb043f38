//! The scheduler: finds a node for each pod that has none.
//!
//! Invariant: a plugin sees one pod and a frozen snapshot; it has no client and no clock.
//!
//! ```text
//! queue -> decide (on a snapshot: PreFilter, Filter, PostFilter | PreScore, Score) -> assume -> Reserve -> Permit
//!       -> a task of its own: wait for Permit, PreBind, Bind, PostBind      failure: Unreserve, forget, queue again
//! ```
#![forbid(unsafe_code)]

pub mod config;
pub mod explain;
pub mod framework;

mod banker;
mod binding;
mod cache;
mod command;
mod cycle;
mod driver;
mod gangs;
mod plugins;
mod preempt;
mod profile;
mod queue;
mod report;
mod volumes;
mod waiting;

pub use command::Command;
pub use config::{Args, Config};
pub use driver::{Error, run};
pub use gangs::Gangs;
pub use profile::Handles;
pub use volumes::Volumes;
pub use waiting::WaitingPods;

/// What the benchmarks drive without an API server.
pub mod bench {
    pub use crate::banker::refusal;
    pub use crate::cache::Cache;
    pub use crate::cycle::{Decision, Diagnosis, Scheduler};
}
