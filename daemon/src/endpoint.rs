//! The health and metrics endpoint of a component that has no other HTTP server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Metrics, ReadyWatch, metrics};

/// Where `/healthz`, `/livez`, `/readyz` and `/metrics` are served.
#[derive(Clone, Debug, clap::Args)]
pub struct Endpoint {
    /// Address of the health and metrics endpoint.
    #[arg(id = "healthz-bind-address", long = "healthz-bind-address", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// Port of the health and metrics endpoint; 0 turns it off.
    #[arg(id = "healthz-port", long = "healthz-port", default_value_t = 0)]
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
    #[error("serve health and metrics")]
    Serve(#[source] io::Error),
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
        let router = axum::Router::new()
            .route("/healthz", get("ok"))
            .route("/livez", get("ok"))
            .route("/readyz", get(readyz).with_state(ready))
            .route("/metrics", get(encode).with_state(metrics));
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .map_err(EndpointError::Serve)
    }
}

async fn readyz(State(ready): State<ReadyWatch>) -> (StatusCode, &'static str) {
    if ready.is_ready() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: still starting")
    }
}

async fn encode(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode())
}
