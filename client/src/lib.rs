//! What every component needs to talk to the API server: the connection, shared informers with indexes, work
//! queues with their workers, expectations, events, leader election.
//!
//! Invariant: this crate knows no component. Components are plain API clients; nothing here bypasses the API.
//!
//! ```text
//!  API server --watch--> Informer (cache + indexes) --handler--> WorkQueue (keys) --run_workers--> reconcile
//!       ^                                                                                            |
//!       +-----------------------------------------writes---------------------------------------------+
//! ```
#![forbid(unsafe_code)]

pub mod clock;
pub mod delegated;
pub mod events;
pub mod leader;
pub mod write;

mod connect;
mod expectations;
mod informer;
mod key;
mod meters;
mod queue;
mod served;
mod workers;

#[cfg(test)]
mod fake;

pub use connect::{Error, Server, authorities, connect, connect_as};
pub use events::Recorder;
pub use expectations::Expectations;
pub use informer::{Event, Informer, InformerStopped, Informers, Selection, Watchable};
pub use key::ObjectKey;
pub use leader::LeaderElection;
pub use meters::QueueMeters;
pub use queue::{Taken, WorkQueue};
pub use served::is_served;
pub use workers::run_workers;
