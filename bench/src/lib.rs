//! The load run: drives any Kubernetes API server by its kubeconfig and prints one table beside the budgets.
//!
//! Client and server usually share a machine, so the client must be cheap: [`client`] is hyper without layers, bodies
//! are made before the clock starts or are small, and answers are counted, not parsed, unless the measure needs them.
//! Everything is bounded in count and in time, and what a run makes in the cluster it removes, also after a failure.
#![forbid(unsafe_code)]

pub mod budget;
pub mod client;
pub mod cluster;
pub mod cold_start;
pub mod definitions;
pub mod drive;
pub mod error;
pub mod idle;
pub mod kernel;
pub mod measures;
pub mod objects;
pub mod options;
pub mod run;
pub mod statistics;
pub mod table;
pub mod target;
pub mod watch;

pub use error::Error;
pub use options::Options;
