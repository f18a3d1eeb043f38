//! The in-memory transport: the same router, and the same client certificate in the same place, without sockets.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tower::{Service, ServiceExt as _};

use super::peer::{PeerCertificate, Vouched};

/// A `tower` service that `kube::Client::new` takes.
#[derive(Clone, Debug)]
pub struct InProcess {
    router: Router,
    peer: Option<PeerCertificate>,
}

impl InProcess {
    pub(crate) fn new(router: Router, certificate: Option<Bytes>) -> Self {
        Self { router, peer: certificate.map(|certificate| PeerCertificate::new(certificate, Vouched::FOR_USER)) }
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
        Box::pin(self.router.clone().oneshot(request))
    }
}
