//! A process's streams on behalf of a client, whatever protocol the client speaks.
use std::convert::Infallible;

use bytes::Bytes;
use runtime::{Reader, Session, TerminalSize, Writer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Number of the stream to the process.
pub(crate) const STDIN: u8 = 0;
/// Number of the process's output.
pub(crate) const STDOUT: u8 = 1;
/// Number of its other output.
pub(crate) const STDERR: u8 = 2;

/// Bytes read from a process at a time.
const CHUNK: usize = 32 * 1024;
/// Messages that wait for a slow reader; then whoever sends waits.
pub(crate) const WAITING: usize = 16;

/// What a client sends.
#[derive(Debug)]
pub(crate) enum Input {
    Stdin(Bytes),
    EndOfStdin,
    Resize(TerminalSize),
}

/// How a process ended, as its [`Session`] tells.
pub(crate) type Exit = Result<Result<i32, runtime::Error>, tokio::sync::oneshot::error::RecvError>;

/// Moves bytes both ways until the process has ended and all its output is sent; returns its end as a `Status`.
pub(crate) async fn run(
    session: Session,
    input: mpsc::Receiver<Input>,
    output: mpsc::Sender<(u8, Bytes)>,
    describe: fn(Exit) -> Value,
) -> Value {
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let process = async move {
        tokio::join!(pump(STDOUT, stdout, output.clone()), pump(STDERR, stderr, output));
        describe(exit.await)
    };
    tokio::select! {
        status = process => status,
        never = feed(input, stdin, resize) => match never {},
    }
}

async fn pump(stream: u8, reader: Option<Reader>, output: mpsc::Sender<(u8, Bytes)>) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(length) = reader.read(&mut buffer).await {
        if length == 0 || output.send((stream, Bytes::copy_from_slice(&buffer[..length]))).await.is_err() {
            return;
        }
    }
}

async fn feed(
    mut input: mpsc::Receiver<Input>,
    mut stdin: Option<Writer>,
    resize: mpsc::Sender<TerminalSize>,
) -> Infallible {
    while let Some(input) = input.recv().await {
        match input {
            Input::Stdin(data) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(&data).await.is_err() || writer.flush().await.is_err())
                {
                    // The process reads no more; it may still write.
                    stdin = None;
                }
            }
            Input::EndOfStdin => {
                if let Some(mut writer) = stdin.take() {
                    let _already_closed = writer.shutdown().await;
                }
            }
            Input::Resize(size) => {
                let _process_gone = resize.send(size).await;
            }
        }
    }
    std::future::pending().await
}

/// A command's exit code.
pub(crate) fn exit_status(exit: Exit) -> Value {
    match exit {
        Ok(Ok(0)) => success(),
        Ok(Ok(code)) => {
            let message = format!("command terminated with non-zero exit code: exit status {code}");
            failure("NonZeroExitCode", &message, Some(code))
        }
        Ok(Err(err)) => internal(&err),
        Err(_) => failure("InternalError", "the runtime lost the process", None),
    }
}

/// Whoever attached learns the container's exit code from the pod's status, as upstream; here its end is a success.
pub(crate) fn end_of_attach(exit: Exit) -> Value {
    match exit {
        Ok(Ok(_)) => success(),
        other => exit_status(other),
    }
}

/// The `Status` of a session that the runtime could not make or keep.
pub(crate) fn internal(err: &runtime::Error) -> Value {
    failure("InternalError", &crate::failure::chain(err), None)
}

fn success() -> Value {
    json!({ "metadata": {}, "status": "Success" })
}

fn failure(reason: &str, message: &str, code: Option<i32>) -> Value {
    let mut status = json!({ "metadata": {}, "status": "Failure", "message": message, "reason": reason });
    match code {
        Some(code) => {
            status["details"] = json!({ "causes": [{ "reason": "ExitCode", "message": code.to_string() }] });
        }
        None => status["code"] = json!(500),
    }
    status
}

/// Reads a terminal's size as clients send it.
pub(crate) fn terminal_size(size: &Value) -> Option<TerminalSize> {
    let part = |name: &str| u16::try_from(size[name].as_u64()?).ok();
    Some(TerminalSize { width: part("Width")?, height: part("Height")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exec_tells_exit_codes() {
        assert_eq!(exit_status(Ok(Ok(3)))["details"]["causes"][0]["message"], "3");
        assert_eq!(exit_status(Ok(Ok(0))), success());
        assert_eq!(end_of_attach(Ok(Ok(3))), success());
    }

    #[test]
    fn terminal_sizes_are_read() {
        let size = terminal_size(&json!({ "Width": 80, "Height": 24 }));
        assert_eq!(size, Some(TerminalSize { width: 80, height: 24 }));
        assert_eq!(terminal_size(&json!({})), None);
    }
}
