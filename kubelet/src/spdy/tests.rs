use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use runtime::fake::FakeRuntime;
use runtime::{Runtime as _, SandboxConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::frame::{self, Frame};
use super::headers::{Decoder, Encoder};

fn open(id: u32, kind: &str) -> Frame {
    let headers = [("streamtype", kind), ("port", "80"), ("requestid", "0")];
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Frame::Open { id, headers, fin: kind == "error" }
}

#[tokio::test]
async fn a_pair_of_streams_reaches_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let runtime = FakeRuntime::new();
    runtime.forward_port(80, listener.local_addr().unwrap());
    let sandbox = runtime.run_sandbox(&SandboxConfig { uid: "u".into(), ..Default::default() }).await.unwrap();
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let server = super::forward_ports(theirs, Arc::new(runtime), sandbox.id);
    let echo = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = [0; 4];
        stream.read_exact(&mut text).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        text
    };
    let client = async {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let ping = Frame::Data { id: 3, data: Bytes::from_static(b"ping"), fin: false };
        for frame in [open(1, "error"), open(3, "data"), ping] {
            ours.write_all(&frame::encode(&frame, &mut encoder).unwrap()).await.unwrap();
        }
        let mut answer = BytesMut::new();
        while answer.len() < 4 {
            if let Some(Frame::Data { id: 3, data, .. }) = frame::read(&mut ours, &mut decoder).await.unwrap() {
                answer.extend_from_slice(&data);
            }
        }
        answer
    };
    tokio::select! {
        () = server => panic!("the server left"),
        (text, answer) = async { tokio::join!(echo, client) } => {
            assert_eq!((&text, &answer[..]), (b"ping", b"pong".as_slice()));
        }
    }
}
