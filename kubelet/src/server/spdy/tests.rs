use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use runtime::fake::FakeRuntime;
use runtime::{Runtime as _, SandboxConfig, Session, TerminalSize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Frame};
use super::headers::{Decoder, Encoder};
use super::{REFUSED_STREAM, Wanted};
use crate::server::session::exit_status;

/// The client's end of a connection.
struct Peer {
    stream: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Peer {
    fn pair() -> (Self, DuplexStream) {
        let (stream, theirs) = tokio::io::duplex(1 << 16);
        (Self { stream, encoder: Encoder::new(), decoder: Decoder::new() }, theirs)
    }

    async fn send(&mut self, frame: Frame) {
        self.stream.write_all(&frame::encode(&frame, &mut self.encoder).unwrap()).await.unwrap();
    }

    async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.send(Frame::Open { id, headers, fin: false }).await;
    }

    async fn write(&mut self, id: u32, data: &'static [u8], fin: bool) {
        self.send(Frame::Data { id, data: Bytes::from_static(data), fin }).await;
    }

    async fn next(&mut self) -> Option<Frame> {
        frame::read(&mut self.stream, &mut self.decoder).await.unwrap()
    }

    /// What arrives on each stream until the streams `ends` have all ended.
    async fn read(&mut self, ends: &[u32]) -> BTreeMap<u32, Vec<u8>> {
        let mut got: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut open = ends.to_vec();
        while !open.is_empty() {
            if let Frame::Data { id, data, fin } = self.next().await.expect("the server stays") {
                got.entry(id).or_default().extend_from_slice(&data);
                open.retain(|known| !(fin && *known == id));
            }
        }
        got
    }
}

/// A port of a pod, forwarded to whoever accepts from the listener.
async fn forwarded() -> (TcpListener, Peer, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let runtime = FakeRuntime::new();
    runtime.forward_port(80, listener.local_addr().unwrap());
    let sandbox = runtime.run_sandbox(&SandboxConfig { uid: "u".into(), ..Default::default() }).await.unwrap();
    let (mut peer, theirs) = Peer::pair();
    for (id, kind) in [(1, "error"), (3, "data")] {
        peer.open(id, &[("streamtype", kind), ("port", "80"), ("requestid", "0")]).await;
    }
    (listener, peer, super::forward_ports(theirs, Arc::new(runtime), sandbox.id))
}

#[tokio::test]
async fn a_pair_of_streams_reaches_the_port() {
    let (listener, mut peer, server) = forwarded().await;
    let echo = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = [0; 4];
        stream.read_exact(&mut text).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        text
    };
    let client = async {
        peer.write(3, b"ping", true).await;
        peer.read(&[3]).await
    };
    tokio::select! {
        () = server => panic!("the server left"),
        (text, answers) = async { tokio::join!(echo, client) } => {
            assert_eq!((&text, answers[&3].as_slice()), (b"ping", b"pong".as_slice()));
        }
    }
}

#[tokio::test]
async fn a_port_that_has_finished_ends_the_streams_of_a_client_that_has_not() {
    let (listener, mut peer, server) = forwarded().await;
    let port = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"bye").await.unwrap();
    };
    let ended = async { tokio::join!(port, peer.read(&[1, 3])).1 };
    tokio::select! {
        () = server => panic!("the server left"),
        answers = tokio::time::timeout(Duration::from_secs(10), ended) => {
            assert_eq!(answers.expect("the streams end")[&3], b"bye");
        }
    }
}

#[tokio::test]
async fn connections_that_have_ended_leave_room_for_more() {
    let (_listener, mut peer, server) = forwarded().await;
    let many = async {
        for request in 1..5000 {
            let (error, data, name) = (4 * request + 1, 4 * request + 3, request.to_string());
            for (id, kind) in [(error, "error"), (data, "data")] {
                // Nobody listens on this port.
                peer.open(id, &[("streamtype", kind), ("port", "81"), ("requestid", &name)]).await;
            }
            let answers = peer.read(&[error, data]).await;
            assert!(answers[&error].starts_with(b"error forwarding port 81"), "{request}");
        }
    };
    tokio::select! {
        () = server => panic!("the server left"),
        ended = tokio::time::timeout(Duration::from_secs(60), many) => ended.expect("each is answered"),
    }
}

