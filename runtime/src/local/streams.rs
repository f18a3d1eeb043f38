//! `exec`, `attach` and `port_forward`: descriptors from and to the shim, as tokio streams.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};

use super::containers::wrong_state;
use super::{Container, Shared};
use crate::container::spec::ExecSpec;
use crate::wire::{self, Reply, Request};
use crate::{ContainerState, Error, Event, ExecOutput, ExecRequest, Reader, Session, TerminalSize, Writer};

/// What [`crate::Runtime::exec_sync`] keeps of a stream.
const KEPT: usize = 16 * 1024;
/// How long after its end a command's output is still waited for.
const DRAIN: Duration = Duration::from_secs(1);
/// An attached reader may fall this many bytes behind before it is cut off.
const ATTACH_PIPE: usize = 1 << 20;

impl Shared {
    pub(super) async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session, Error> {
        let container = self.running(id)?;
        let tty = request.tty;
        let wanted = [request.stdin && !tty, request.stdout && !tty, request.stderr && !tty];
        let mut theirs = Vec::new();
        let stdin = pipe(wanted[0], &mut |(read, write)| keep(write, read, &mut theirs))?;
        let stdout = pipe(wanted[1], &mut |(read, write)| keep(read, write, &mut theirs))?;
        let stderr = pipe(wanted[2], &mut |(read, write)| keep(read, write, &mut theirs))?;
        let spec = ExecSpec { arguments: request.command.clone(), tty };
        let order = Request::Exec { container: id.to_owned(), spec, stdio: wanted };
        let mut answer = self.shim(&container.status.sandbox).ask(order, theirs).await?;
        answer.process_or_done()?;
        let master = answer.descriptors.pop();
        let (resize, sizes) = mpsc::channel(4);
        let (exited, exit) = oneshot::channel();
        let terminal = master.as_ref().map(OwnedFd::try_clone).transpose().map_err(stream_error)?;
        self.spawn(follow(answer.into_stream()?, terminal, sizes, exited));
        let (stdin, stdout) = match master {
            Some(master) => {
                let input = if request.stdin { Some(master.try_clone().map_err(stream_error)?) } else { None };
                (input, Some(master))
            }
            None => (stdin, stdout),
        };
        Ok(Session {
            stdin: stdin.map(writer).transpose()?,
            stdout: stdout.map(reader).transpose()?,
            stderr: stderr.map(reader).transpose()?,
            resize,
            exit,
        })
    }

    pub(super) async fn exec_sync(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecOutput, Error> {
        let request = ExecRequest { command: command.to_vec(), stdout: true, stderr: true, ..ExecRequest::default() };
        let run = async {
            let Session { stdout, stderr, mut exit, resize: _resize, .. } = self.exec(id, &request).await?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = {
                let reading = async { tokio::try_join!(read_some(stdout, &mut out), read_some(stderr, &mut err)) };
                tokio::pin!(reading);
                tokio::select! {
                    read = &mut reading => {
                        read?;
                        (&mut exit).await
                    }
                    code = &mut exit => {
                        // A process that it left behind may hold the pipes open for ever.
                        if let Ok(read) = tokio::time::timeout(DRAIN, reading).await {
                            read?;
                        }
                        code
                    }
                }
            };
            let lost = |_| Error::Shim { reason: "the runtime stopped while a command ran".to_owned() };
            Ok(ExecOutput { stdout: out, stderr: err, exit_code: code.map_err(lost)?? })
        };
        if limit.is_zero() {
            return run.await;
        }
        // Giving up drops the session, which ends the process.
        tokio::time::timeout(limit, run).await.unwrap_or(Err(Error::Timeout { after: limit }))
    }

    pub(super) async fn attach(&self, id: &str) -> Result<Session, Error> {
        let mut events = self.events.subscribe();
        let container = self.running(id)?;
        let mut theirs = Vec::new();
        let stdout = pipe(true, &mut |(read, write)| keep(read, write, &mut theirs))?;
        let stderr = pipe(!container.tty, &mut |(read, write)| keep(read, write, &mut theirs))?;
        for end in stdout.iter().chain(&stderr) {
            rustix::pipe::fcntl_setpipe_size(end, ATTACH_PIPE).map_err(|err| stream_error(err.into()))?;
        }
        let order = Request::Attach { container: id.to_owned() };
        let mut answer = self.shim(&container.status.sandbox).ask(order, theirs).await?;
        answer.process_or_done()?;
        let input = answer.descriptors.pop();
        let terminal = match &input {
            Some(master) if container.tty => Some(master.try_clone().map_err(stream_error)?),
            _ => None,
        };
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
        let (mut exited, exit) = oneshot::channel();
        let name = id.to_owned();
        self.spawn(async move {
            loop {
                tokio::select! {
                    Some(size) = sizes.recv() => set_size(terminal.as_ref(), size),
                    code = next_exit(&mut events, &name) => {
                        // Nobody may be waiting any more.
                        let _ = exited.send(code);
                        return;
                    }
                    () = exited.closed() => return,
                }
            }
        });
        let stdin = input.filter(|_| container.stdin).map(writer).transpose()?;
        let (stdout, stderr) = (stdout.map(reader).transpose()?, stderr.map(reader).transpose()?);
        Ok(Session { stdin, stdout, stderr, resize, exit })
    }

    pub(super) async fn port_forward(&self, sandbox: &str, port: u16) -> Result<(Reader, Writer), Error> {
        if !self.sandbox(sandbox)?.status.ready {
            return Err(Error::WrongState { what: "sandbox", id: sandbox.to_owned(), state: "not ready".to_owned() });
        }
        let refused = |reason: String| Error::Network { reason: format!("connect to port {port}: {reason}") };
        let mut answer = self.shim(sandbox).ask(Request::Connect { port }, Vec::new()).await?;
        if let Reply::Failed { reason } = answer.reply {
            return Err(refused(reason));
        }
        let socket = answer.descriptors.pop().ok_or_else(|| refused("the shim sent no socket".to_owned()))?;
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true).map_err(stream_error)?;
        let (read, write) = tokio::net::TcpStream::from_std(stream).map_err(stream_error)?.into_split();
        Ok((Box::new(read), Box::new(write)))
    }

