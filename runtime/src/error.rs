//! Why the runtime could not do as asked.

use std::path::PathBuf;
use std::time::Duration;

/// Why the runtime could not do as asked. `Display` is what a pod's events show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {id:?} not found")]
    NotFound { what: &'static str, id: String },
    #[error("{what} {id:?} is {state}")]
    WrongState { what: &'static str, id: String, state: String },
    #[error("invalid {field}: {reason}")]
    Invalid { field: &'static str, reason: String },
    /// The registry refused or cannot be reached; its own words are in `reason`.
    #[error("failed to pull image {image:?}: {reason}")]
    Pull { image: String, reason: String },
    /// The container's process could not be started.
    #[error("{reason}")]
    Start { reason: String },
    #[error("timed out after {after:?}")]
    Timeout { after: Duration },
    #[error("{reason} is not supported by this runtime")]
    Unsupported { reason: String },
    #[error("{operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("shim: {reason}")]
    Shim { reason: String },
    #[error("network: {reason}")]
    Network { reason: String },
    /// Another process uses the same bridge, table or addresses.
    #[error("claim this node's network and directory")]
    Claim {
        #[source]
        source: Box<host::ClaimError>,
    },
    /// Another process uses the same directory.
    #[error("{path} is in use by {holder}")]
    InUse { path: PathBuf, holder: String },
}
