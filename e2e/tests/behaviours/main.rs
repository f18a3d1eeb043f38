//! What the conformance suite asks of nodes, volumes and workloads, on real containers: many short stories on one cluster.
//! The line `Conformance:` in a comment is the codename of what a story checks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;
mod storage;
mod workloads;

use e2e::{Cluster, can_run, play};

#[test]
fn pods_and_volumes_behave() {
    if can_run() {
        play(&Cluster::up(), &[node::CASES, storage::CASES, workloads::CASES].concat());
    }
}
