//! `exec` and `attach` over WebSocket: numbered channels in one connection.
//!
//! ```text
//! first byte of a message: 0 stdin | 1 stdout | 2 stderr | 3 error (a Status) | 4 resize | 255 close (v5 only)
//! ```
use std::collections::HashMap;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use runtime::{ExecRequest, Reader, Session, TerminalSize, Writer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::Shared;
use super::handlers::{Refusal, is_set, query};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Bytes read from a process at a time.
const CHUNK: usize = 32 * 1024;
/// Messages that wait for a slow client; then the process waits.
const WAITING: usize = 16;

/// The protocols spoken, the best first.
pub(super) const PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "v5.base64.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
];

/// What a protocol's name says of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    base64: bool,
    /// The error channel carries a `Status` instead of text.
    status: bool,
    /// The client may close a channel.
    closes: bool,
}

impl Protocol {
    pub(super) fn of(name: &str) -> Self {
        Self {
            base64: name.contains("base64"),
            status: name.starts_with("v4") || name.starts_with("v5"),
            closes: name.starts_with("v5"),
        }
    }

    pub(super) fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            // In the base64 protocols the channel is a digit.
            let text = format!("{}{}", channel, STANDARD.encode(data));
            return Message::Text(text.into());
        }
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        Message::Binary(message.into())
    }

    pub(super) fn decode(self, message: Message) -> Option<(u8, Bytes)> {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            _ => return None,
        };
        let (first, rest) = bytes.split_first()?;
        if self.base64 {
            return Some((first.checked_sub(b'0')?, STANDARD.decode(rest).ok()?.into()));
        }
        Some((*first, bytes.slice(1..)))
    }
}

/// `/exec/...`.
pub(super) async fn exec(
    State(shared): State<Shared>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(raw): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let query = query(raw);
    let container = shared.container(&path)?;
    let request = ExecRequest {
        command: query.get("command").cloned().unwrap_or_default(),
        stdin: is_set(&query, "input") || is_set(&query, "stdin"),
        stdout: is_set(&query, "output") || is_set(&query, "stdout"),
        stderr: is_set(&query, "error") || is_set(&query, "stderr"),
        tty: is_set(&query, "tty"),
    };
    if request.command.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "command is required".to_owned()));
    }
    if !(request.stdin || request.stdout || request.stderr) {
        let text = "you must specify at least 1 of stdin, stdout, stderr".to_owned();
        return Err(Refusal(StatusCode::BAD_REQUEST, text));
    }
    let upgrade = accept(upgrade)?;
    let (runtime, shutdown) = (std::sync::Arc::clone(&shared.context.runtime), shared.shutdown.clone());
    Ok(upgrade.on_upgrade(move |socket| async move {
        let session = runtime.exec(&container.id, &request).await;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = serve(socket, session, exit_status) => {}
        }
    }))
}

/// `/attach/...`.
pub(super) async fn attach(
    State(shared): State<Shared>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(raw): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let query = query(raw);
    let container = shared.container(&path)?;
    let upgrade = accept(upgrade)?;
    let wants = |old: &str, new: &str| is_set(&query, old) || is_set(&query, new);
    let (input, output, error) = (wants("input", "stdin"), wants("output", "stdout"), wants("error", "stderr"));
    let (runtime, shutdown) = (std::sync::Arc::clone(&shared.context.runtime), shared.shutdown.clone());
    Ok(upgrade.on_upgrade(move |socket| async move {
        let session = runtime.attach(&container.id).await.map(|session| Session {
            stdin: session.stdin.filter(|_| input),
            stdout: session.stdout.filter(|_| output),
            stderr: session.stderr.filter(|_| error),
            ..session
        });
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = serve(socket, session, end_of_attach) => {}
        }
    }))
}

