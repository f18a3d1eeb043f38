//! Serving HTTP/1.1 on a connection that [`crate::listen`] accepted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::listen::Seat;

/// Header bytes of one request.
const HEADER_BYTES: usize = 128 * 1024;
/// Headers of one request.
const HEADER_COUNT: usize = 200;

/// Answers requests until the connection ends, is idle for `idle`, or `shutdown` and the answer to the last request.
/// Whoever may not do what it asks for has its connection closed: those that stay are of clients with rights.
pub async fn serve_http<S>(stream: S, seat: Arc<Seat>, router: Router, idle: Duration, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = seat.proven().then(|| router.call(request));
        async move {
            let mut response = match answer {
                Some(answer) => answer.await?,
                None => too_many(),
            };
            if matches!(
                response.status(),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::SERVICE_UNAVAILABLE
            ) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle).max_headers(HEADER_COUNT).max_buf_size(HEADER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = ended {
        tracing::debug!(error = &err as &dyn std::error::Error, "a connection ended badly");
    }
}

fn too_many() -> Response<Body> {
    let mut response = Response::new(Body::from("too many connections\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
