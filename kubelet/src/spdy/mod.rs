//! SPDY/3.1, as far as Kubernetes port forwarding uses it: a server that accepts pairs of streams.
//!
//! ```text
//! client: SYN_STREAM(streamtype=error, port, requestID) + SYN_STREAM(streamtype=data, port, requestID)
//! server: SYN_REPLY to each, then DATA frames both ways; FIN closes one direction
//! ```
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use bytes::{Buf as _, Bytes};
use futures::{SinkExt as _, StreamExt as _};
use runtime::Runtime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

mod frame;
mod headers;

use frame::{Frame, INITIAL_WINDOW};

/// Frames that wait for a slow client; then whoever sends waits.
const WAITING: usize = 32;
const CHUNK: usize = 16 * 1024;
/// More streams than this in one connection are refused.
const MAX_STREAMS: usize = 4096;

/// Turns a WebSocket whose binary messages are pieces of a byte stream into that stream.
pub(crate) fn tunnel(socket: WebSocket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    // The task ends when either side closes.
    tokio::spawn(async move {
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
        crate::websocket::close(&mut sink, &mut stream).await;
    });
    theirs
}

/// A stream the client opened.
struct Stream {
    kind: Kind,
    request: String,
    port: u16,
    /// Where its data goes; closed when the client has finished.
    input: Option<mpsc::Sender<Bytes>>,
    /// How much may still be sent on it.
    window: Arc<Semaphore>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// Serves one connection until the client leaves or speaks nonsense.
pub(crate) async fn forward_ports<S>(stream: S, runtime: Arc<dyn Runtime>, sandbox: String)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let (frames, outbox) = mpsc::channel(WAITING);
    let server = Server { runtime, sandbox, frames, streams: HashMap::new(), tasks: JoinSet::new() };
    tokio::select! {
        outcome = server.run(Box::pin(reader)) => log(outcome),
        outcome = frame::write_all(Box::pin(writer), outbox) => log(outcome),
    }
}

fn log(outcome: io::Result<()>) {
    if let Err(err) = outcome {
        tracing::debug!(error = &err as &dyn std::error::Error, "a SPDY connection ended badly");
    }
}

struct Server {
    runtime: Arc<dyn Runtime>,
    sandbox: String,
    frames: mpsc::Sender<Frame>,
    streams: HashMap<u32, Stream>,
    tasks: JoinSet<u32>,
}

impl Server {
    async fn run(mut self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut decoder = headers::Decoder::new();
        loop {
            // Reading is not cancelled half-way: only whole frames are awaited against ended tasks.
            let frame = frame::read(&mut reader, &mut decoder).await?;
            while let Some(ended) = self.tasks.try_join_next() {
                if let Ok(id) = ended {
                    self.streams.remove(&id);
                }
            }
            match frame {
                None => return Ok(()),
                Some(frame) => self.accept(frame).await?,
            }
        }
    }

    async fn accept(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Open { id, headers, .. } => self.open(id, &headers).await,
            Frame::Data { id, data, fin } => self.data(id, data, fin).await,
            Frame::Reset { id, .. } => {
                self.streams.remove(&id);
                Ok(())
            }
            Frame::Window { id, delta } => {
                if let Some(stream) = self.streams.get(&id) {
                    let room = Semaphore::MAX_PERMITS - stream.window.available_permits();
                    stream.window.add_permits((delta as usize).min(room));
                }
                Ok(())
            }
            Frame::Ping { id } if id % 2 == 1 => self.send(Frame::Ping { id }).await,
            Frame::GoAway => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client goes away")),
            Frame::Ping { .. } | Frame::Reply { .. } | Frame::Other => Ok(()),
        }
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    async fn open(&mut self, id: u32, headers: &[(String, String)]) -> io::Result<()> {
        let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let kind = match value("streamtype") {
            Some("data") => Kind::Data,
            Some("error") => Kind::Error,
            _ => return self.send(Frame::Reset { id, status: 3 }).await,
        };
        let port = value("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let Some(port) = port.filter(|_| self.streams.len() < MAX_STREAMS) else {
            return self.send(Frame::Reset { id, status: 3 }).await;
        };
        self.send(Frame::Reply { id }).await?;
        let request = value("requestid").map_or_else(|| format!("port-{port}"), str::to_owned);
        let window = Arc::new(Semaphore::new(INITIAL_WINDOW));
        self.streams.insert(id, Stream { kind, request: request.clone(), port, input: None, window });
        self.start(&request);
        Ok(())
    }

