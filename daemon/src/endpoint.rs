//! The health and metrics endpoint of a component that has no other HTTP server.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::listen::{self, Limits};
use crate::{Metrics, ReadyWatch, metrics, serve_http};

/// A client that asks nothing for so long is let go.
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// Enough for probes and a few collectors of metrics, whatever else is open.
pub(crate) const LIMITS: Limits = Limits {
    total: 64,
    per_peer: 32,
    pending: 64,
    pending_per_peer: 32,
    first_request: Duration::from_secs(10),
    lifetime: Some(Duration::from_secs(120)),
    drain: Duration::from_secs(5),
};

/// Where `/healthz`, `/livez`, `/readyz` and `/metrics` are served.
#[derive(Clone, Debug, clap::Args)]
pub struct Endpoint {
    /// Address of the health and metrics endpoint.
    #[arg(id = "healthz-bind-address", long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// Port of the health and metrics endpoint; 0 turns it off.
    #[arg(id = "healthz-port", long, default_value_t = 0)]
    pub port: u16,
}

/// The endpoint cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("listen on {address} for health and metrics (choose another --healthz-port)")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl Endpoint {
    /// Takes the port; `None` when the endpoint is turned off.
    pub async fn bind(&self) -> Result<Option<TcpListener>, EndpointError> {
        if self.port == 0 {
            return Ok(None);
        }
        let address = SocketAddr::new(self.address, self.port);
        let bound = TcpListener::bind(address).await;
        bound.map(Some).map_err(|source| EndpointError::Bind { address, source })
    }

    /// Serves until `shutdown`.
    pub async fn serve(
        self,
        listener: TcpListener,
        metrics: Metrics,
        ready: ReadyWatch,
        shutdown: CancellationToken,
    ) -> Result<(), EndpointError> {
        let router = router(metrics, ready);
        let ending = shutdown.clone();
        listen::accept(listener, LIMITS, shutdown, move |stream| {
            let (router, seat, shutdown) = (router.clone(), stream.seat(), ending.clone());
            serve_http(stream, seat, router, IDLE, shutdown)
        })
        .await;
        Ok(())
    }
}

/// Health and metrics of a process.
pub(crate) fn router(metrics: Metrics, ready: ReadyWatch) -> axum::Router {
    axum::Router::new()
        .route("/healthz", get("ok"))
        .route("/livez", get("ok"))
        .route("/readyz", get(readyz).with_state(ready))
        .route("/metrics", get(encode).with_state(metrics))
}

async fn readyz(State(ready): State<ReadyWatch>) -> (StatusCode, Cow<'static, str>) {
    match ready.now() {
        Ok(()) => (StatusCode::OK, "ok".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}").into()),
    }
}

async fn encode(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::MEDIA_TYPE)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Half a request, which never goes on.
    const HALF: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-";

    async fn healthz(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn half_requests_do_not_keep_the_endpoint_from_answering() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let process = crate::detached();
        let endpoint = Endpoint { address: address.ip(), port: address.port() };
        let (metrics, ready) = (process.metrics.clone(), process.ready.watch());
        let serving = tokio::spawn(endpoint.serve(listener, metrics, ready, shutdown.clone()));
        let mut held = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // One that was cut already cannot be written to.
            let _cut = stream.write_all(HALF).await;
            held.push(stream);
        }
        let refused = !healthz(address).await.starts_with("HTTP/1.1 200");
        let mut open = 0;
        for stream in &mut held {
            let end = tokio::time::timeout(Duration::from_millis(5), stream.read(&mut [0; 1])).await;
            open += usize::from(end.is_err());
        }
        faults::Attack::new("health endpoint: half-open requests")
            .tried(300, u64::from(refused))
            .figure("connections held", open)
            .record();
        assert!(open <= LIMITS.pending_per_peer, "{open} are open");
        shutdown.cancel();
        drop(held);
        serving.await.unwrap().unwrap();
    }
}