#[tokio::test]
async fn a_client_that_never_widens_its_window_gets_everything() {
    const LENGTH: usize = 1 << 20;
    let (listener, mut peer, server) = forwarded().await;
    let port = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&vec![7; LENGTH]).await.unwrap();
    };
    let client = async {
        peer.write(3, b"", true).await;
        peer.read(&[3]).await[&3].len()
    };
    tokio::select! {
        () = server => panic!("the server left"),
        ((), length) = async { tokio::join!(port, client) } => assert_eq!(length, LENGTH),
    }
}

/// A process in the hands of the test.
struct Process {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
    sizes: mpsc::Receiver<TerminalSize>,
    exit: oneshot::Sender<Result<i32, runtime::Error>>,
}

fn process() -> (Process, Session) {
    let pipe = || tokio::io::duplex(1024);
    let ((stdin, stdin_end), (stdout, stdout_end), (stderr, stderr_end)) = (pipe(), pipe(), pipe());
    let (resize, sizes) = mpsc::channel(4);
    let (exit, exited) = oneshot::channel();
    let session = Session {
        stdin: Some(Box::new(stdin_end)),
        stdout: Some(Box::new(stdout_end)),
        stderr: Some(Box::new(stderr_end)),
        resize,
        exit: exited,
    };
    (Process { stdin, stdout, stderr, sizes, exit }, session)
}

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

/// Runs a command that repeats its input and fails with code 3, and returns what its client reads.
async fn run_command(protocol: &str) -> BTreeMap<u32, Vec<u8>> {
    let (mut peer, theirs) = Peer::pair();
    let (process, session) = process();
    let server = super::serve_session(theirs, protocol, ALL, async { Ok(session) }, exit_status);
    let client = async {
        for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
            peer.open(id, &[("streamtype", kind)]).await;
            assert_eq!(peer.next().await, Some(Frame::Reply { id }));
        }
        peer.write(3, b"in", false).await;
        peer.write(3, b"put", true).await;
        let got = peer.read(&[1, 5, 7]).await;
        peer.send(Frame::GoAway).await;
        got
    };
    let command = async {
        let Process { mut stdin, mut stdout, mut stderr, exit, .. } = process;
        let mut input = Vec::new();
        stdin.read_to_end(&mut input).await.unwrap();
        stdout.write_all(&input).await.unwrap();
        stderr.write_all(b"oops").await.unwrap();
        exit.send(Ok(3)).unwrap();
    };
    tokio::join!(server, client, command).1
}

#[tokio::test]
async fn a_command_gets_its_input_and_answers_on_its_own_streams() {
    let got = run_command("v4.channel.k8s.io").await;
    assert_eq!((got[&5].as_slice(), got[&7].as_slice()), (b"input".as_slice(), b"oops".as_slice()));
    let status: Value = serde_json::from_slice(&got[&1]).unwrap();
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    let got = run_command("v2.channel.k8s.io").await;
    assert_eq!(got[&1], b"command terminated with non-zero exit code: exit status 3");
}

