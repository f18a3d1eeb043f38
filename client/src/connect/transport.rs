//! The HTTP/2 transport below a client.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use daemon::LiveIdentity;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tower::retry::RetryLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use crate::leader::Gate;

/// TCP and TLS together may take this long.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a silent connection is believed in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Nothing has arrived for so long: a ping is sent.
    pub(super) silence: Duration,
    /// The ping is not answered for so long: the connection is dead.
    pub(super) answer: Duration,
}

impl Default for Patience {
    /// client-go's `ReadIdleTimeout` and `PingTimeout`.
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), answer: Duration::from_secs(15) }
    }
}

/// A client that shares one connection, and notices when that is dead. With an identity it shows that, and connects anew
/// once that has changed: what goes on over the old connection is left to end.
pub(super) fn client(
    config: kube::Config,
    patience: Patience,
    identity: Option<Arc<LiveIdentity>>,
) -> kube::Result<kube::Client> {
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        // Proxies are refused there, and certificates that a command prints are kept track of.
        return kube::Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Servers without HTTP/2 answer no pings: there the kernel's probes must do.
    tcp.set_keepalive(Some(patience.silence));
    tcp.set_keepalive_interval(Some(patience.answer / 3));
    tcp.set_keepalive_retries(Some(3));
    let mut trust = config.rustls_client_config()?;
    if let Some(identity) = &identity {
        trust.client_auth_cert_resolver = Arc::<LiveIdentity>::clone(identity);
        // A session that is resumed would go on with the certificate with which it began.
        trust.resumption = Resumption::disabled();
    }
    let mut tls = HttpsConnectorBuilder::new().with_tls_config(trust).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone()).map_err(kube::client::RustlsTlsError::InvalidServerName);
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name.map_err(kube::Error::RustlsTls)?));
    }
    let connector = tls.enable_all_versions().wrap_connector(tcp).map_future(in_time);
    let make = move || {
        legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(patience.silence)
            .http2_keep_alive_timeout(patience.answer)
            .http2_keep_alive_while_idle(true)
            .build::<_, Body>(connector.clone())
    };
    let http = Renewed::new(identity, make);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(Gate(http));
    Ok(kube::Client::new(service, config.default_namespace))
}

/// Connections, which are others after the identity has changed.
struct Renewed<C, Make> {
    identity: Option<Arc<LiveIdentity>>,
    make: Make,
    current: Arc<Mutex<(u64, legacy::Client<C, Body>)>>,
}

impl<C, Make: Fn() -> legacy::Client<C, Body>> Renewed<C, Make> {
    fn new(identity: Option<Arc<LiveIdentity>>, make: Make) -> Self {
        let current = (identity.as_ref().map_or(0, |identity| identity.generation()), make());
        Self { identity, make, current: Arc::new(Mutex::new(current)) }
    }
}

impl<C, Make: Clone> Clone for Renewed<C, Make> {
    fn clone(&self) -> Self {
        Self { identity: self.identity.clone(), make: self.make.clone(), current: Arc::clone(&self.current) }
    }
}

impl<C, Make> Service<http::Request<Body>> for Renewed<C, Make>
where
    C: Connect + Clone + Send + Sync + 'static,
    Make: Fn() -> legacy::Client<C, Body>,
{
    type Response = http::Response<hyper::body::Incoming>;
    type Error = legacy::Error;
    type Future = legacy::ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.identity.as_ref().map_or(0, |identity| identity.generation());
        if current.0 != generation {
            *current = (generation, (self.make)());
        }
        current.1.request(request)
    }
}

/// A connection that is not there after a while will not come.
fn in_time<T>(
    connecting: impl Future<Output = Result<T, BoxError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, BoxError>> {
    async move { tokio::time::timeout(CONNECT, connecting).await.map_err(BoxError::from)? }.boxed()
}
