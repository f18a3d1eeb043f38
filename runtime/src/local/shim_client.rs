//! Starting shims and talking to them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::program::Sealed;
use crate::Error;
use crate::wire::{self, Reply, Request, ShimConfig};

/// A shim that does not answer for so long is stuck: the slowest answer, to a shutdown, waits for the kernel only.
const PATIENCE: Duration = Duration::from_secs(120);

/// A shim, by its socket.
#[derive(Clone, Debug)]
pub(super) struct Shim {
    socket: PathBuf,
}

/// An answer, what came with it, and the connection for what comes later.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) stream: UnixStream,
}

/// Starts a shim and waits until it serves; returns its process id. Blocks.
pub(super) fn spawn(program: &Sealed, arguments: &[String], title: &str, config: &ShimConfig) -> Result<u32, Error> {
    let failed = |reason: String| Error::Shim { reason };
    // Not one of the node's descriptors, nor its environment, which may hold secrets.
    let mut child = Command::new(program.path())
        .arg0("coracle-shim")
        .args(arguments)
        .arg(title)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()
        .map_err(|err| failed(format!("start it: {err}")))?;
    // It reads its configuration before it makes anything that inherits the limit.
    host::descriptors::restore(child.id()).map_err(|err| failed(format!("limit its open files: {err}")))?;
    if let Some(stdin) = child.stdin.take() {
        serde_json::to_writer(stdin, config).map_err(|err| failed(format!("send the configuration: {err}")))?;
    }
    let output = child.wait_with_output().map_err(|err| failed(err.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match (output.status.success(), said.parse()) {
        (true, Ok(pid)) => Ok(pid),
        (true, Err(_)) => Err(failed(format!("the program is no shim: it says {said:?}"))),
        (false, _) => Err(failed(if said.is_empty() { output.status.to_string() } else { said })),
    }
}

impl Shim {
    pub(super) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(&self, request: Request, descriptors: Vec<OwnedFd>) -> Result<Answer, Error> {
        let socket = self.socket.clone();
        super::blocking(move || ask(&socket, &request, &descriptors)).await
    }

    /// Asks for something that only needs to be done.
    pub(super) async fn order(&self, request: Request) -> Result<(), Error> {
        self.ask(request, Vec::new()).await?.done()
    }
}

fn ask(socket: &Path, request: &Request, descriptors: &[OwnedFd]) -> Result<Answer, Error> {
    let lost = |err: io::Error| Error::Shim { reason: format!("{}: {err}", socket.display()) };
    let stream = UnixStream::connect(socket).map_err(lost)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
    wire::send_frame(&stream, request, descriptors).map_err(lost)?;
    let answer = wire::receive_frame(&stream).map_err(lost)?;
    let (reply, descriptors) = answer.ok_or_else(|| lost(io::ErrorKind::UnexpectedEof.into()))?;
    Ok(Answer { reply, descriptors, stream })
}

impl Answer {
    pub(super) fn done(self) -> Result<(), Error> {
        self.process_or_done().map(|_| ())
    }

    /// The process id of what was started.
    pub(super) fn process_or_done(&self) -> Result<u32, Error> {
        match &self.reply {
            Reply::Process { pid } => Ok(*pid),
            Reply::Done => Ok(0),
            Reply::StartFailed { reason } => Err(Error::Start { reason: reason.clone() }),
            Reply::Failed { reason } => Err(Error::Shim { reason: reason.clone() }),
            Reply::ExecExited { .. } | Reply::Exited { .. } | Reply::Watched { .. } => {
                Err(Error::Shim { reason: "an answer to another question".to_owned() })
            }
        }
    }

    /// The connection, for tokio.
    pub(super) fn into_stream(self) -> Result<tokio::net::UnixStream, Error> {
        let failed = |err: io::Error| Error::Shim { reason: err.to_string() };
        self.stream.set_nonblocking(true).map_err(failed)?;
        tokio::net::UnixStream::from_std(self.stream).map_err(failed)
    }
}
