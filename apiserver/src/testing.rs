//! A server on an in-memory store, for tests of clients and controllers.
//!
//! ```ignore
//! let server = TestServer::start().await;
//! let client = kube::Client::new(server.service(), "default");
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use daemon::Process;
use http::{Request, StatusCode};
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
use store::Store;
use store::embedded::EmbeddedStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

pub use crate::authn::SigningKey;
use crate::authz::MASTERS;
use crate::config::Config;
use crate::http::InProcess;
use crate::server::ApiServer;

/// A running server; dropping it stops it.
pub struct TestServer {
    server: ApiServer,
    process: Process,
    admin: Bytes,
    store: Arc<dyn Store>,
    tasks: JoinSet<()>,
}

impl TestServer {
    /// Starts a server with the default configuration and waits until it is ready.
    pub async fn start() -> Self {
        Self::with(Config::default(), Arc::new(EmbeddedStore::in_memory())).await
    }

    /// Starts a server with a configuration and store of one's own.
    pub async fn with(config: Config, store: Arc<dyn Store>) -> Self {
        daemon::install_crypto_provider();
        let process = daemon::detached();
        let server = ApiServer::new(config, store.clone(), process.clone()).expect("the test configuration is valid");
        let mut tasks = JoinSet::new();
        let running = server.clone();
        tasks.spawn(async move { running.run().await.expect("the test server runs until it is stopped") });
        server.ready().await;
        let test = Self { server, process, admin: certificate("test-admin", &[MASTERS]), store, tasks };
        test.furnish().await;
        test
    }

    /// Makes the account that pods of the default namespace run as, which in a cluster a controller makes.
    async fn furnish(&self) {
        let account = r#"{"metadata": {"name": "default"}}"#;
        let request = Request::post("/api/v1/namespaces/default/serviceaccounts")
            .body(Body::from(account))
            .expect("a valid request");
        let Ok(answer) = self.service().oneshot(request).await;
        assert!(matches!(answer.status(), StatusCode::CREATED | StatusCode::CONFLICT), "{}", answer.status());
        self.server.registry().freshen().await.expect("the store of a test answers");
    }

    /// The transport of an administrator (`system:masters`), for `kube::Client::new`.
    pub fn service(&self) -> InProcess {
        self.server.in_process(Some(self.admin.clone()))
    }

    /// The transport of another user.
    pub fn service_as(&self, user: &str, groups: &[&str]) -> InProcess {
        self.server.in_process(Some(certificate(user, groups)))
    }

    /// The transport of somebody without credentials.
    pub fn anonymous(&self) -> InProcess {
        self.server.in_process(None)
    }

    /// The server.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// The store below it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Serves TLS on a free port of the loopback interface as well. Needs certificate paths in the configuration, or a
    /// certificate directory that can be written.
    pub async fn listen(&mut self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = self.server.clone();
        self.tasks.spawn(async move { server.serve(listener).await.expect("the test server can serve TLS") });
        address
    }

    /// Stops the server and waits until it has drained.
    pub async fn stop(mut self) {
        self.process.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.process.shutdown.cancel();
    }
}

/// A request for a client certificate, in PEM.
pub fn certificate_request(user: &str, groups: &[&str]) -> String {
    let pair = KeyPair::generate().expect("a key can be generated");
    let request = subject(user, groups).serialize_request(&pair).expect("the request is well formed");
    request.pem().expect("DER can be written in PEM")
}

/// A client certificate in DER. The in-memory transport shows it as verified, as the TLS layer would have.
pub fn certificate(user: &str, groups: &[&str]) -> Bytes {
    let pair = KeyPair::generate().expect("a key can be generated");
    let signed = subject(user, groups).self_signed(&pair).expect("the certificate is well formed");
    Bytes::copy_from_slice(signed.der())
}

fn subject(user: &str, groups: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    // One value per attribute type is all that the builder keeps, so a test user has at most one group.
    if let Some(group) = groups.first() {
        params.distinguished_name.push(DnType::OrganizationName, DnValue::Utf8String((*group).to_owned()));
    }
    params
}
