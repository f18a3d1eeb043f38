//! `exec` and `attach`; and their WebSocket form, numbered channels in one connection (upstream:
//! streaming/remotecommand of k8s.io/kubelet/pkg/cri).
//!
//! ```text
//! first byte of a message: 0 stdin | 1 stdout | 2 stderr | 3 error (a Status) | 4 resize | 255 close (v5 only)
//! ```
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use runtime::{ExecRequest, Session};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Shared;
use super::handlers::{Refusal, is_set, query};
use super::session::{self, Exit, Input, STDIN};
use super::streams::Streams;
use super::upgrade::Upgrade;
use crate::server::spdy::{self, Wanted};

const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

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
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let query = query(raw);
    let container = shared.container(&path)?;
    let wanted = wanted(&query);
    let exec = ExecRequest {
        command: query.get("command").cloned().unwrap_or_default(),
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        tty: wanted.tty,
    };
    if exec.command.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "command is required".to_owned()));
    }
    if !(exec.stdin || exec.stdout || exec.stderr) {
        let text = "you must specify at least 1 of stdin, stdout, stderr".to_owned();
        return Err(Refusal(StatusCode::BAD_REQUEST, text));
    }
    let runtime = Arc::clone(&shared.context.runtime);
    let start = async move { runtime.exec(&container.id, &exec).await };
    Ok(stream(Upgrade::of(upgrade, request)?, &shared.streams, wanted, start, session::exit_status))
}

/// `/attach/...`.
pub(super) async fn attach(
    State(shared): State<Shared>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(raw): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let wanted = wanted(&query(raw));
    let container = shared.container(&path)?;
    let upgrade = Upgrade::of(upgrade, request)?;
    let runtime = Arc::clone(&shared.context.runtime);
    let start = async move {
        runtime.attach(&container.id).await.map(|session| Session {
            stdin: session.stdin.filter(|_| wanted.stdin),
            stdout: session.stdout.filter(|_| wanted.stdout),
            stderr: session.stderr.filter(|_| wanted.stderr),
            ..session
        })
    };
    Ok(stream(upgrade, &shared.streams, wanted, start, session::end_of_attach))
}

/// The streams a query asks for, by their old or new names.
fn wanted(query: &HashMap<String, Vec<String>>) -> Wanted {
    let wants = |old: &str, new: &str| is_set(query, old) || is_set(query, new);
    Wanted {
        stdin: wants("input", "stdin"),
        stdout: wants("output", "stdout"),
        stderr: wants("error", "stderr"),
        tty: is_set(query, "tty"),
    }
}

/// Starts a session for a client in the protocol that it speaks.
fn stream(
    upgrade: Upgrade,
    streams: &Streams,
    wanted: Wanted,
    start: impl Future<Output = Result<Session, runtime::Error>> + Send + 'static,
    describe: fn(Exit) -> Value,
) -> Response {
    match upgrade {
        Upgrade::WebSocket(upgrade) => {
            let streams = streams.clone();
            upgrade.protocols(PROTOCOLS).on_upgrade(move |socket| async move {
                streams.serve(async move { serve(socket, start.await, describe).await }).await;
            })
        }
        Upgrade::Spdy(upgrade) => upgrade.accept(streams, &spdy::PROTOCOLS, move |stream, protocol| {
            spdy::serve_session(stream, protocol, wanted, start, describe)
        }),
    }
}

async fn serve(socket: WebSocket, session: Result<Session, runtime::Error>, describe: fn(Exit) -> Value) {
    let protocol = Protocol::of(socket.protocol().and_then(|name| name.to_str().ok()).unwrap_or_default());
    let (mut sink, mut stream) = socket.split();
    let status = match session {
        Ok(session) => copy(protocol, &mut sink, &mut stream, session, describe).await,
        Err(err) => Some(session::internal(&err)),
    };
    let Some(status) = status else { return };
    let body =
        if protocol.status { status.to_string() } else { status["message"].as_str().unwrap_or_default().to_owned() };
    // The client may be gone by now: then there is nobody to tell.
    if !body.is_empty() || protocol.status {
        let _ = sink.send(protocol.encode(ERROR, body.as_bytes())).await;
    }
    crate::server::websocket::close(&mut sink, &mut stream).await;
}

/// Moves bytes both ways until the process ends; returns its end as a `Status`, or nothing if the client left.
async fn copy(
    protocol: Protocol,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    session: Session,
    describe: fn(Exit) -> Value,
) -> Option<Value> {
    let (inputs, input) = mpsc::channel(session::WAITING);
    let (output, mut outputs) = mpsc::channel::<(u8, Bytes)>(session::WAITING);
    let send = async move {
        while let Some((channel, data)) = outputs.recv().await {
            if sink.send(protocol.encode(channel, &data)).await.is_err() {
                return false;
            }
        }
        true
    };
    let process = async {
        let (status, sent) = tokio::join!(session::run(session, input, output, describe), send);
        sent.then_some(status)
    };
    tokio::select! {
        status = process => status,
        () = receive(protocol, stream, inputs) => None,
    }
}

/// Passes on what the client sends; returns when it has left.
async fn receive(protocol: Protocol, stream: &mut SplitStream<WebSocket>, inputs: mpsc::Sender<Input>) {
    while let Some(Ok(message)) = stream.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
        let Some((channel, data)) = protocol.decode(message) else { continue };
        let input = match channel {
            STDIN => Some(Input::Stdin(data)),
            RESIZE => {
                let size = serde_json::from_slice(&data).ok();
                size.and_then(|size| session::terminal_size(&size)).map(Input::Resize)
            }
            CLOSE if protocol.closes && data.first() == Some(&STDIN) => Some(Input::EndOfStdin),
            _ => None,
        };
        if let Some(input) = input {
            let _process_gone = inputs.send(input).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_channel_in_every_protocol() {
        for name in PROTOCOLS {
            let protocol = Protocol::of(name);
            let message = protocol.encode(session::STDERR, b"hello");
            assert_eq!(protocol.decode(message), Some((session::STDERR, Bytes::from_static(b"hello"))), "{name}");
        }
    }
}
