//! What clients send over SPDY, for the fuzzer.

use std::io::Cursor;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::FutureExt as _;
use runtime::fake::FakeRuntime;

use super::frame::{self, Frame};
use super::headers::{self, Decoder, Encoder};
use super::{Wanted, forward_ports, serve_session};
use crate::server::session::exit_status;

/// A connection whose client has said its last ends by then.
const END: Duration = Duration::from_secs(10);

/// Frames are read, written and read the same; and servers of both kinds end with their client.
pub(crate) fn frames(data: &[u8]) {
    read_again(data);
    static TOKIO: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime of one thread")
    });
    let connection = || tokio::io::join(Cursor::new(data.to_vec()), tokio::io::sink());
    TOKIO.block_on(async {
        let ports = forward_ports(connection(), Arc::new(FakeRuntime::new()), "sandbox".to_owned());
        tokio::time::timeout(END, ports).await.expect("port forwarding ends with its client");
        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        let start = async { Err(runtime::Error::NotFound { what: "container", id: "c".to_owned() }) };
        let session = serve_session(connection(), "v4.channel.k8s.io", wanted, start, exit_status);
        tokio::time::timeout(END, session).await.expect("a session ends with its client");
    });
}

fn read_again(data: &[u8]) {
    let (mut reader, mut decoder) = (data, Decoder::new());
    let (mut encoder, mut other) = (Encoder::new(), Decoder::new());
    while let Some(Ok(Some(frame))) = frame::read(&mut reader, &mut decoder).now_or_never() {
        let bytes = frame::encode(&frame, &mut encoder).expect("what was read can be written");
        let again = frame::read(&mut bytes.as_ref(), &mut other).now_or_never();
        let again = again.expect("all bytes are there").expect("what was written can be read").expect("a frame");
        assert!(again == frame || frame == Frame::Other, "{again:?} is not {frame:?}");
    }
}

/// A block of headers before it is compressed.
pub(crate) fn header_block(data: &[u8]) {
    let Ok(read) = headers::parse(Bytes::copy_from_slice(data)) else { return };
    let size: usize = read.iter().map(|(name, value)| name.len() + value.len()).sum();
    // Lower case letters can be longer.
    assert!(size <= data.len() * 3, "{size} bytes of {}", data.len());
}

fn open(id: u32, headers: &[(&str, &str)]) -> Frame {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Frame::Open { id, headers, fin: false }
}

fn data(id: u32, text: &'static str, fin: bool) -> Frame {
    Frame::Data { id, data: Bytes::from_static(text.as_bytes()), fin }
}

/// What clients send: a port forwarding and an exec.
pub(crate) fn conversations() -> Vec<Vec<u8>> {
    let forwarding = [
        open(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
        open(3, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
        data(3, "GET / HTTP/1.1\r\n\r\n", false),
        Frame::Window { id: 3, delta: 100 },
        Frame::Ping { id: 1 },
        data(3, "", true),
        Frame::Reset { id: 1, status: 5 },
        Frame::GoAway,
    ];
    let exec = [
        open(1, &[("streamtype", "error")]),
        open(3, &[("streamtype", "stdin")]),
        open(5, &[("streamtype", "stdout")]),
        open(7, &[("streamtype", "stderr")]),
        data(3, "ls\n", true),
        Frame::Reply { id: 2 },
    ];
    [forwarding.as_slice(), exec.as_slice()].iter().map(|frames| written(frames)).collect()
}

fn written(frames: &[Frame]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let frames = frames.iter().map(|frame| frame::encode(frame, &mut encoder).expect("frames can be written"));
    frames.collect::<Vec<_>>().concat()
}

/// Blocks of headers before they are compressed.
pub(crate) fn header_blocks() -> Vec<Vec<u8>> {
    let mut block = BytesMut::new();
    block.put_u32(2);
    for part in ["streamtype", "data", "port", "8080"] {
        block.put_u32(u32::try_from(part.len()).unwrap_or_default());
        block.put_slice(part.as_bytes());
    }
    vec![block.to_vec(), vec![0; 4]]
}
