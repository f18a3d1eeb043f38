//! Turning a request into a stream: a WebSocket, or SPDY/3.1, which kubectl spoke before 1.30 and falls back to
//! (upstream: httpstream of k8s.io/apimachinery).
use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::handlers::Refusal;
use super::streams::Streams;

const SPDY: &str = "SPDY/3.1";
/// What the client speaks above SPDY, the best first; and what was chosen.
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What a server would have spoken, in a refusal.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// How a client wants to stream.
pub(super) enum Upgrade {
    WebSocket(Box<WebSocketUpgrade>),
    Spdy(Spdy),
}

/// A request for SPDY.
pub(super) struct Spdy {
    offered: Vec<String>,
    upgrade: OnUpgrade,
}

impl Upgrade {
    /// What a request asks for.
    pub(super) fn of(
        websocket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
        request: Request,
    ) -> Result<Self, Refusal> {
        if let Ok(upgrade) = websocket {
            return Ok(Self::WebSocket(Box::new(upgrade)));
        }
        let headers = request.headers();
        if !headers.get(header::UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(SPDY.as_bytes())) {
            let text = "this needs an upgrade to WebSocket or SPDY/3.1";
            return Err(Refusal(StatusCode::BAD_REQUEST, text.to_owned()));
        }
        let values = headers.get_all(PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        let offered: Vec<String> =
            values.flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).collect();
        if offered.is_empty() {
            let text = "unable to upgrade: X-Stream-Protocol-Version is required";
            return Err(Refusal(StatusCode::BAD_REQUEST, text.to_owned()));
        }
        Ok(Self::Spdy(Spdy { offered, upgrade: hyper::upgrade::on(request) }))
    }
}

impl Spdy {
    /// Agrees on one of the protocols `spoken`, switches over and serves; refuses if there is none in common.
    pub(super) fn accept<Serving>(
        self,
        streams: &Streams,
        spoken: &[&'static str],
        serve: impl FnOnce(TokioIo<Upgraded>, &'static str) -> Serving + Send + 'static,
    ) -> Response
    where
        Serving: Future<Output = ()> + Send,
    {
        let chosen = self.offered.iter().find_map(|offer| spoken.iter().find(|known| *known == offer).copied());
        let Some(protocol) = chosen else { return self.refuse(spoken) };
        let upgrade = self.upgrade;
        streams.spawn(async move {
            match upgrade.await {
                Ok(stream) => serve(TokioIo::new(stream), protocol).await,
                Err(err) => tracing::debug!(error = &err as &dyn std::error::Error, "a SPDY upgrade failed"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().extend([
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static(SPDY)),
            (PROTOCOL, HeaderValue::from_static(protocol)),
        ]);
        response
    }

    fn refuse(self, spoken: &[&'static str]) -> Response {
        let offered = self.offered.join(" ");
        let accepted = spoken.join(" ");
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{offered}], server accepts [{accepted}]"
        );
        let mut response = (StatusCode::FORBIDDEN, text).into_response();
        for name in spoken {
            response.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
        }
        response
    }
}
