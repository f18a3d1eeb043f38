//! gRPC to what listens on a unix socket of this node: plugins and storage drivers.
//!
//! Whoever serves such a socket may hang, lie or answer without end: each call has a deadline, each answer a size, and a
//! process of another user than the node's root is not talked to.
use std::io;
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::failure::chain;

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// A call that brought no answer, in the words of upstream's client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There was none in time.
    #[error("rpc error: code = DeadlineExceeded desc = no answer within {0:?}")]
    Late(Duration),
    /// Nobody is there, or nobody who may be.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Unreachable(String),
    /// The other side refuses.
    #[error("rpc error: code = {code:?} desc = {why}")]
    Refused {
        /// Why, for programs.
        code: tonic::Code,
        /// Why, for people.
        why: String,
    },
}

impl CallError {
    /// What was asked about does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: tonic::Code::NotFound, .. })
    }
}

/// One conversation; connected when it is first used.
pub(crate) struct Conversation(Channel);

impl Conversation {
    /// With who listens on a socket.
    pub(crate) fn with(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connect = service_fn(move |_uri| {
            let path = path.clone();
            async move { connect(&path).await.map(TokioIo::new) }
        });
        Self(Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect))
    }

    /// Asks, and waits for the answer for so long.
    pub(crate) async fn call<Q, A>(&self, method: &'static str, request: Q, patience: Duration) -> Result<A, CallError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.0.clone()).max_decoding_message_size(MAX_ANSWER);
        let exchange = async {
            grpc.ready().await.map_err(|err| CallError::Unreachable(chain(&err)))?;
            let path = PathAndQuery::from_static(method);
            let answer = grpc.unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| refused(&status))
        };
        tokio::time::timeout(patience, exchange).await.map_err(|_| CallError::Late(patience))?
    }
}

fn refused(status: &tonic::Status) -> CallError {
    let why = std::error::Error::source(status).map_or_else(|| status.message().to_owned(), chain);
    CallError::Refused { code: status.code(), why }
}

/// Connects to a socket that the node's root serves, or this process's own user.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    let user = stream.peer_cred()?.uid();
    if is_trusted(user) {
        return Ok(stream);
    }
    let why = format!("{} is served by user {user}, and not by root", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Whether a user may be who the kubelet talks to, or make the socket for it.
pub(crate) fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}
