//! Answers in the messages of a WebSocket, as browsers ask for logs and watches (upstream's `wsstream.Reader` and
//! `WatchServer.HandleWS`). Messages only go to the client; what it sends is read and dropped.

use std::time::Duration;

use api::ApiError;
use axum::Error as AxumError;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, Stream, StreamExt as _};
use http::{Request, StatusCode};

use super::Call;
use crate::authn::protocols;
use crate::response::{self, Answer};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
/// A client that takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the client may take to answer the farewell.
const FAREWELL: Duration = Duration::from_secs(5);
/// Clients have nothing to say: more than this in one message ends the connection.
const MAX_MESSAGE: usize = 64 * 1024;
/// The length before each message of a binary watch.
const LENGTH: usize = 4;

/// How pieces of an answer become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A text message for each line.
    Lines,
    /// A binary message for each piece with its length before it.
    Lengths,
    /// A message for each piece as it comes, in the form that the client's protocol asks for.
    Pieces,
}

/// Switches to a WebSocket, and sends what `pieces` gives until it ends or the client goes.
pub(crate) async fn answer<E: Send + 'static>(
    call: &Call<'_>,
    form: Form,
    pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Result<Answer, ApiError> {
    let Some(protocol) = choose(&protocols::offered(call.headers()), form) else {
        return Ok(response::nothing(StatusCode::FORBIDDEN));
    };
    let mut request = Request::new(());
    *request.headers_mut() = call.headers().clone();
    if let Some(upgrade) = call.upgrade() {
        request.extensions_mut().insert(upgrade);
    }
    let (mut parts, ()) = request.into_parts();
    let refused = |err: &dyn std::fmt::Display| ApiError::bad_request(err.to_string());
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|err| refused(&err))?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    let (tasks, shutdown) = (call.core.connections.clone(), call.core.shutdown.clone());
    let is_text = protocol.as_deref() == Some(BASE64);
    let upgrade = upgrade.protocols(protocol);
    let served = move |socket| {
        let sending = async move { shutdown.run_until_cancelled(send(socket, form, is_text, pieces)).await };
        tasks.track_future(async move {
            let _cut = sending.await;
        })
    };
    Ok(upgrade.on_upgrade(served).into_response())
}

/// The protocol that is spoken: `None` if it can be none of those offered, `Some(None)` if none was.
fn choose(offered: &[String], form: Form) -> Option<Option<String>> {
    match offered {
        [] => Some(None),
        // A watch is the same in any protocol, and says what it was offered.
        [only] if form != Form::Pieces => Some(Some(only.clone())),
        _ if form != Form::Pieces => None,
        several => several.iter().find(|name| matches!(name.as_str(), "" | BINARY | BASE64)).cloned().map(Some),
    }
}

async fn send<E>(socket: WebSocket, form: Form, is_text: bool, pieces: impl Stream<Item = Result<Bytes, E>>) {
    let (mut sink, mut stream) = socket.split();
    let copy = copy(&mut sink, form, is_text, pieces);
    let is_there = tokio::select! {
        sent = copy => sent.is_some(),
        () = gone(&mut stream) => false,
    };
    if is_there {
        close(&mut sink, &mut stream).await;
    }
}

/// `None` when the client is gone.
async fn copy<E>(
    sink: &mut SplitSink<WebSocket, Message>,
    form: Form,
    is_text: bool,
    pieces: impl Stream<Item = Result<Bytes, E>>,
) -> Option<()> {
    let mut pieces = std::pin::pin!(pieces);
    if form == Form::Pieces {
        // Tells the client that it is connected, before there is anything to read.
        pass(sink, message(Bytes::new(), is_text)).await.ok()?;
    }
    while let Some(Ok(piece)) = pieces.next().await {
        for message in messages(piece, form, is_text) {
            pass(sink, message).await.ok()?;
        }
    }
    Some(())
}

async fn pass(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Result<(), AxumError> {
    tokio::time::timeout(PATIENCE, sink.send(message)).await.map_err(AxumError::new)?
}

fn messages(mut piece: Bytes, form: Form, is_text: bool) -> Vec<Message> {
    let mut all = Vec::new();
    match form {
        Form::Pieces => all.push(message(piece, is_text)),
        Form::Lines => {
            let lines = piece.split_inclusive(|byte| *byte == b'\n');
            all.extend(lines.map(|line| Message::Text(String::from_utf8_lossy(line).into_owned().into())));
        }
        Form::Lengths => {
            while piece.len() >= LENGTH {
                let length = piece.get_u32() as usize;
                all.push(Message::Binary(piece.split_to(length.min(piece.len()))));
            }
        }
    }
    all
}

fn message(piece: Bytes, is_text: bool) -> Message {
    if is_text { Message::Text(STANDARD.encode(&piece).into()) } else { Message::Binary(piece) }
}

/// Reads what a client says that should say nothing, until it is gone.
async fn gone(stream: &mut SplitStream<WebSocket>) {
    while let Some(Ok(message)) = stream.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

/// Closes with code 1000, which clients require of a good end, and waits for the client's answer: a connection that is
/// dropped while the client still sends is reset, and what was sent last may be lost.
async fn close(sink: &mut SplitSink<WebSocket, Message>, stream: &mut SplitStream<WebSocket>) {
    let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    if pass(sink, Message::Close(Some(frame))).await.is_ok() {
        let _too_slow = tokio::time::timeout(FAREWELL, gone(stream)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_chosen_among_those_that_are_known() {
        let chosen = |offered: &[&str], form| {
            let offered: Vec<String> = offered.iter().map(|name| (*name).to_owned()).collect();
            choose(&offered, form)
        };
        assert_eq!(chosen(&[], Form::Pieces), Some(None));
        assert_eq!(chosen(&["x", BASE64, BINARY], Form::Pieces), Some(Some(BASE64.to_owned())));
        assert_eq!(chosen(&["v4.channel.k8s.io"], Form::Pieces), None);
        assert_eq!(chosen(&["any"], Form::Lines), Some(Some("any".to_owned())));
        assert_eq!(chosen(&["any", "other"], Form::Lines), None);
    }

    #[test]
    fn events_that_came_in_one_piece_are_messages_of_their_own() {
        let texts = messages(Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n"), Form::Lines, false);
        assert_eq!(texts, [Message::Text("{\"a\":1}\n".into()), Message::Text("{\"b\":2}\n".into())]);
        let framed = Bytes::from_static(b"\0\0\0\x01a\0\0\0\x02bc\0\0\0\xffd");
        let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
        assert_eq!(messages(framed, Form::Lengths, false), [binary(b"a"), binary(b"bc"), binary(b"d")]);
        assert_eq!(messages(Bytes::from_static(b"log"), Form::Pieces, true), [Message::Text("bG9n".into())]);
    }
}
