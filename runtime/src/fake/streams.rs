//! `exec`, `attach` and `port_forward` of the fake.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::FakeRuntime;
use crate::{ContainerState, Error, Event, ExecRequest, Reader, Session, Writer};

/// Bytes that may wait in one direction of a stream.
const PIPE: usize = 64 * 1024;

impl FakeRuntime {
    /// Answers with the handler's output, then what was written to stdin.
    pub(super) fn exec_session(&self, id: &str, request: &ExecRequest) -> Result<Session, Error> {
        let (output, delay) = self.exec_output(id, &request.command)?;
        let (stdin, stdin_end) = pipe(request.stdin);
        let (stdout, stdout_end) = pipe(request.stdout || request.tty);
        let (stderr, stderr_end) = pipe(request.stderr && !request.tty);
        let (exited, exit) = oneshot::channel();
        let (resize, _) = mpsc::channel(1);
        self.spawn(async move {
            tokio::time::sleep(delay).await;
            // A reader that went away does not change the result.
            if let Some(mut stdout) = stdout_end {
                let _ = stdout.write_all(&output.stdout).await;
                if let Some(mut stdin) = stdin_end {
                    let _ = tokio::io::copy(&mut stdin, &mut stdout).await;
                }
            }
            if let Some(mut stderr) = stderr_end {
                let _ = stderr.write_all(&output.stderr).await;
            }
            let _ = exited.send(Ok(output.exit_code));
        });
        Ok(Session { stdin: stdin.map(writer), stdout: stdout.map(reader), stderr: stderr.map(reader), resize, exit })
    }

    pub(super) fn exec_output(
        &self,
        id: &str,
        command: &[String],
    ) -> Result<(crate::ExecOutput, std::time::Duration), Error> {
        let mut state = self.state();
        let name = state.running(id)?.config.name.clone();
        let (handler, delay) = (state.exec.clone(), state.exec_delay);
        drop(state);
        Ok((handler(&name, command), delay))
    }

    /// Shows what [`FakeRuntime::print`] prints from now on; ends with the container.
    pub(super) fn attach_session(&self, id: &str) -> Result<Session, Error> {
        let mut events = self.shared.events.subscribe();
        let mut state = self.state();
        let container = state.running(id)?;
        let mut output = container.output.subscribe();
        let (stdin, stdin_end) = pipe(container.config.stdin);
        drop(state);
        let (stdout, stdout_end) = pipe(true);
        let (exited, exit) = oneshot::channel();
        let (resize, _) = mpsc::channel(1);
        let id = id.to_owned();
        self.spawn(async move {
            let print = async {
                let Some(mut stdout) = stdout_end else { return };
                while let Ok(bytes) = output.recv().await {
                    if stdout.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            };
            let drain = async {
                let Some(mut stdin) = stdin_end else { return };
                let mut sink = [0; 1024];
                while stdin.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            };
            let code = tokio::select! {
                code = wait_for_exit(&mut events, &id) => code,
                ((), ()) = async { tokio::join!(print, drain) } => return,
            };
            let _ = exited.send(code);
        });
        Ok(Session { stdin: stdin.map(writer), stdout: stdout.map(reader), stderr: None, resize, exit })
    }

    pub(super) async fn connect(&self, sandbox: &str, port: u16) -> Result<(Reader, Writer), Error> {
        let target = {
            let mut state = self.state();
            state.sandbox(sandbox)?;
            state.ports.get(&port).copied()
        };
        let refused = |reason: String| Error::Network { reason: format!("connect to port {port}: {reason}") };
        let target = target.ok_or_else(|| refused("connection refused".to_owned()))?;
        let stream = tokio::net::TcpStream::connect(target).await.map_err(|err| refused(err.to_string()))?;
        let (read, write) = stream.into_split();
        Ok((Box::new(read), Box::new(write)))
    }

    /// Waits until a container has ended; `events` must be older than the look at its state.
    pub(super) async fn ended(&self, id: &str, events: &mut broadcast::Receiver<Event>) -> Result<(), Error> {
        loop {
            if matches!(self.state().container(id)?.status.state, ContainerState::Exited(_)) {
                return Ok(());
            }
            // After a lag the state tells as well as the event would have.
            let _ = events.recv().await;
        }
    }
}

async fn wait_for_exit(events: &mut broadcast::Receiver<Event>, id: &str) -> Result<i32, Error> {
    loop {
        match events.recv().await {
            Ok(Event::ContainerExited { container, exit, .. }) if container == id => return Ok(exit.code),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => {
                return Err(Error::NotFound { what: "container", id: id.to_owned() });
            }
        }
    }
}

fn pipe(wanted: bool) -> (Option<DuplexStream>, Option<DuplexStream>) {
    if wanted {
        let (near, far) = tokio::io::duplex(PIPE);
        (Some(near), Some(far))
    } else {
        (None, None)
    }
}

fn reader(stream: DuplexStream) -> Reader {
    Box::new(stream)
}

fn writer(stream: DuplexStream) -> Writer {
    Box::new(stream)
}
