//! `exec` and `attach`: one stream for each of the process's streams.
//!
//! ```text
//! client: SYN_STREAM(streamtype=error), and as wanted stdin, stdout, stderr, resize
//! server: SYN_REPLY to each; once all are open the process starts; DATA both ways
//!         at its end FIN on stdout and stderr, and how it ended on the error stream
//! ```
use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::Session;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Frame};
use super::{PROTOCOL_ERROR, REFUSED_STREAM, WAITING, header, headers, log, taken};
use crate::server::session::{self, Exit, Input, STDERR, STDOUT};

/// The versions of the protocol above SPDY, the best first: since the third terminals have sizes, since the fourth the
/// error stream carries a `Status` instead of text.
pub(crate) const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// A client that has not opened its streams by then is given up.
const OPEN: Duration = Duration::from_secs(30);
/// How long a client may take to leave after the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// A terminal's size is shorter than this.
const MAX_SIZE: usize = 4096;

/// The streams that a client will open beside the one for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "error" => Self::Error,
            "stdin" => Self::Stdin,
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "resize" => Self::Resize,
            _ => return None,
        })
    }
}

impl Wanted {
    fn kinds(self, protocol: &str) -> Vec<Kind> {
        let resizes = self.tty && (protocol.starts_with("v3") || protocol.starts_with("v4"));
        // A terminal has one output only.
        let all = [
            (Kind::Error, true),
            (Kind::Stdin, self.stdin),
            (Kind::Stdout, self.stdout),
            (Kind::Stderr, self.stderr && !self.tty),
            (Kind::Resize, resizes),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| kind).collect()
    }
}

/// Serves one connection: starts the session once the client has opened its streams.
pub(crate) async fn serve_session<S>(
    stream: S,
    protocol: &str,
    wanted: Wanted,
    start: impl Future<Output = Result<Session, runtime::Error>>,
    describe: fn(Exit) -> Value,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let (frames, outbox) = mpsc::channel(WAITING);
    let (inputs, input) = mpsc::channel(session::WAITING);
    let (complete, opened) = oneshot::channel();
    let client = Client {
        wanted: wanted.kinds(protocol),
        kinds: HashMap::new(),
        sizes: BytesMut::new(),
        complete: Some(complete),
        inputs,
        frames: frames.clone(),
    };
    let process = async {
        let Ok(Ok(streams)) = tokio::time::timeout(OPEN, opened).await else { return };
        let process = Process { streams, frames, has_status: protocol.starts_with("v4") };
        process.run(start.await, input, describe).await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        outcome = client.run(Box::pin(reader)) => log(outcome),
        outcome = frame::write_all(Box::pin(writer), outbox) => log(outcome),
        () = process => {}
    }
}

/// What the client sends.
struct Client {
    wanted: Vec<Kind>,
    kinds: HashMap<u32, Kind>,
    /// The beginning of a terminal's size.
    sizes: BytesMut,
    /// Told once all streams are open.
    complete: Option<oneshot::Sender<HashMap<Kind, u32>>>,
    inputs: mpsc::Sender<Input>,
    frames: mpsc::Sender<Frame>,
}

