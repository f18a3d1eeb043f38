//! The behaviours of Kubernetes' conformance suite that need nothing but the API server, one test each or a few. The
//! line `Conformance:` in a test's comment is the codename of what it checks.

mod chunking;
mod citations;
mod custom;
mod discovery;
mod field_validation;
mod namespaces;
mod operations;
mod quota;
mod tables;
mod watchers;

use apiserver::testing::TestServer;

use crate::client::Client;

async fn start() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    (server, client)
}
