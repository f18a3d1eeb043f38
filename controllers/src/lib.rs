//! The controllers: each brings one kind of object from what is to what should be.
//!
//! Every controller is `observe -> plan (pure) -> execute`, driven by keys from shared informers. It reads from caches
//! only, counts real children by owner uid, and remembers its own unfinished writes as expectations. An idle cluster costs
//! nothing: there are no resyncs.
#![forbid(unsafe_code)]

mod admission_policy_status;
mod aggregation;
mod all;
mod attach_detach;
mod autoscaler;
mod bootstrap;
mod certificates;
mod claim;
mod command;
mod config;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod descriptor;
mod discovery;
mod disruption;
mod endpoints;
mod follower;
mod garbage;
mod hash;
mod history;
mod in_use_protection;
mod job;
mod load_balancer;
mod meta;
mod namespace;
mod node;
mod notices;
mod owners;
mod per_namespace;
mod podcontrol;
mod podgc;
mod quota;
mod replicaset;
mod run;
mod selectors;
mod service_account_token;
mod service_cidr;
mod statefulset;
mod ttl_after_finished;
mod volumes;

pub use command::Command;
pub use config::{Args, Autoscaling, Config, Enforced, Mirroring, Ranges, Signing, Tuning};
pub use load_balancer::pool::{AddressRange, NotARange};
pub use run::run;

/// Why the controllers could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--controllers` names one that does not exist.
    #[error("--controllers: there is no controller {0:?} (known: {known})", known = all::names())]
    UnknownController(String),
    /// `--cluster-cidr` cannot be cut into node ranges.
    #[error("--cluster-cidr {range:?}: {why}")]
    InvalidRange {
        /// The range that was given.
        range: String,
        /// What is wrong with it.
        why: String,
    },
    /// The CA of `--cluster-signing-cert-file` and `--cluster-signing-key-file` cannot be used.
    #[error("cluster signing CA")]
    Signing(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another process may lead now.
    #[error("leader election")]
    LeaderElection(#[from] client::leader::Lost),
    /// A cache stopped following the API server.
    #[error("informers")]
    Informers(#[from] client::InformerStopped),
    /// One of the controllers failed; all stop.
    #[error("a controller stopped")]
    Stopped(#[source] Box<dyn std::error::Error + Send + Sync>),
}
