//! The API server seen from outside, through its in-memory transport.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod aggregation;
mod applying;
mod audit;
mod audit_webhook;
mod bad_input;
#[path = "../../../fuzz/src/changes.rs"]
mod changes;
mod client;
mod conflicts;
mod conformance;
mod contract;
mod custom;
mod deeds;
mod differences;
mod doors;
mod encryption;
mod etcd_members;
mod flags;
mod fuzzing;
mod hook_server;
mod hostile;
mod issuer_server;
mod issuers;
mod kms_plugin;
mod kubelets;
mod measures;
mod model;
mod openapi;
mod paging;
mod paths;
mod pod_groups;
mod policies;
#[path = "../process/mod.rs"]
mod process;
mod protobuf;
mod quotas;
mod races;
mod replicas;
mod resizes;
mod reviewers;
mod samples;
mod services;
mod settled;
#[path = "../../../fuzz/src/slow_clients.rs"]
mod slow_clients;
mod store_health;
mod usage;
mod watch;
mod webhook_conditions;
mod webhook_custom;
mod webhook_matching;
mod webhooks;
mod wording;

daemon::allocator!();
