//! The behaviours of Kubernetes' conformance suite that need nothing but the API server, one test each or a few. The
//! line `Conformance:` in a test's comment is the codename of what it checks.

mod apps;
mod auth;
mod chunking;
mod citations;
mod custom;
mod discovery;
mod field_validation;
mod instrumentation;
mod namespaces;
mod network;
mod node;
mod operations;
mod quota;
mod scheduling;
mod storage;
mod tables;
mod watchers;

use std::sync::Arc;

use apiserver::testing::TestServer;
use apiserver::{Config, Limits};
use store::embedded::EmbeddedStore;

use crate::client::Client;

/// A server without priority and fairness, whose part that writes the status of FlowSchemas is not there.
async fn start_without_fairness() -> (TestServer, Client) {
    let config = Config { limits: Limits { fair: false, ..Limits::default() }, ..Config::default() };
    let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
    let client = Client::admin(&server);
    (server, client)
}

async fn start() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    (server, client)
}
