//! The behaviours of Kubernetes' conformance suite that need controllers or kubectl, in a cluster whose containers are
//! pretended. The line `Conformance:` in a test's comment is the codename of what it checks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod bad_input;
mod budgets;
mod cron_jobs;
mod daemons;
mod deployments;
mod explaining;
mod gangs;
mod garbage;
mod generations;
mod healing;
mod jobs;
mod kubectl;
mod mirroring;
mod namespaces;
mod network;
mod nodes;
mod predicates;
mod preemption;
mod quota;
mod replica_sets;
mod replication;
mod revisions;
mod stateful;
mod statuses;
