//! Why the API server cannot start or had to stop.

use std::io;
use std::net::SocketAddr;

/// A failure of the whole server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address} (is another server running there? choose another --bind-address or --secure-port)")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// A part of the server failed while it did this.
    #[error("{doing}")]
    Part {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("create the bootstrap objects: {0}")]
    Bootstrap(String),
    #[error("--{flag}: {why}")]
    Flag { flag: &'static str, why: String },
}

impl Error {
    /// What a failure of a part is for the whole: `doing` is a flag, or what was tried.
    pub(crate) fn part<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        |source| Self::Part { doing: doing.into(), source: source.into() }
    }
}

/// An error with its causes, for those who are told one line: some say nothing by themselves ("transport error").
pub(crate) fn with_causes(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
