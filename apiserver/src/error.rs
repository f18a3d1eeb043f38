//! Why the API server cannot start or had to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::aggregator;
use crate::authn;
use crate::http;
use crate::outbound::dial;
use crate::watch_cache;

/// A failure of the whole server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address} (is another server running there? choose another --bind-address or --secure-port)")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("TLS")]
    Tls(#[from] http::TlsError),
    #[error("write the self-signed certificate to {path} (give --tls-cert-file, or a --cert-dir that can be written)")]
    SelfSigned {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("--token-auth-file")]
    Tokens(#[from] authn::TokenFileError),
    #[error("--service-account-signing-key-file or --service-account-key-file")]
    TokenKeys(#[from] authn::tokens::KeyError),
    #[error("fill the watch cache")]
    WatchCache(#[from] watch_cache::Error),
    #[error("connect to kubelets")]
    Kubelets(#[from] dial::Error),
    #[error("connect to aggregated API servers")]
    Aggregator(#[from] aggregator::Error),
    #[error("create the bootstrap objects: {0}")]
    Bootstrap(String),
    #[error("--{flag}: {why}")]
    Flag { flag: &'static str, why: String },
}

/// An error with its causes, for those who are told one line: some say nothing by themselves ("transport error").
pub(crate) fn with_causes(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
