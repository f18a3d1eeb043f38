//! The connection to a key management service: gRPC over a unix socket.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::message::{DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse};
use crate::error::with_causes;

/// Answers hold a key and annotations of at most 32 kB.
const MAX_ANSWER: usize = 128 << 10;

/// A call that brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("rpc error: code = DeadlineExceeded desc = no answer within {0:?}")]
    Late(Duration),
    #[error("rpc error: code = Unavailable desc = {0}")]
    Unreachable(String),
    #[error("rpc error: code = {code:?} desc = {why}")]
    Refused { code: tonic::Code, why: String },
}

/// A service; connected when it is first asked, and again when the connection is lost.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    timeout: Duration,
}

impl Client {
    /// The service behind a socket. A path that begins with `@` is in the abstract namespace.
    pub(super) fn new(socket: &str, timeout: Duration) -> Self {
        let path = socket.strip_prefix('@').map_or_else(|| PathBuf::from(socket), |name| format!("\0{name}").into());
        let connect = service_fn(move |_uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Self { channel, timeout }
    }

    pub(super) async fn status(&self) -> Result<StatusResponse, CallError> {
        self.call("/v2.KeyManagementService/Status", StatusRequest {}).await
    }

    pub(super) async fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, CallError> {
        self.call("/v2.KeyManagementService/Encrypt", request).await
    }

    pub(super) async fn decrypt(&self, request: DecryptRequest) -> Result<DecryptResponse, CallError> {
        self.call("/v2.KeyManagementService/Decrypt", request).await
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, CallError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let exchange = async {
            grpc.ready().await.map_err(|err| CallError::Unreachable(with_causes(&err)))?;
            let path = PathAndQuery::from_static(method);
            let answer = grpc.unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default()).await;
            let refused = |status: tonic::Status| CallError::Refused {
                code: status.code(),
                why: std::error::Error::source(&status).map_or_else(|| status.message().to_owned(), with_causes),
            };
            answer.map(tonic::Response::into_inner).map_err(refused)
        };
        tokio::time::timeout(self.timeout, exchange).await.map_err(|_| CallError::Late(self.timeout))?
    }
}
