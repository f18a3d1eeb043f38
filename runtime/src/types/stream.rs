//! Streams into and out of containers.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Error;

/// What runs in a container for [`Runtime::exec`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// Something that bytes can be read from.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Something that bytes can be written to.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The streams of an `exec` or `attach`. With a tty there is no stderr. Dropping all of it ends an exec'ed process.
pub struct Session {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    /// Takes terminal sizes.
    pub resize: tokio::sync::mpsc::Sender<TerminalSize>,
    /// The exit code (an attach ends with the container's).
    pub exit: tokio::sync::oneshot::Receiver<Result<i32, Error>>,
}

/// The result of [`Runtime::exec_sync`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}