impl Client {
    /// Returns when the client has left.
    async fn run(mut self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut decoder = headers::Decoder::new();
        while let Some(frame) = frame::read(&mut reader, &mut decoder).await? {
            match frame {
                Frame::Open { id, headers, fin } => self.open(id, &headers, fin).await?,
                Frame::Data { id, data, fin } => self.data(id, data, fin).await?,
                Frame::Reset { id, .. } => self.end(id).await,
                Frame::Ping { id } if id % 2 == 1 => self.send(Frame::Ping { id }).await?,
                Frame::GoAway => return Ok(()),
                Frame::Window { .. } | Frame::Ping { .. } | Frame::Reply { .. } | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    async fn open(&mut self, id: u32, headers: &[(String, String)], fin: bool) -> io::Result<()> {
        let Some(kind) = header(headers, "streamtype").and_then(Kind::of) else {
            return self.send(Frame::Reset { id, status: PROTOCOL_ERROR }).await;
        };
        let known = self.kinds.contains_key(&id) || self.kinds.values().any(|known| *known == kind);
        if known || !self.wanted.contains(&kind) {
            return self.send(Frame::Reset { id, status: REFUSED_STREAM }).await;
        }
        self.kinds.insert(id, kind);
        self.send(Frame::Reply { id }).await?;
        if self.kinds.len() == self.wanted.len()
            && let Some(complete) = self.complete.take()
        {
            let _given_up = complete.send(self.kinds.iter().map(|(id, kind)| (*kind, *id)).collect());
        }
        if fin {
            self.end(id).await;
        }
        Ok(())
    }

    async fn data(&mut self, id: u32, data: Bytes, fin: bool) -> io::Result<()> {
        let length = data.len();
        match self.kinds.get(&id) {
            Some(Kind::Stdin) if length > 0 => self.tell(Input::Stdin(data)).await,
            Some(Kind::Resize) => self.resize(&data).await,
            _ => {}
        }
        if fin {
            self.end(id).await;
        } else if length > 0 {
            self.send(taken(id, length)).await?;
        }
        Ok(())
    }

    /// The client has said its last on a stream.
    async fn end(&mut self, id: u32) {
        if self.kinds.get(&id) == Some(&Kind::Stdin) {
            self.tell(Input::EndOfStdin).await;
        }
    }

    /// Sizes are JSON objects one after another, however they are cut into frames.
    async fn resize(&mut self, data: &[u8]) {
        self.sizes.extend_from_slice(data);
        let mut values = serde_json::Deserializer::from_slice(&self.sizes).into_iter::<Value>();
        let sizes: Vec<_> = values.by_ref().map_while(Result::ok).collect();
        let read = values.byte_offset();
        let _read = self.sizes.split_to(read.min(self.sizes.len()));
        if self.sizes.len() > MAX_SIZE {
            self.sizes.clear();
        }
        for size in sizes.iter().filter_map(session::terminal_size) {
            self.tell(Input::Resize(size)).await;
        }
    }

    async fn tell(&self, input: Input) {
        // The process may have ended meanwhile.
        let _process_gone = self.inputs.send(input).await;
    }
}

/// What the process sends.
struct Process {
    streams: HashMap<Kind, u32>,
    frames: mpsc::Sender<Frame>,
    has_status: bool,
}

impl Process {
    async fn run(
        self,
        session: Result<Session, runtime::Error>,
        input: mpsc::Receiver<Input>,
        describe: fn(Exit) -> Value,
    ) {
        let status = match session {
            Ok(session) => {
                let (output, outputs) = mpsc::channel(session::WAITING);
                let run = session::run(session, input, output, describe);
                tokio::join!(run, self.forward(outputs)).0
            }
            Err(err) => session::internal(&err),
        };
        for kind in [Kind::Stdout, Kind::Stderr] {
            self.send(kind, Bytes::new(), true).await;
        }
        let failed = status["status"] != "Success";
        let words = match self.has_status {
            true => status.to_string(),
            false if failed => status["message"].as_str().unwrap_or_default().to_owned(),
            false => String::new(),
        };
        self.send(Kind::Error, words.into(), true).await;
    }

    async fn forward(&self, mut outputs: mpsc::Receiver<(u8, Bytes)>) {
        while let Some((stream, data)) = outputs.recv().await {
            match stream {
                STDOUT => self.send(Kind::Stdout, data, false).await,
                STDERR => self.send(Kind::Stderr, data, false).await,
                _ => {}
            }
        }
    }

    /// Sends on a stream that the client opened; what it did not want is dropped.
    async fn send(&self, kind: Kind, data: Bytes, fin: bool) {
        if let Some(id) = self.streams.get(&kind) {
            let _client_gone = self.frames.send(Frame::Data { id: *id, data, fin }).await;
        }
    }
}