    /// Starts forwarding once both streams of a request are open.
    fn start(&mut self, request: &str) {
        let of = |kind: Kind| {
            let found = self.streams.iter().find(|(_, stream)| stream.request == request && stream.kind == kind);
            found.map(|(id, _)| *id)
        };
        let (Some(data), Some(error)) = (of(Kind::Data), of(Kind::Error)) else { return };
        let (sender, input) = mpsc::channel(WAITING);
        let Some(stream) = self.streams.get_mut(&data) else { return };
        stream.input = Some(sender);
        let forward = Forward {
            runtime: Arc::clone(&self.runtime),
            sandbox: self.sandbox.clone(),
            port: stream.port,
            data,
            error,
            window: Arc::clone(&stream.window),
            frames: self.frames.clone(),
        };
        self.tasks.spawn(forward.run(input));
    }

    async fn data(&mut self, id: u32, data: Bytes, fin: bool) -> io::Result<()> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let length = data.len();
        if let Some(input) = &stream.input
            && length > 0
        {
            let _port_closed = input.send(data).await;
        }
        if fin {
            stream.input = None;
            if stream.kind == Kind::Error {
                return Ok(());
            }
        }
        if length > 0 {
            let delta = u32::try_from(length).unwrap_or(u32::MAX);
            self.send(Frame::Window { id, delta }).await?;
        }
        Ok(())
    }
}

struct Forward {
    runtime: Arc<dyn Runtime>,
    sandbox: String,
    port: u16,
    data: u32,
    error: u32,
    window: Arc<Semaphore>,
    frames: mpsc::Sender<Frame>,
}

impl Forward {
    async fn run(self, mut input: mpsc::Receiver<Bytes>) -> u32 {
        match self.runtime.port_forward(&self.sandbox, self.port).await {
            Ok((mut reader, mut writer)) => {
                let up = async {
                    while let Some(data) = input.recv().await {
                        if writer.write_all(&data).await.is_err() || writer.flush().await.is_err() {
                            return;
                        }
                    }
                    let _already_closed = writer.shutdown().await;
                };
                tokio::join!(up, self.down(&mut reader));
            }
            Err(err) => {
                let text = format!("error forwarding port {} to pod: {}", self.port, crate::failure::chain(&err));
                let data = Bytes::from(text);
                let _client_gone = self.frames.send(Frame::Data { id: self.error, data, fin: true }).await;
                let fin = Frame::Data { id: self.data, data: Bytes::new(), fin: true };
                let _client_gone = self.frames.send(fin).await;
                return self.data;
            }
        }
        for id in [self.error, self.data] {
            let _client_gone = self.frames.send(Frame::Data { id, data: Bytes::new(), fin: true }).await;
        }
        self.data
    }

    /// Sends what the port answers, as fast as the client's window allows.
    async fn down(&self, reader: &mut runtime::Reader) {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length) = reader.read(&mut buffer).await {
            let mut rest = Bytes::copy_from_slice(&buffer[..length]);
            if rest.is_empty() {
                return;
            }
            while !rest.is_empty() {
                let want = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(4096);
                let Ok(permit) = self.window.acquire_many(want).await else { return };
                permit.forget();
                let data = rest.split_to(want as usize);
                if self.frames.send(Frame::Data { id: self.data, data, fin: false }).await.is_err() {
                    return;
                }
            }
        }
    }
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
