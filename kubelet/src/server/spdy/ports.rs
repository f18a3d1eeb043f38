//! Port forwarding: pairs of streams.
//!
//! ```text
//! client: SYN_STREAM(streamtype=error, port, requestID) + SYN_STREAM(streamtype=data, port, requestID)
//! server: SYN_REPLY to each, then DATA frames both ways; FIN closes one direction
//! ```
//! A client that has finished still gets the answer. A port that has ends both streams (as containerd does): the client may
//! be waiting for just that.
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::Runtime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::frame::{self, Frame};
use super::{PROTOCOL_ERROR, REFUSED_STREAM, WAITING, header, headers, log, taken};

const CHUNK: usize = 16 * 1024;
/// What a client sends to a port that has finished is passed on for so long (as containerd does).
const GRACE: Duration = Duration::from_millis(500);
/// More streams than this in one connection are refused.
const MAX_STREAMS: usize = 4096;

/// A stream the client opened.
struct Stream {
    kind: Kind,
    request: String,
    port: u16,
    /// Where its data goes; closed when the client has finished.
    input: Option<mpsc::Sender<Bytes>>,
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

struct Server {
    runtime: Arc<dyn Runtime>,
    sandbox: String,
    frames: mpsc::Sender<Frame>,
    streams: HashMap<u32, Stream>,
    /// Each answers the streams that it has ended.
    tasks: JoinSet<[u32; 2]>,
}

impl Server {
    async fn run(mut self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut decoder = headers::Decoder::new();
        loop {
            // Reading is not cancelled half-way: only whole frames are awaited against ended tasks.
            let frame = frame::read(&mut reader, &mut decoder).await?;
            while let Some(ended) = self.tasks.try_join_next() {
                for id in ended.into_iter().flatten() {
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
            Frame::Ping { id } if id % 2 == 1 => self.send(Frame::Ping { id }).await,
            Frame::GoAway => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client goes away")),
            Frame::Window { .. } | Frame::Ping { .. } | Frame::Reply { .. } | Frame::Other => Ok(()),
        }
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    async fn open(&mut self, id: u32, headers: &[(String, String)]) -> io::Result<()> {
        let kind = match header(headers, "streamtype") {
            Some("data") => Kind::Data,
            Some("error") => Kind::Error,
            _ => return self.send(Frame::Reset { id, status: PROTOCOL_ERROR }).await,
        };
        let port = header(headers, "port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let Some(port) = port.filter(|_| self.streams.len() < MAX_STREAMS) else {
            return self.send(Frame::Reset { id, status: REFUSED_STREAM }).await;
        };
        self.send(Frame::Reply { id }).await?;
        let request = header(headers, "requestid").map_or_else(|| format!("port-{port}"), str::to_owned);
        self.streams.insert(id, Stream { kind, request: request.clone(), port, input: None });
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
            self.send(taken(id, length)).await?;
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
    frames: mpsc::Sender<Frame>,
}

impl Forward {
    async fn run(self, mut input: mpsc::Receiver<Bytes>) -> [u32; 2] {
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
                tokio::pin!(up);
                let mut down = std::pin::pin!(self.down(&mut reader));
                tokio::select! {
                    () = &mut down => {
                        self.finish("").await;
                        let _late = tokio::time::timeout(GRACE, up).await;
                    }
                    () = &mut up => {
                        down.await;
                        self.finish("").await;
                    }
                }
            }
            Err(err) => {
                let reason = crate::failure::chain(&err);
                self.finish(&format!("error forwarding port {} to pod: {reason}", self.port)).await;
            }
        }
        [self.error, self.data]
    }

    /// Ends both streams, the one of errors with what went wrong.
    async fn finish(&self, error: &str) {
        for (id, text) in [(self.error, error), (self.data, "")] {
            let data = Bytes::copy_from_slice(text.as_bytes());
            let _client_gone = self.frames.send(Frame::Data { id, data, fin: true }).await;
        }
    }

    /// Sends what the port answers.
    async fn down(&self, reader: &mut runtime::Reader) {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length) = reader.read(&mut buffer).await {
            let data = Bytes::copy_from_slice(&buffer[..length]);
            if length == 0 || self.frames.send(Frame::Data { id: self.data, data, fin: false }).await.is_err() {
                return;
            }
        }
    }
}
