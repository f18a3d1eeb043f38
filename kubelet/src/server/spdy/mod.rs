//! SPDY/3.1, as far as Kubernetes uses it: a server of port forwarding ([`forward_ports`]) and of `exec` and `attach`
//! ([`serve_session`]).
//!
//! Data is sent without regard to the peer's flow-control windows, as the library of kubectl and kubelets does: it never
//! widens a window, so that whoever waited for that would wait for ever. What bounds a sender is the connection itself.
use std::io;

use axum::extract::ws::{Message, WebSocket};
use bytes::{Buf as _, Bytes};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

mod frame;
pub(crate) mod fuzzing;
mod headers;
mod ports;
mod session;

pub(crate) use ports::forward_ports;
pub(crate) use session::{PROTOCOLS, Wanted, serve_session};

/// Frames that wait for a slow client; then whoever sends waits.
const WAITING: usize = 32;
/// Status of a reset: the peer broke the protocol.
const PROTOCOL_ERROR: u32 = 1;
/// Status of a reset: the stream was not looked at.
const REFUSED_STREAM: u32 = 3;

/// Turns a WebSocket whose binary messages are pieces of a byte stream into that stream, and the work of copying between
/// them, which ends when either side closes.
pub(crate) fn tunnel(socket: WebSocket) -> (DuplexStream, impl Future<Output = ()>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (theirs, copy(socket, ours))
}

async fn copy(socket: WebSocket, ours: DuplexStream) {
    let (mut sink, mut stream) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(ours);
    let up = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) => writer.write_all(&data).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        writer.shutdown().await
    };
    let down = async {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let length = reader.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let data = Bytes::copy_from_slice(&buffer[..length]);
            sink.send(Message::Binary(data)).await.map_err(io::Error::other)?;
        }
    };
    let _broken: io::Result<()> = tokio::select! {
        ended = up => ended,
        ended = down => ended,
    };
    crate::server::websocket::close(&mut sink, &mut stream).await;
}

fn log(outcome: io::Result<()>) {
    if let Err(err) = outcome {
        tracing::debug!(error = &err as &dyn std::error::Error, "a SPDY connection ended badly");
    }
}

/// The value of a stream's header.
fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Gives a peer that keeps to flow control room for as much as has been taken.
fn taken(id: u32, length: usize) -> frame::Frame {
    frame::Frame::Window { id, delta: u32::try_from(length).unwrap_or(u32::MAX) & 0x7fff_ffff }
}

/// Reads a big-endian number from the front of `bytes`, if it is there.
fn number(bytes: &mut Bytes) -> io::Result<u32> {
    if bytes.remaining() < 4 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a SPDY frame is too short"));
    }
    Ok(bytes.get_u32())
}

#[cfg(test)]
mod tests;
