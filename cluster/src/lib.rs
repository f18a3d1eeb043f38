//! Wires the components into one process: keys and certificates, bootstrap objects, `coracle up`, and
//! [`TestCluster`] for tests.
//!
//! Invariant: no domain logic.
#![forbid(unsafe_code)]

mod addons;
mod authority;
mod certificates;
mod control;
mod drain;
mod fleet;
mod invitation;
mod invoker;
mod join;
mod keys;
mod kubeconfig;
mod link;
mod name_servers;
mod named;
mod node;
mod options;
mod removal;
mod routes;
mod testing;
mod up;

pub mod pki;

pub use certificates::Certificates;
pub use control::{ImageRequest, images};
pub use drain::{Left, NodePods};
pub use invitation::{Invitation, create_token};
pub use invoker::Invoker;
pub use join::{JoinOptions, LeaveOptions, join, leave};
pub use named::{ClusterName, Listed, RECORDS, State, data_dir_of, list, stop};
pub use node::NodeOptions;
pub use options::Options;
pub use removal::delete;
pub use testing::{NODE, TestCluster};
pub use up::up;