    fn running(&self, id: &str) -> Result<Container, Error> {
        let container = self.container(id)?;
        match container.status.state {
            ContainerState::Running { .. } => Ok(container),
            _ => Err(wrong_state(&container.status)),
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.monitors.lock().expect("no panic under this lock").spawn(task);
    }
}

/// Follows an exec'ed process to its end. Hanging up, which ends the process, happens when nobody is left to know.
async fn follow(
    mut stream: tokio::net::UnixStream,
    terminal: Option<OwnedFd>,
    mut sizes: mpsc::Receiver<TerminalSize>,
    mut exited: oneshot::Sender<Result<i32, Error>>,
) {
    let mut sized = true;
    let ended = wire::next_frame::<Reply>(&mut stream);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            reply = &mut ended => {
                let code = match reply {
                    Ok(Some(Reply::ExecExited { code })) => Ok(code),
                    Ok(_) => Err(Error::Shim { reason: "the shim ended while a command ran".to_owned() }),
                    Err(err) => Err(Error::Shim { reason: err.to_string() }),
                };
                // Nobody may be waiting any more.
                let _ = exited.send(code);
                return;
            }
            size = sizes.recv(), if sized => match size {
                Some(size) => set_size(terminal.as_ref(), size),
                None => sized = false,
            },
            () = exited.closed(), if !sized => return,
        }
    }
}

fn set_size(terminal: Option<&OwnedFd>, size: TerminalSize) {
    let Some(terminal) = terminal else { return };
    let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal whose process has ended needs no size.
    let _ = tcsetwinsize(terminal.as_fd(), size);
}

async fn next_exit(events: &mut tokio::sync::broadcast::Receiver<Event>, id: &str) -> Result<i32, Error> {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match events.recv().await {
            Ok(Event::ContainerExited { container, exit, .. }) if container == id => return Ok(exit.code),
            Ok(_) => {}
            Err(RecvError::Lagged(_) | RecvError::Closed) => {
                return Err(Error::Shim { reason: "events were lost".to_owned() });
            }
        }
    }
}

/// Reads to the end, keeping the beginning.
async fn read_some(reader: Option<Reader>, kept: &mut Vec<u8>) -> Result<(), Error> {
    let Some(mut reader) = reader else { return Ok(()) };
    (&mut reader).take(KEPT as u64).read_to_end(kept).await.map_err(stream_error)?;
    tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.map_err(stream_error)?;
    Ok(())
}

/// Makes a pipe if wanted; `sort` keeps one end and gives away the other.
fn pipe(wanted: bool, sort: &mut dyn FnMut((OwnedFd, OwnedFd)) -> OwnedFd) -> Result<Option<OwnedFd>, Error> {
    if !wanted {
        return Ok(None);
    }
    let ends = pipe_with(PipeFlags::CLOEXEC).map_err(|err| stream_error(err.into()))?;
    Ok(Some(sort(ends)))
}

fn keep(ours: OwnedFd, theirs: OwnedFd, away: &mut Vec<OwnedFd>) -> OwnedFd {
    away.push(theirs);
    ours
}

fn stream_error(err: io::Error) -> Error {
    Error::Shim { reason: format!("stream: {err}") }
}

fn reader(descriptor: OwnedFd) -> Result<Reader, Error> {
    Ok(Box::new(Descriptor::new(descriptor).map_err(stream_error)?))
}

fn writer(descriptor: OwnedFd) -> Result<Writer, Error> {
    Ok(Box::new(Descriptor::new(descriptor).map_err(stream_error)?))
}

/// An end of a pipe or a terminal.
struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::fs::fcntl_setfl(&descriptor, rustix::fs::fcntl_getfl(&descriptor)? | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self(crate::sys::watch(descriptor)?))
    }
}

impl AsyncRead for Descriptor {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let into = buffer.initialize_unfilled();
            match guard.try_io(|inner| Ok(rustix::io::read(inner.get_ref(), &mut *into)?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose last user is gone reads as EIO.
                Ok(Err(err)) if err.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(err)) => return Poll::Ready(Err(err)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Descriptor {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|inner| Ok(rustix::io::write(inner.get_ref(), bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