#[tokio::test]
async fn a_terminal_is_resized_and_a_stream_that_was_not_wanted_refused() {
    let (mut peer, theirs) = Peer::pair();
    let (process, session) = process();
    let wanted = Wanted { stdin: false, stderr: false, tty: true, ..ALL };
    let server = super::serve_session(theirs, "v3.channel.k8s.io", wanted, async { Ok(session) }, exit_status);
    let client = async {
        for (id, kind) in [(1, "error"), (3, "stdout"), (5, "resize")] {
            peer.open(id, &[("streamtype", kind)]).await;
            assert_eq!(peer.next().await, Some(Frame::Reply { id }));
        }
        for (id, kind) in [(7, "stderr"), (9, "stdout")] {
            peer.open(id, &[("streamtype", kind)]).await;
            assert_eq!(peer.next().await, Some(Frame::Reset { id, status: REFUSED_STREAM }));
        }
        peer.write(5, b"{\"Width\":80,\"Height\":24}\n{\"Width\":", false).await;
        peer.write(5, b"100,\"Height\":30}\n", false).await;
        peer.read(&[1, 3]).await
    };
    let command = async {
        let Process { stdout, stderr, mut sizes, exit, .. } = process;
        for (width, height) in [(80, 24), (100, 30)] {
            assert_eq!(sizes.recv().await, Some(TerminalSize { width, height }));
        }
        drop((stdout, stderr));
        exit.send(Ok(0)).unwrap();
    };
    tokio::select! {
        () = server => panic!("the server left before its client"),
        (got, ()) = async { tokio::join!(client, command) } => assert!(got[&1].is_empty(), "success has no words"),
    }
}

#[tokio::test]
async fn a_process_ends_with_its_client() {
    let (mut peer, theirs) = Peer::pair();
    let (mut process, session) = process();
    let server = super::serve_session(theirs, "v4.channel.k8s.io", ALL, async { Ok(session) }, exit_status);
    let client = async {
        for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
            peer.open(id, &[("streamtype", kind)]).await;
            assert_eq!(peer.next().await, Some(Frame::Reply { id }));
        }
        drop(peer);
    };
    tokio::join!(server, client);
    assert_eq!(process.stdin.read(&mut [0]).await.unwrap(), 0);
    assert!(process.exit.is_closed());
}

/// Reads frames until the bytes are used up or make no sense.
async fn read_all(mut bytes: &[u8]) -> io::Result<usize> {
    let mut decoder = Decoder::new();
    let mut frames = 0;
    while frame::read(&mut bytes, &mut decoder).await?.is_some() {
        frames += 1;
    }
    Ok(frames)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _read_or_refused = block_on(read_all(&bytes));
    }

    #[test]
    fn arbitrary_payloads_of_control_frames_are_read_or_refused(
        kind in 0_u8..12, flags in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![0x80, 3, 0, kind, flags, 0, length[0], length[1]];
        bytes.extend(payload);
        let _read_or_refused = block_on(read_all(&bytes));
    }

    #[test]
    fn frames_are_read_as_they_were_written(
        names in proptest::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}"), 0..8),
        data in proptest::collection::vec(any::<u8>(), 0..200), id in 1_u32..0x7fff_ffff, fin in any::<bool>(),
    ) {
        let frames = [
            Frame::Open { id, headers: names.clone(), fin },
            Frame::Data { id, data: data.into(), fin },
            Frame::Open { id, headers: names, fin },
            Frame::Reset { id, status: 2 },
        ];
        let mut encoder = Encoder::new();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame::encode(frame, &mut encoder).unwrap()).collect();
        let read = block_on(async {
            let (mut rest, mut decoder, mut read) = (bytes.as_slice(), Decoder::new(), Vec::new());
            while let Some(frame) = frame::read(&mut rest, &mut decoder).await.unwrap() {
                read.push(frame);
            }
            read
        });
        prop_assert_eq!(read, frames);
    }
}

#[tokio::test]
async fn a_block_that_grows_without_end_is_refused() {
    let headers = vec![("x".repeat(10), "y".repeat(10 << 20))];
    let block = Frame::Open { id: 1, headers, fin: false };
    let bytes = frame::encode(&block, &mut Encoder::new()).unwrap();
    assert!(bytes.len() < 1 << 16, "{}", bytes.len());
    assert!(read_all(&bytes).await.is_err());
    let long = [0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
    assert!(read_all(&long).await.is_err());
}
