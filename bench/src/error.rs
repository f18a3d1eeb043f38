//! Why a load run fails.

use std::path::PathBuf;

use hyper::StatusCode;
use kube::config::KubeconfigError;

/// A failure that ends the run; what was made is removed and what was measured is printed nevertheless.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("these measures need --kubeconfig: {0}")]
    NoKubeconfig(String),
    #[error("read kubeconfig {path}")]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: KubeconfigError,
    },
    #[error("kubeconfig {path}: {what}")]
    Credentials { path: PathBuf, what: String },
    #[error("kubeconfig {path}: TLS material")]
    TlsMaterial {
        path: PathBuf,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{host} is not this machine; a load run disturbs a cluster: give --allow-remote if it is yours to load")]
    Remote { host: String },
    #[error("cannot reach the API server at {address} (is it running, and is the kubeconfig's server right?)")]
    Unreachable {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{method} {path}")]
    Transport {
        method: &'static str,
        path: String,
        #[source]
        source: hyper::Error,
    },
    #[error("HTTP with {address}")]
    Handshake {
        address: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{method} {path}: {status}: {message}{}", hint(*.status))]
    Refused { method: &'static str, path: String, status: StatusCode, message: String },
    #[error("{method} {path}: the answer has no {field}")]
    Answer { method: &'static str, path: String, field: &'static str },
    #[error("{what} was not done within {seconds} s")]
    TimedOut { what: String, seconds: u64 },
    #[error("the program of pod {0} ends by itself: give --pods-command, such as \"sleep 3600\"")]
    PodEnds(String),
    #[error("the watch of {path} ended early: {why}")]
    WatchEnded { path: String, why: String },
    #[error("interrupted")]
    Interrupted,
    #[error("read {path} (does the process exist, and may you look at it?)")]
    Process {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: no {field}")]
    ProcessField { path: PathBuf, field: &'static str },
    #[error("--cold-start: {0}")]
    ColdStart(String),
    #[error("start {command:?}")]
    Start {
        command: String,
        #[source]
        source: std::io::Error,
    },
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("a task of the run panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => " (the kubeconfig's credentials are not accepted)",
        StatusCode::FORBIDDEN => " (the kubeconfig's user needs cluster-admin for a load run)",
        StatusCode::TOO_MANY_REQUESTS => " (the server sheds load: lower --in-flight)",
        _ => "",
    }
}
