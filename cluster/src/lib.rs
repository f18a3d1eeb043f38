//! Wires the components into one process: keys and certificates, bootstrap objects, `coracle up`, and
//! [`TestCluster`] for tests.
//!
//! Invariant: no domain logic.
#![forbid(unsafe_code)]

pub mod pki;
