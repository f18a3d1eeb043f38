//! The in-memory transport: the same router, and the same client certificate in the same place, without sockets.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use tower::{Service, ServiceExt as _};

use super::peer::{PeerCertificate, Vouched};

/// A `tower` service that `kube::Client::new` takes.
#[derive(Clone, Debug)]
pub struct InProcess {
    router: Router,
    peer: Option<PeerCertificate>,
    agent: Option<HeaderValue>,
}

impl InProcess {
    pub(crate) fn new(router: Router, certificate: Option<Bytes>) -> Self {
        let peer = certificate.map(|certificate| PeerCertificate::new(certificate, Vouched::FOR_USER));
        Self { router, peer, agent: None }
    }

    /// Names the program in requests that do not (`User-Agent`): it owns the fields that it writes.
    ///
    /// # Panics
    ///
    /// If that is no value of a header.
    #[must_use]
    pub fn named(self, agent: &'static str) -> Self {
        Self { agent: Some(HeaderValue::from_static(agent)), ..self }
    }
}

impl<B> Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        if let Some(agent) = &self.agent {
            request.headers_mut().entry(USER_AGENT).or_insert_with(|| agent.clone());
        }
        Box::pin(self.router.clone().oneshot(request))
    }
}
