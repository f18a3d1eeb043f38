//! How WebSocket connections of the server end.
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};

/// How long the client may take to answer the farewell.
const FAREWELL: Duration = Duration::from_secs(5);

/// Closes with code 1000, which clients require of a good end, and waits for the client's answer: a connection that is
/// dropped while the client still sends is reset, and what was sent last may be lost.
pub(crate) async fn close(sink: &mut SplitSink<WebSocket, Message>, stream: &mut SplitStream<WebSocket>) {
    let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    // The client may be gone by now: then there is nobody to tell.
    if sink.send(Message::Close(Some(frame))).await.is_err() {
        return;
    }
    let answer = async {
        while let Some(Ok(message)) = stream.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    };
    let _too_slow = tokio::time::timeout(FAREWELL, answer).await;
}