/// Agrees on a protocol; clients that offer none speak the oldest.
fn accept(
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, Refusal> {
    let text = "exec and attach need a WebSocket upgrade; SPDY is served for port-forward only";
    upgrade.map(|upgrade| upgrade.protocols(PROTOCOLS)).map_err(|_| Refusal(StatusCode::BAD_REQUEST, text.to_owned()))
}

/// How a process ended, as its [`Session`] tells.
type Exit = Result<Result<i32, runtime::Error>, tokio::sync::oneshot::error::RecvError>;

async fn serve(socket: WebSocket, session: Result<Session, runtime::Error>, describe: fn(Exit) -> Value) {
    let protocol = Protocol::of(socket.protocol().and_then(|name| name.to_str().ok()).unwrap_or_default());
    let (mut sink, mut stream) = socket.split();
    let status = match session {
        Ok(session) => copy(protocol, &mut sink, &mut stream, session, describe).await,
        Err(err) => Some(failure("InternalError", &crate::failure::chain(&err), None)),
    };
    let Some(status) = status else { return };
    let body =
        if protocol.status { status.to_string() } else { status["message"].as_str().unwrap_or_default().to_owned() };
    // The client may be gone by now: then there is nobody to tell.
    if protocol.status || !body.is_empty() {
        let _ = sink.send(protocol.encode(ERROR, body.as_bytes())).await;
    }
    crate::websocket::close(&mut sink, &mut stream).await;
}

/// Moves bytes both ways until the process ends; returns its end as a `Status`, or nothing if the client left.
async fn copy(
    protocol: Protocol,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    session: Session,
    describe: fn(Exit) -> Value,
) -> Option<Value> {
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let (sender, mut output) = mpsc::channel(WAITING);
    let readers = async {
        tokio::join!(pump(STDOUT, stdout, sender.clone()), pump(STDERR, stderr, sender));
    };
    let forward = async {
        while let Some((channel, data)) = output.recv().await {
            if sink.send(protocol.encode(channel, &data)).await.is_err() {
                return false;
            }
        }
        true
    };
    let process = async {
        let ((), sent) = tokio::join!(readers, forward);
        if !sent {
            return None;
        }
        Some(describe(exit.await))
    };
    tokio::select! {
        status = process => status,
        () = input(protocol, stream, stdin, resize) => None,
    }
}

/// A command's exit code.
fn exit_status(exit: Exit) -> Value {
    match exit {
        Ok(Ok(0)) => success(),
        Ok(Ok(code)) => {
            let message = format!("command terminated with non-zero exit code: exit status {code}");
            failure("NonZeroExitCode", &message, Some(code))
        }
        Ok(Err(err)) => failure("InternalError", &crate::failure::chain(&err), None),
        Err(_) => failure("InternalError", "the runtime lost the process", None),
    }
}

/// Whoever attached learns the container's exit code from the pod's status, as upstream; here its end is a success.
fn end_of_attach(exit: Exit) -> Value {
    match exit {
        Ok(Ok(_)) => success(),
        other => exit_status(other),
    }
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

async fn pump(channel: u8, reader: Option<Reader>, sender: mpsc::Sender<(u8, Bytes)>) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(length) = reader.read(&mut buffer).await {
        if length == 0 || sender.send((channel, Bytes::copy_from_slice(&buffer[..length]))).await.is_err() {
            return;
        }
    }
}

/// Serves what the client sends; returns when it has left.
async fn input(
    protocol: Protocol,
    stream: &mut SplitStream<WebSocket>,
    mut stdin: Option<Writer>,
    resize: mpsc::Sender<TerminalSize>,
) {
    while let Some(Ok(message)) = stream.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
        let Some((channel, data)) = protocol.decode(message) else { continue };
        match channel {
            STDIN => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(&data).await.is_err() || writer.flush().await.is_err())
                {
                    // The process reads no more; it may still write.
                    stdin = None;
                }
            }
            RESIZE => {
                if let Some(size) = terminal_size(&data) {
                    let _process_gone = resize.send(size).await;
                }
            }
            CLOSE if protocol.closes && data.first() == Some(&STDIN) => {
                if let Some(mut writer) = stdin.take() {
                    let _already_closed = writer.shutdown().await;
                }
            }
            _ => {}
        }
    }
}

fn terminal_size(data: &[u8]) -> Option<TerminalSize> {
    let size: Value = serde_json::from_slice(data).ok()?;
    let part = |name: &str| u16::try_from(size[name].as_u64()?).ok();
    Some(TerminalSize { width: part("Width")?, height: part("Height")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_channel_in_every_protocol() {
        for name in PROTOCOLS {
            let protocol = Protocol::of(name);
            let message = protocol.encode(STDERR, b"hello");
            assert_eq!(protocol.decode(message), Some((STDERR, Bytes::from_static(b"hello"))), "{name}");
        }
    }

    #[test]
    fn only_exec_tells_exit_codes() {
        assert_eq!(exit_status(Ok(Ok(3)))["details"]["causes"][0]["message"], "3");
        assert_eq!(exit_status(Ok(Ok(0))), success());
        assert_eq!(end_of_attach(Ok(Ok(3))), success());
    }

    #[test]
    fn terminal_sizes_are_read() {
        let size = terminal_size(br#"{"Width":80,"Height":24}"#);
        assert_eq!(size, Some(TerminalSize { width: 80, height: 24 }));
        assert_eq!(terminal_size(b"{}"), None);
    }
}
